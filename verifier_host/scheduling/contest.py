"""Never slower: whether drafting pays on this machine, now, by trying both in turns.

A model of step times cannot see what drafting costs beside the step: cores and memory bandwidth
that a draft on the same machine takes, frames, bookkeeping, waiting. Tokens per second see all of
it. So both ways run in windows of a few steps; the faster one is kept, and the other tried again
ever less often while it goes on losing. Each number of sessions has its own contest.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

WINDOW = 16  # steps
FIRST_WINDOWS = 2  # of each way before one is preferred: a single one may be disturbed
RETRIES = (16, 512)  # windows of the winner between two of the loser: first, and most
LEVELS = (1, 2, 4, 8, 16, 32, 64)  # sessions, at most
_WEIGHT = 0.25  # of a window in the average


@dataclass(slots=True)
class _Way:
    rate: float = 0.0  # tokens a second
    windows: int = 0

    def record(self, rate: float) -> None:
        self.windows += 1
        weight = max(_WEIGHT, 1 / self.windows)
        self.rate += weight * (rate - self.rate)


@dataclass(slots=True)
class _Level:
    drafting: _Way = field(default_factory=_Way)
    plain: _Way = field(default_factory=_Way)
    is_drafting: bool = True
    since: int = 0  # windows since the other way's last one
    retry: int = RETRIES[0]

    def record(self, rate: float) -> None:
        """End a window of the present way and choose the next one's."""
        way, other = self.drafting, self.plain
        if not self.is_drafting:
            way, other = other, way
        way.record(rate)
        if min(way.windows, other.windows) < FIRST_WINDOWS:
            self.is_drafting = other is self.drafting
            return
        was_trial, self.since = self.since < 0, max(0, self.since) + 1
        if way.rate < other.rate:
            self.retry = min(2 * self.retry, RETRIES[1]) if was_trial else RETRIES[0]
            self._turn(0)
        elif was_trial:
            self.retry, self.since = RETRIES[0], 0
        elif self.since >= self.retry:
            self._turn(-1)

    def _turn(self, since: int) -> None:
        self.is_drafting = not self.is_drafting
        self.since = since


class Contest:
    """What one engine does about drafts.

    Args:
        is_fixed: draft always, whatever it costs.
    """

    def __init__(self, is_fixed: bool = False) -> None:
        self._is_fixed = is_fixed
        self._at = 0
        self._levels = [_Level() for _ in range(len(LEVELS) + 1)]
        self._last: float | None = None
        self._steps = self._tokens = 0
        self._seconds = 0.0

    @property
    def is_drafting(self) -> bool:
        """Whether steps get tree rows, and nodes a budget."""
        return self._is_fixed or self._levels[self._at].is_drafting

    def look(self, sessions: int) -> None:
        """Speak of steps with so many sessions."""
        at = bisect_left(LEVELS, sessions)
        if at != self._at:
            self._at = at
            self._restart()

    def forget(self) -> None:
        """Start anew: the drafters are others."""
        self._levels = [_Level() for _ in self._levels]
        self._restart()

    def rest(self) -> None:
        """The engine has nothing to do: the time until the next step is nobody's."""
        self._last = None

    def record(self, tokens: int, is_open: bool, now: float) -> bool:
        """Learn from a step's end; return whether the way has changed.

        Args:
            tokens: committed by all sessions.
            is_open: the step had no prompt's rows and some session may be drafted.
        """
        last, self._last = self._last, now
        if last is None or not is_open or self._is_fixed:
            return False
        self._steps += 1
        self._tokens += tokens
        self._seconds += now - last
        if self._steps < WINDOW or not self._seconds:
            return False
        was = self.is_drafting
        self._levels[self._at].record(self._tokens / self._seconds)
        self._restart()
        return was is not self.is_drafting

    def _restart(self) -> None:
        self._steps = self._tokens = 0
        self._seconds = 0.0
