"""May this node draft now, and if not, why and until when: a pure function."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nexusnode.policy.facts import Facts, Limits, Memory, Moment, Wish
from nexusnode.policy.hysteresis import remember
from nexusnode.policy.rules import RULES, Rule, Situation
from nexusnode.policy.schedule import next_change
from nexusnode.policy.thermal import duty_of
from nexusnode.states import Reason, State

CHECK_SECONDS = 30.0  # at the latest: a clock that was set is noticed within it
MIN_CHECK_SECONDS = 0.05
FINISH_CHECK_SECONDS = 0.5  # sessions end without a word to the policy


@dataclass(frozen=True, slots=True)
class Decision:
    """The state, the first reason for it, and all of them.

    Attributes:
        until_unix: wall time at which `reason` ends by itself, if it does.
        next_check_seconds: when to ask again at the latest, if no fact changes before.
        duty: share of the time that the worker may compute; 0 while paused.
    """

    state: State
    reason: Reason
    until_unix: float | None
    next_check_seconds: float
    duty: float
    blockers: tuple[Reason, ...]

    @property
    def may_run(self) -> bool:
        return self.state is not State.PAUSED


def decide(
    facts: Facts,
    limits: Limits,
    wish: Wish,
    memory: Memory,
    now: Moment,
    rules: Mapping[Reason, Rule] = RULES,
) -> tuple[Decision, Memory]:
    """Weigh everything; the first blocker in the order of `Reason` is the one shown.

    Returns:
        The decision, and the memory to bring along next time.
    """
    memory = remember(facts, limits, memory, now)
    at = Situation(facts, limits, wish, memory, now)
    ends = {reason: end for reason, rule in rules.items() if (end := rule(at)) is not None}
    if Reason.FINISH in ends and len(ends) > 1:
        # Something forbids to run at all: what was to be finished ends now, in the pause asked for.
        del ends[Reason.FINISH]
        ends.setdefault(Reason.USER_PAUSE, math.inf)
    check = _next_check(at, ends)
    if not ends:
        duty = duty_of(facts, limits)
        state = State.THROTTLED if duty < 1.0 else State.RUNNING
        return Decision(state, Reason.OK, None, check, duty, ()), memory
    blockers = tuple(reason for reason in Reason if reason in ends)
    until = ends[blockers[0]]
    is_finishing = blockers == (Reason.FINISH,)
    decision = Decision(
        State.FINISHING if is_finishing else State.PAUSED,
        blockers[0],
        until if math.isfinite(until) else None,
        check,
        duty_of(facts, limits) if is_finishing else 0.0,
        blockers,
    )
    return decision, memory


def _next_check(at: Situation, ends: Mapping[Reason, float]) -> float:
    """Return the seconds until something that is known to change changes."""
    moments = [*ends.values()]
    change = next_change(at.limits.hours, at.limits.zone, at.now.unix_seconds)
    if change is not None:
        moments.append(change)
    if at.runs_anyway and at.wish.anyway_until is not None:
        moments.append(at.wall(at.wish.anyway_until))
    waits = [moment - at.now.unix_seconds for moment in moments]
    if Reason.FINISH in ends:
        waits.append(FINISH_CHECK_SECONDS)
    return max(MIN_CHECK_SECONDS, min([CHECK_SECONDS, *waits]))
