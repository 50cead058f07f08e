"""What logind knows of the session: idle by the desktop's own word, and that the machine goes to
sleep.

Its hint comes late and says only that somebody is away, so it is the last detector to be believed,
and only of a locked session.
"""

import time
from collections.abc import Callable
from typing import ClassVar

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
    name: ClassVar[str] = "logind sleep"
    kind: ClassVar[Kind] = Kind.SLEEP
    period_seconds: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self._bus = Bus("SYSTEM")

    async def read(self) -> Reading:
        manager = await self._bus.properties(_NAME, "/org/freedesktop/login1", f"{_NAME}.Manager")
        if "PreparingForSleep" not in manager:
            raise CannotTell("This logind does not say whether the computer goes to sleep.")
        is_near = bool(manager["PreparingForSleep"])
        finding = "The computer goes to sleep." if is_near else "The computer stays awake."
        return Reading(finding, suspending=is_near)

    async def close(self) -> None:
        await self._bus.close()
