"""The hold in progress, if any: how long the engine waits for drafts that are on their way."""

from collections.abc import Sequence

from verifier_host.scheduling.pacing import (
    HOLD_SHARE,
    Awaited,
    Pace,
    hold_seconds,
    worth_waiting,
)
from verifier_host.scheduling.sessions import Session
from verifier_host.scheduling.survival import Survival

_SLACK = (1.25, 0.001)  # of the predicted wait, and seconds; chosen


class Holds:
    """Holds of one engine; `count` and `seconds` of all that have ended."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.count = 0
        self.seconds = 0.0
        self._begun: float | None = None
        self._deadline = 0.0
        self._awaited: list[Session] = []

    def until(
        self, roots: Sequence[Session], survival: Survival, curve: Sequence[float], now: float
    ) -> float | None:
        """Return until when to wait for messages; None = step now.

        Args:
            roots: every session of the step; none of them has a prompt to compute.
            curve: seconds of a step of R rows.
        """
        if self._begun is None:
            return self._begin(roots, survival, curve, now)
        step_seconds = curve[1]
        speed = sum(session.speed for session in roots)
        held = [session for session in self._awaited if session in roots]
        if now >= self._deadline or not held:
            return None
        if all(session.is_fed(survival) for session in held):
            each = min(session.arrivals.each_seconds(step_seconds) for session in held)
            gain = sum(_next_survival(session, survival) for session in held)
            if not worth_waiting(gain, each, speed, step_seconds):
                return None
            return min(self._deadline, now + 2 * each)
        return self._deadline

    def end(self, now: float) -> None:
        """A step starts."""
        if self._begun is not None:
            self.count += 1
            self.seconds += now - self._begun
        self._begun = None
        self._awaited = []

    def _begin(
        self, roots: Sequence[Session], survival: Survival, curve: Sequence[float], now: float
    ) -> float | None:
        if any(session.is_fresh for session in roots):
            return None
        step_seconds = curve[1]
        waited, awaited = [], []
        for session in roots:
            first = session.arrivals.first_seconds(now, step_seconds)
            is_open = session.has_nodes and session.worth.is_drafting
            if not is_open or first is None or session.is_fed(survival):
                continue
            each = session.arrivals.each_seconds(step_seconds)
            waited.append(session)
            awaited.append(Awaited(first, each, session.alpha, session.best))
        if not awaited:
            return None
        others = [session.speed for session in roots if session not in waited]
        seconds = hold_seconds(awaited, len(others), sum(others), curve)
        if not seconds:
            return None
        for session in waited:
            session.arrivals.is_held = True
        factor, slack = _SLACK
        self._begun, self._awaited = now, waited
        self._deadline = now + min(factor * seconds + slack, HOLD_SHARE * step_seconds)
        return self._deadline


def _next_survival(session: Session, survival: Survival) -> float:
    """Return the chance that a guess behind the best ones that are there is reached and right."""
    chance, depth, children = 1.0, 0, session.children()
    while children:
        depth += 1
        best, guess = max(
            ((survival.chance(guess, depth), guess) for guess in children.values()),
            key=lambda pair: pair[0],
        )
        chance *= best
        children = guess.children
    return chance * session.alpha
