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

HOLD_SHARE = 0.75  # a hold never lasts longer, in steps of one row; chosen
HOLD_GAIN = 0.05  # tokens it must be worth beyond its cost: an estimate may be off by as much
HOLD_MISSES = 3  # holds in vain after which a session is not waited for …
HOLD_PAUSES = (16, 1024)  # … for so many steps: first, and longest; chosen
HOLD_GUESSES = 6  # of a session that are looked ahead to; what comes decides anew
_LATE = (0.25, 0.001)  # of what was expected, and seconds: later than that it is given up; chosen
_FIRST_SHARE, _EACH_SHARE = 0.3, 0.1  # of a step, believed before any drafter was waited for
_POSTPONED = 1.5  # times what was expected, after a hold in vain; chosen
_RATE_MEMORY = 0.1  # weight of a step; chosen

WINDOW = 64  # steps with tree rows over which their worth is judged
PROBE = 16  # the same after a pause
WORTH = 1.02  # tokens a step over what the rows cost; less is no gain
PAUSES = (16, 1024)  # steps without drafts: first, and longest


@dataclass(frozen=True, slots=True)
class Coming:
    """Guesses of one session that are on their way.

    Attributes:
        next_seconds: until the next is expected.
        each_seconds: a further one takes.
        late_seconds: until the next is given up.
        chances: that the next, the one behind it … is reached and right.
    """

    next_seconds: float
    each_seconds: float
    late_seconds: float
    chances: Sequence[float]


def is_worth_waiting(
    coming: Sequence[Coming], rows: int, rate: float, curve: Sequence[float], longest: float
) -> bool:
    """Say whether to delay a step for guesses on their way.

    Waiting costs what the engine makes of its time, and so do the seconds that more rows add to
    the step; a guess brings its chance. Going on while some later moment gains more than it costs
    makes the most tokens a second in the long run (renewal reward, as in Dinkelbach 1967).

    Args:
        rows: of the step without them.
        rate: tokens a second of late.
        curve: seconds of a step of R rows.
        longest: seconds that the step may be delayed at most.
    """
    last = len(curve) - 1
    arrivals = sorted(
        (seconds, chance)
        for one in coming
        for at, chance in enumerate(one.chances)
        if (seconds := one.next_seconds + at * one.each_seconds) <= longest
    )
    base = curve[min(rows, last)]
    gain = 0.0
    for count, (seconds, chance) in enumerate(arrivals, start=1):
        gain += chance
        more = curve[min(rows + math.ceil(BREADTH * count), last)] - base
        if gain - rate * (seconds + more) > HOLD_GAIN:
            return True
    return False


class Rate:
    """Tokens a second of late, over all sessions."""

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0
        self._last: float | None = None

    def record(self, tokens: int, now: float) -> None:
        """A step has ended, and so many tokens are final."""
        last, self._last = self._last, now
        if last is not None:
            self._tokens += _RATE_MEMORY * (tokens - self._tokens)
            self._seconds += _RATE_MEMORY * (now - last - self._seconds)

    def rest(self, now: float | None = None) -> None:
        """The time until `now`, or the next step, is nobody's."""
        self._last = now

    def or_else(self, guess: float) -> float:
        """Return the rate, or `guess` while nothing is known."""
        return self._tokens / self._seconds if self._seconds else guess


@dataclass(slots=True)
class Pace:
    """Seconds from a commit to the first guess behind it, and from one decode's to the next's."""

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
        self._next_pause = HOLD_PAUSES[0]
        self._expected = 0.0
        self._is_given_up = False

    def commit(self, now: float) -> None:
        """A step has ended."""
        if self.is_held and self._last is None and self._is_given_up:
            self._miss()
        self.is_held = False
        self._last = None
        self.committed = now
        self._pause = max(0, self._pause - 1)

    def arrive(self, live: int, now: float) -> None:
        """`live` new guesses have come."""
        if not live:
            return
        if self.is_held:
            for pace in (self._own, self._shared):
                if self._last is None:
                    pace.first = _mean(pace.first, now - self.committed)
                else:
                    pace.each = _mean(pace.each, now - self._last)
            self._misses, self._next_pause = 0, HOLD_PAUSES[0]
        self._last = now

    def coming(self, now: float, step_seconds: float, chances: Sequence[float]) -> Coming | None:
        """Return what is on its way; None = nothing that is to be waited for. What is asked last
        before a step says whether the hold was in vain."""
        first, each = self._own.first, self._own.each
        first = step_seconds * _FIRST_SHARE if first is None else first
        each = step_seconds * _EACH_SHARE if each is None else each
        since, takes = (self.committed, first) if self._last is None else (self._last, each)
        self._expected = first
        factor, slack = _LATE
        late = since + (1.0 + factor) * takes + slack - now
        self._is_given_up = late <= 0
        if self._pause or late <= 0:
            return None
        return Coming(max(0.0, since + takes - now), each, late, chances)

    def _miss(self) -> None:
        """What did not come in time is expected later: a drafter that slows down is still met."""
        self._own.first = _POSTPONED * self._expected
        self._misses += 1
        if self._misses >= HOLD_MISSES:
            self._own.first = self._shared.first  # after the pause it is tried as a new one
            self._misses, self._pause = 0, self._next_pause
            self._next_pause = min(2 * self._next_pause, HOLD_PAUSES[1])


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
