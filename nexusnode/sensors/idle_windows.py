"""Idle time and full-screen programs on Windows. Its calls are tested on fakes only."""

import ctypes
from typing import Any, ClassVar, Protocol

from nexusnode.sensors.sensor import CannotTell, Kind, Reading

_TICKS = 2**32  # milliseconds since the start in 32 bits: they wrap after 49.7 days
_BUSY, _FULLSCREEN_D3D, _PRESENTATION = 2, 3, 4  # QUERY_USER_NOTIFICATION_STATE


class Calls(Protocol):
    """What is asked of Windows."""

    def last_input_ticks(self) -> int: ...
    def ticks(self) -> int: ...
    def notification_state(self) -> int: ...


class IdleWindows:
    name: ClassVar[str] = "Windows"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def read(self) -> Reading:
        seconds = (self._calls.ticks() - self._calls.last_input_ticks()) % _TICKS / 1000
        return Reading(f"The last input was {seconds:.0f} s ago.", idle_seconds=seconds)

    async def close(self) -> None:
        """Nothing stays open."""


class FullscreenWindows:
    name: ClassVar[str] = "Windows notification state"
    kind: ClassVar[Kind] = Kind.FULLSCREEN
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def read(self) -> Reading:
        is_full = self._calls.notification_state() in (_BUSY, _FULLSCREEN_D3D, _PRESENTATION)
        finding = "A program fills the screen." if is_full else "No program fills the screen."
        return Reading(finding, fullscreen=is_full)

    async def close(self) -> None:
        """Nothing stays open."""


class User32:
    """The real calls."""

    def __init__(self) -> None:
        windll: Any = getattr(ctypes, "windll", None)  # exists on Windows only
        if windll is None:
            raise CannotTell("This is not Windows.")
        self._user32, self._kernel32 = windll.user32, windll.kernel32
        self._shell32 = windll.shell32

    def last_input_ticks(self) -> int:
        info = _LastInputInfo(ctypes.sizeof(_LastInputInfo), 0)
        if not self._user32.GetLastInputInfo(ctypes.byref(info)):
            raise CannotTell("Windows does not say when the last input was.")
        return int(info.ticks)

    def ticks(self) -> int:
        return int(self._kernel32.GetTickCount()) % _TICKS

    def notification_state(self) -> int:
        state = ctypes.c_int(0)
        if self._shell32.SHQueryUserNotificationState(ctypes.byref(state)):
            raise CannotTell("Windows does not say whether a program fills the screen.")
        return state.value


class _LastInputInfo(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint), ("ticks", ctypes.c_uint32))
