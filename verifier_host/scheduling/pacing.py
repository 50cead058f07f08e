"""When the next step starts, and how many guesses a session's nodes are asked for.

Default is to step. A hold pays only where drafts come within a fraction of a step, on one machine
or a LAN; a session whose drafts cost more than they bring gets no tree rows for a while, so that
they do not keep it slow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_TREE_ROWS = 16  # of one session in a step; chosen: beyond it a CPU pays per row (`times.py`)
FIRST_BUDGET = 8  # of a session nothing is known of; chosen
LEAST_BUDGET = 4  # below it a node cannot show what it is worth
FLOOR = 0.02  # survival below which a guess is not asked for
BREADTH = 1.5  # guesses asked for per row worth having in a chain: room for siblings

HOLD_SHARE = 0.6  # a hold never lasts longer, in steps of one row
HOLD_GAIN = 0.05  # predicted gain below which none is made: an estimate may be off by as much
HOLD_MISSES = 3  # holds in vain after which a session is not waited for …
HOLD_PAUSE = 256  # … for so many steps
HOLD_GUESSES = 6  # deepest chain a hold is planned for; arrivals may end it sooner or later
_FIRST_DELAY_SHARE = 0.1  # of a step, believed before any drafter was waited for
_FIRST_DRAFT_SHARE = 0.04

WINDOW = 64  # steps with tree rows over which their worth is judged
PROBE = 16  # the same after a pause
WORTH = 1.02  # tokens a step over what the rows cost; less is no gain
PAUSES = (16, 1024)  # steps without drafts: first, and longest


@dataclass(frozen=True, slots=True)
class Awaited:
    """A session without a guess below its root, whose drafters may soon send one.

    Attributes:
        first_seconds: until its first guess is expected.
        each_seconds: a further guess on it takes.
        alpha: chance that the drafters hold the next token, in some candidate.
        best: chance that it is their best candidate, the one the chain goes on with.
    """

    first_seconds: float
    each_seconds: float
    alpha: float
    best: float

    def arrived(self, seconds: float) -> int:
        """Return how long a chain is there after so many seconds."""
        if seconds < self.first_seconds:
            return 0
        return min(
            MAX_TREE_ROWS, 1 + math.floor((seconds - self.first_seconds) / self.each_seconds)
        )

    def tokens(self, chain: int) -> float:
        """Return what a step is expected to commit with a chain of so many guesses."""
        return 1.0 + self.alpha * (1.0 - self.best**chain) / (1.0 - self.best)

    def late_tokens(self, chain: int) -> float:
        """Return the same where a step without it commits a token first: its own, or it ends."""
        return 1.0 + self.best * (self.tokens(max(0, chain - 1)) - 1.0)


def hold_seconds(
    awaited: Sequence[Awaited], others: int, speed: float, curve: Sequence[float]
) -> float:
    """Return how long to delay the step for drafts on their way; 0 = step now.

    Holding for a chain of k and stepping with it is compared with a step now, in which the awaited
    sessions win one token each while their chains grow, and the step with those behind it.

    Args:
        others: sessions of the step that are not awaited.
        speed: tokens that those commit in a step.
        curve: seconds of a step of R rows.
    """
    sessions, last = len(awaited) + others, len(curve) - 1
    plain = curve[min(sessions, last)]
    won = len(awaited) + speed

    def step(seconds: float, most: int, is_late: bool = False) -> tuple[float, float]:
        """Return tokens and seconds of the step with the chains that are there by then."""
        chains = [min(most, one.arrived(seconds)) for one in awaited]
        rows = sessions + sum(min(MAX_TREE_ROWS, math.ceil(BREADTH * k)) for k in chains)
        count = Awaited.late_tokens if is_late else Awaited.tokens
        tokens = sum(count(one, k) for one, k in zip(awaited, chains, strict=True))
        return speed + tokens, curve[min(rows, last)]

    now = won / plain
    for k in range(1, HOLD_GUESSES + 1):
        tokens, seconds = step(plain, k, is_late=True)
        now = max(now, (won + tokens) / (plain + seconds))
    best, best_rate = 0.0, (1.0 + HOLD_GAIN) * now
    for k in range(1, HOLD_GUESSES + 1):
        wait = max(one.first_seconds + (k - 1) * one.each_seconds for one in awaited)
        if wait > HOLD_SHARE * curve[1]:
            break
        tokens, seconds = step(wait, k)
        if tokens / (wait + seconds) > best_rate:
            best, best_rate = wait, tokens / (wait + seconds)
    return best


def worth_waiting(survival_next: float, each_seconds: float, speed: float, step: float) -> bool:
    """Say whether one more guess pays for its wait, in a hold that others end by themselves."""
    return survival_next > each_seconds * speed / step


@dataclass(slots=True)
class Pace:
    """Seconds from a commit to the first guess behind it, and from guess to guess."""

    first: float | None = None
    each: float | None = None


class Arrivals:
    """How soon after a commit a session's guesses come, learnt from holds alone.

    Between two steps that follow each other at once an arrival is seen only at the end of the
    second, so nothing but a hold can show how fast a drafter is.

    Args:
        shared: of all sessions, where a new one starts.
    """

    def __init__(self, shared: Pace) -> None:
        self.committed = 0.0
        self.is_held = False
        self._shared = shared
        self._own = Pace(shared.first, shared.each)
        self._last: float | None = None
        self._misses = 0
        self._pause = 0

    def commit(self, now: float) -> None:
        """A step has ended."""
        if self.is_held and self._last is None:
            self._miss()
        self.is_held = False
        self._last = None
        self.committed = now
        self._pause = max(0, self._pause - 1)

    def arrive(self, live: int, now: float) -> None:
        """`live` new guesses have come."""
        if not self.is_held or not live:
            return
        for pace in (self._own, self._shared):
            if self._last is None:
                pace.first = _mean(pace.first, now - self.committed)
            else:
                pace.each = _mean(pace.each, (now - self._last) / live)
        self._misses = 0
        self._last = now

    def first_seconds(self, now: float, step_seconds: float) -> float | None:
        """Return how long until the first guess is expected; None = not to be waited for."""
        if self._pause:
            return None
        first = self._own.first
        delay = step_seconds * _FIRST_DELAY_SHARE if first is None else first
        return max(0.0, self.committed + delay - now)

    def each_seconds(self, step_seconds: float) -> float:
        """Return how long a further guess takes."""
        each = self._own.each
        return step_seconds * _FIRST_DRAFT_SHARE if each is None else max(1e-5, each)

    def _miss(self) -> None:
        self._misses += 1
        if self._misses >= HOLD_MISSES:
            self._misses, self._pause = 0, HOLD_PAUSE


class Worth:
    """The never-slower rule of one session: are its tree rows worth the time they take?"""

    def __init__(self) -> None:
        self._tokens = 0
        self._cost = 0.0
        self._steps = 0
        self._window = WINDOW
        self._pause = 0
        self._next_pause = PAUSES[0]

    @property
    def is_drafting(self) -> bool:
        return self._pause == 0

    def record(self, tree_rows: int, tokens: int, cost: float) -> None:
        """Learn from one step.

        Args:
            tokens: the session has committed.
            cost: t(rows of the step) / t(rows without any tree row).
        """
        if self._pause:
            self._pause -= 1
            return
        if not tree_rows:
            return
        self._tokens += tokens
        self._cost += cost
        self._steps += 1
        if self._steps < self._window:
            return
        if self._tokens >= WORTH * self._cost:
            self._window, self._next_pause = WINDOW, PAUSES[0]
        else:
            self._window, self._pause = PROBE, self._next_pause
            self._next_pause = min(2 * self._next_pause, PAUSES[1])
        self._tokens, self._cost, self._steps = 0, 0.0, 0


def budget(sessions: int, alpha: float, curve: Sequence[float]) -> int:
    """Return how many guesses of a session the next steps can use, with `sessions` alike.

    Rows of a chain are added while the next brings more tokens for its time than the step does.
    """
    last = len(curve) - 1
    rows, expected, survival = 0, 1.0, alpha
    while rows < MAX_TREE_ROWS and sessions * (rows + 2) <= last:
        now, more = curve[sessions * (rows + 1)], curve[sessions * (rows + 2)]
        if survival < FLOOR or survival * now <= expected * (more - now):
            break
        rows += 1
        expected += survival
        survival *= alpha
    if not rows:
        return 0
    return min(MAX_TREE_ROWS, max(LEAST_BUDGET, math.ceil(BREADTH * rows)))


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + (new - old) / 8
