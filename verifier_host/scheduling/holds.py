"""The hold in progress, if any: how long the engine waits for drafts that are on their way."""

from collections.abc import Sequence

from verifier_host.scheduling.pacing import (
    BREADTH,
    HOLD_GUESSES,
    HOLD_SHARE,
    Coming,
    Pace,
    Rate,
    is_worth_waiting,
)
from verifier_host.scheduling.sessions import Session, is_hosts_alone
from verifier_host.scheduling.survival import Survival

_USUAL_SPEED = 1.5  # tokens a step, before any was counted; chosen


class Holds:
    """Holds of one engine; `count` and `seconds` of all that have ended."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.rate = Rate()
        self.count = 0
        self.seconds = 0.0
        self._begun: float | None = None

    def until(
        self, roots: Sequence[Session], survival: Survival, curve: Sequence[float], now: float
    ) -> float | None:
        """Return until when to wait for messages; None = step now. To be asked again after each.

        Args:
            roots: every session of the step; none of them has a prompt to compute.
            curve: seconds of a step of R rows.
        """
        begun = now if self._begun is None else self._begun
        longest = begun + HOLD_SHARE * curve[1]
        if now >= longest or any(session.is_fresh for session in roots):
            return None
        awaited: list[tuple[Session, Coming]] = []
        rows = float(len(roots))
        for session in roots:
            depth, coming = _coming(session, survival, curve[1], now)
            rows += BREADTH * depth
            if coming is not None:
                awaited.append((session, coming))
        if not awaited:
            return None
        rate = self.rate.or_else(_USUAL_SPEED * len(roots) / curve[1])
        found = [coming for _, coming in awaited]
        if not is_worth_waiting(found, round(rows), rate, curve, longest - now):
            return None
        self._begun = begun
        for session, _ in awaited:
            session.arrivals.is_held = True
        return min(longest, now + min(coming.late_seconds for coming in found))

    def end(self, now: float) -> None:
        """A step starts."""
        if self._begun is not None:
            self.count += 1
            self.seconds += now - self._begun
        self._begun = None


def _coming(
    session: Session, survival: Survival, step_seconds: float, now: float
) -> tuple[int, Coming | None]:
    """Return how deep its nodes' best guesses go, and what is to come behind them.

    A guess of the host's own there that is as good as a node's is not waited to be improved.
    """
    reach, depth, children = 1.0, 0, session.children()
    while children:
        ranked = [(survival.chance(guess, depth + 1), guess) for guess in children.values()]
        of_nodes = [pair for pair in ranked if not is_hosts_alone(pair[1])]
        if not of_nodes:
            if max(chance for chance, _ in ranked) >= session.alpha:
                return depth, None
            break
        chance, guess = max(of_nodes, key=lambda pair: pair[0])
        reach, depth, children = reach * chance, depth + 1, guess.children
    if not session.has_nodes or not session.worth.is_drafting:
        return depth, None
    chances = [reach * session.alpha * session.best**at for at in range(HOLD_GUESSES)]
    return depth, session.arrivals.coming(now, step_seconds, chances)
