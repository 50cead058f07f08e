"""Games that have announced themselves to GameMode, also in Wayland sessions."""

from typing import ClassVar

from nexusnode.sensors.bus import PROPERTIES, Bus
from nexusnode.sensors.sensor import CannotTell, Kind, Reading

_NAME = "com.feralinteractive.GameMode"
_BUS = "org.freedesktop.DBus"


class GameMode:
    name: ClassVar[str] = "GameMode"
    kind: ClassVar[Kind] = Kind.GAME
    period_seconds: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self._bus = Bus("SESSION")

    async def read(self) -> Reading:
        # Asked for itself it would be started: only if a game has done so is it of interest.
        path = "/org/freedesktop/DBus"
        (is_there,) = await self._bus.call(_BUS, path, _BUS, "NameHasOwner", "s", _NAME)
        if not is_there:
            raise CannotTell("GameMode does not run.")
        path = "/com/feralinteractive/GameMode"
        body = await self._bus.call(_NAME, path, PROPERTIES, "Get", "ss", _NAME, "ClientCount")
        count = body[0][1]
        return Reading(f"{count} games run.", fullscreen=count > 0)

    async def close(self) -> None:
        await self._bus.close()
