"""Whether the active window fills the screen, by what the window manager says of it."""

from typing import ClassVar

from nexusnode.sensors.sensor import Environment, Kind, Reading
from nexusnode.sensors.x11 import X11, XError


class FullscreenX11:
    name: ClassVar[str] = "X11 window manager"
    kind: ClassVar[Kind] = Kind.FULLSCREEN
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._server: X11 | None = None

    async def read(self) -> Reading:
        if self._server is None:
            self._server = await X11.open(self._environment)
        is_full = await self._is_full(self._server)
        finding = "A window fills the screen." if is_full else "No window fills the screen."
        return Reading(finding, fullscreen=is_full)

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    async def _is_full(self, server: X11) -> bool:
        active = await server.words(server.root, "_NET_ACTIVE_WINDOW")
        if not active or not active[0]:
            return False
        try:
            states = await server.words(active[0], "_NET_WM_STATE")
        except XError:  # closed meanwhile
            return False
        return await server.atom("_NET_WM_STATE_FULLSCREEN") in states
