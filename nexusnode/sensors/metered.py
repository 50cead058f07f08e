"""Whether the connection counts data, by NetworkManager."""

from typing import ClassVar

from nexusnode.sensors.bus import Bus
from nexusnode.sensors.sensor import CannotTell, Kind, Reading

_NAME = "org.freedesktop.NetworkManager"
_YES, _GUESSED_YES = 1, 3  # NMMetered; 2 and 4 are no, 0 is unknown


class Metered:
    name: ClassVar[str] = "NetworkManager"
    kind: ClassVar[Kind] = Kind.NETWORK
    period_seconds: ClassVar[float] = 5.0

    def __init__(self) -> None:
        self._bus = Bus("SYSTEM")

    async def read(self) -> Reading:
        found = await self._bus.properties(_NAME, "/org/freedesktop/NetworkManager", _NAME)
        metered = found.get("Metered", 0)
        if not metered:
            raise CannotTell("NetworkManager does not know whether the connection is metered.")
        is_metered = metered in (_YES, _GUESSED_YES)
        finding = "The connection counts data." if is_metered else "The connection is unmetered."
        return Reading(finding, metered=is_metered)

    async def close(self) -> None:
        await self._bus.close()
