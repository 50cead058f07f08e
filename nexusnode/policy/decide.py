"""May this node draft now, and if not, why and until when: a pure function."""

from dataclasses import dataclass

from nexusnode.policy.facts import Facts, Limits, Moment, Wish
from nexusnode.states import Reason, State

CHECK_SECONDS = 30.0  # at the latest: a clock that was set is noticed within it
MIN_CHECK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Decision:
    """The state, the first reason for it, and all of them.

    Attributes:
        until_unix: wall time at which `reason` ends by itself, if it does.
        next_check_seconds: when to ask again at the latest, if no fact changes before.
    """

    state: State
    reason: Reason
    until_unix: float | None
    next_check_seconds: float
    blockers: tuple[Reason, ...]


def decide(facts: Facts, limits: Limits, wish: Wish, now: Moment) -> Decision:
    """Weigh everything; the first blocker in the order of `Reason` is the one shown."""
    ends: dict[Reason, float | None] = {}
    if wish.quitting:
        ends[Reason.QUIT] = None
    if wish.paused:
        left = _pause_seconds_left(wish, now)
        if wish.is_unknown:
            ends[Reason.PAUSE_UNKNOWN] = None
        elif left is None:
            ends[Reason.USER_PAUSE] = None
        elif left > 0:
            ends[Reason.SNOOZE] = now.unix_seconds + left
    if facts.memory_short_until is not None and facts.memory_short_until > now.boot_seconds:
        wait = facts.memory_short_until - now.boot_seconds
        ends[Reason.NO_MEMORY] = now.unix_seconds + wait
    if not limits.always and facts.idle is None:
        ends[Reason.IDLE_UNKNOWN] = None
    if not limits.always and facts.idle is False:
        ends[Reason.INPUT] = None
    deadlines = [end - now.unix_seconds for end in ends.values() if end is not None]
    check = max(MIN_CHECK_SECONDS, min([CHECK_SECONDS, *deadlines]))
    if not ends:
        return Decision(State.RUNNING, Reason.OK, None, check, ())
    blockers = tuple(reason for reason in Reason if reason in ends)
    return Decision(State.PAUSED, blockers[0], ends[blockers[0]], check, blockers)


def _pause_seconds_left(wish: Wish, now: Moment) -> float | None:
    """Return how long the pause still lasts; None = until resumed."""
    if wish.boot_until is not None:
        return wish.boot_until - now.boot_seconds
    if wish.unix_until is not None:
        return wish.unix_until - now.unix_seconds
    return None
