"""What logind knows of the session: idle by the desktop's own word, and that the machine goes to
sleep.

Its hint comes late and says only that somebody is away, so it is the last detector to be believed,
and only of a locked session.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any, ClassVar

from nexusnode.sensors.bus import Bus
from nexusnode.sensors.sensor import CannotTell, Kind, Reading

_NAME = "org.freedesktop.login1"
_SELF = "/org/freedesktop/login1/user/self"


class IdleLogind:
    name: ClassVar[str] = "logind"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, unix_clock: Callable[[], float] = time.time) -> None:
        self._unix_clock = unix_clock
        self._bus = Bus("SYSTEM")

    async def read(self) -> Reading:
        user = await self._bus.properties(_NAME, _SELF, f"{_NAME}.User")
        name, path = user.get("Display", ("", "/"))
        if not name:
            raise CannotTell("logind knows of no desktop session of yours.")
        session = await self._bus.properties(_NAME, path, f"{_NAME}.Session")
        if "IdleHint" not in session or "LockedHint" not in session:
            raise CannotTell("This logind does not say whether the session is idle and locked.")
        if not (session["IdleHint"] and session["LockedHint"]):
            return Reading("The session is not locked, or not idle.", idle_seconds=0.0)
        since = session.get("IdleSinceHint", 0) / 1e6
        seconds = max(0.0, self._unix_clock() - since) if since else 0.0
        return Reading(f"Locked and idle for {seconds:.0f} s.", idle_seconds=seconds)

    async def close(self) -> None:
        await self._bus.close()


class SleepLogind:
    """Holds sleep up until the node has let go: a second of the five that logind allows."""

    name: ClassVar[str] = "logind sleep"
    kind: ClassVar[Kind] = Kind.SLEEP
    period_seconds: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self._bus = Bus("SYSTEM")
        self._lock: Any = None
        self._was_near = False

    async def read(self) -> Reading:
        path, interface = "/org/freedesktop/login1", f"{_NAME}.Manager"
        manager = await self._bus.properties(_NAME, path, interface)
        if "PreparingForSleep" not in manager:
            raise CannotTell("This logind does not say whether the computer goes to sleep.")
        is_near = bool(manager["PreparingForSleep"])
        if is_near and self._was_near:  # what was said last time has been obeyed
            self._let_sleep()
        elif not is_near and self._lock is None:
            await self._delay_sleep(path, interface)
        self._was_near = is_near
        finding = "The computer goes to sleep." if is_near else "The computer stays awake."
        return Reading(finding, suspending=is_near)

    async def close(self) -> None:
        self._let_sleep()
        await self._bus.close()

    async def _delay_sleep(self, path: str, interface: str) -> None:
        """Take a lock that delays sleep; without one the node still stops, but maybe after it."""
        wish = ("sleep", "Nexus", "Takes the draft model out of memory", "delay")
        with contextlib.suppress(CannotTell):
            (self._lock,) = await self._bus.call(_NAME, path, interface, "Inhibit", "ssss", *wish)

    def _let_sleep(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
