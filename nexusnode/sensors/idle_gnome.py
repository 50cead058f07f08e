"""Idle time by GNOME's window manager, also in its Wayland sessions."""

from typing import ClassVar

from nexusnode.sensors.bus import Bus
from nexusnode.sensors.sensor import Kind, Reading

_NAME = "org.gnome.Mutter.IdleMonitor"


class IdleGnome:
    name: ClassVar[str] = "GNOME"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self._bus = Bus("SESSION")

    async def read(self) -> Reading:
        path = "/org/gnome/Mutter/IdleMonitor/Core"
        (milliseconds,) = await self._bus.call(_NAME, path, _NAME, "GetIdletime")
        seconds = milliseconds / 1000
        return Reading(f"The last input was {seconds:.0f} s ago.", idle_seconds=seconds)

    async def close(self) -> None:
        await self._bus.close()
