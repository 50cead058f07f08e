"""What forbids to run: one rule a reason.

A rule says until when it forbids, in wall time: infinity = no end is known, None = it does not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nexusnode.policy.facts import Facts, Limits, Memory, Moment, Wish
from nexusnode.policy.hysteresis import COOL_SECONDS, GPU_FREE_SECONDS
from nexusnode.policy.schedule import is_open, next_change, next_midnight
from nexusnode.states import Reason


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a rule looks at; `memory` is that after these facts."""

    facts: Facts
    limits: Limits
    wish: Wish
    memory: Memory
    now: Moment

    @property
    def runs_anyway(self) -> bool:
        """Whether the user asked not to wait for his own absence."""
        until = self.wish.anyway_until
        return until is not None and self.now.boot_seconds < until

    def wall(self, boot_seconds: float) -> float:
        """Return the wall time of a boot time, as the clock stands now."""
        return self.now.unix_seconds + boot_seconds - self.now.boot_seconds


Rule = Callable[[Situation], float | None]


def _quit(at: Situation) -> float | None:
    return _holds(at.wish.quitting)


def _user_pause(at: Situation) -> float | None:
    wish = at.wish
    has_end = wish.boot_until is not None or wish.unix_until is not None
    if wish.paused and not has_end and not wish.is_unknown:
        return math.inf
    return _holds(wish.finish_until is not None and _finish(at) is None)


def _snooze(at: Situation) -> float | None:
    wish, now = at.wish, at.now
    if not wish.paused or wish.is_unknown:
        return None
    if wish.boot_until is not None:
        return at.wall(wish.boot_until) if now.boot_seconds < wish.boot_until else None
    if wish.unix_until is not None:
        return wish.unix_until if now.unix_seconds < wish.unix_until else None
    return None


def _pause_unknown(at: Situation) -> float | None:
    return _holds(at.wish.paused and at.wish.is_unknown)


def _finish(at: Situation) -> float | None:
    until = at.wish.finish_until
    if until is None or not at.facts.sessions or at.now.boot_seconds >= until:
        return None
    return at.wall(until)


def _suspending(at: Situation) -> float | None:
    return _holds(at.facts.suspending)


def _hot(at: Situation) -> float | None:
    if not at.memory.is_hot:
        return None
    since = at.memory.cool_since
    return math.inf if since is None else at.wall(since + COOL_SECONDS)


def _battery(at: Situation) -> float | None:
    limits, facts = at.limits, at.facts
    is_charged = (facts.battery_percent or 0.0) >= limits.battery_percent
    return _holds(bool(facts.on_battery) and not (limits.on_battery and is_charged))


def _exclusive_app(at: Situation) -> float | None:
    return _holds(not at.facts.programs.isdisjoint(at.limits.apps))


def _fullscreen(at: Situation) -> float | None:
    return _holds(at.limits.fullscreen and bool(at.facts.fullscreen) and not at.runs_anyway)


def _gpu_busy(at: Situation) -> float | None:
    if not at.memory.is_gpu_busy:
        return None
    since = at.memory.gpu_free_since
    return math.inf if since is None else at.wall(since + GPU_FREE_SECONDS)


def _no_memory(at: Situation) -> float | None:
    until = at.facts.memory_short_until
    if until is not None and at.now.boot_seconds < until:
        return at.wall(until)
    return _holds(at.memory.is_memory_short)


def _schedule(at: Situation) -> float | None:
    hours, zone, unix = at.limits.hours, at.limits.zone, at.now.unix_seconds
    if at.runs_anyway or is_open(hours, zone, unix):
        return None
    change = next_change(hours, zone, unix)
    return math.inf if change is None else change


def _metered(at: Situation) -> float | None:
    return _holds(bool(at.facts.metered) and not at.limits.metered)


def _bandwidth(at: Situation) -> float | None:
    limit = at.limits.bytes_per_day
    if not limit or at.facts.bytes_today < limit:
        return None
    return next_midnight(at.limits.zone, at.now.unix_seconds)


def _disk(at: Situation) -> float | None:
    free = at.facts.disk_free_bytes
    return _holds(free is not None and free < at.limits.disk_reserve_bytes)


def _idle_unknown(at: Situation) -> float | None:
    waits = not at.limits.always and not at.runs_anyway
    return _holds(waits and at.facts.last_input is None)


def _input(at: Situation) -> float | None:
    last = at.facts.last_input
    if at.limits.always or at.runs_anyway or last is None:
        return None
    until = last + at.limits.idle_seconds
    return at.wall(until) if at.now.boot_seconds < until else None


def _holds(is_true: bool) -> float | None:
    """Return the end of what holds until something else happens."""
    return math.inf if is_true else None


RULES: Mapping[Reason, Rule] = {
    Reason.QUIT: _quit,
    Reason.USER_PAUSE: _user_pause,
    Reason.SNOOZE: _snooze,
    Reason.PAUSE_UNKNOWN: _pause_unknown,
    Reason.FINISH: _finish,
    Reason.SUSPENDING: _suspending,
    Reason.HOT: _hot,
    Reason.BATTERY: _battery,
    Reason.EXCLUSIVE_APP: _exclusive_app,
    Reason.FULLSCREEN: _fullscreen,
    Reason.GPU_BUSY: _gpu_busy,
    Reason.NO_MEMORY: _no_memory,
    Reason.SCHEDULE: _schedule,
    Reason.METERED: _metered,
    Reason.BANDWIDTH: _bandwidth,
    Reason.DISK: _disk,
    Reason.IDLE_UNKNOWN: _idle_unknown,
    Reason.INPUT: _input,
}
