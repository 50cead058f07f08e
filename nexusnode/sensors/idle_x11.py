"""Idle time by the X server's screen saver extension."""

import struct
from typing import ClassVar

from nexusnode.sensors.sensor import CannotTell, Environment, Kind, Reading
from nexusnode.sensors.x11 import X11


class IdleX11:
    """Asked every second: a server tells nobody that a key was pressed."""

    name: ClassVar[str] = "X11"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._server: X11 | None = None
        self._opcode = 0

    async def read(self) -> Reading:
        if self._server is None:
            self._server = await X11.open(self._environment)
            self._opcode = await self._server.extension("MIT-SCREEN-SAVER")
            if not self._opcode:
                raise CannotTell("This X server has no screen saver extension.")
        reply = await self._server.ask(struct.pack("<BBHI", self._opcode, 1, 0, self._server.root))
        seconds = struct.unpack_from("<I", reply, 16)[0] / 1000
        return Reading(f"The last input was {seconds:.0f} s ago.", idle_seconds=seconds)

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()
