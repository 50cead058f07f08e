"""Never slower: whether drafting pays on this machine, now, by trying both in turns.

A model of step times cannot see what drafting costs beside the step: cores and memory bandwidth
that a draft on the same machine takes, frames, bookkeeping, waiting. Tokens per second see all of
it. So both ways run in windows of a few steps; the faster one is kept, and the other tried again
ever less often while it goes on losing. Each number of sessions and each kind of sampling has its
own contest.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import product

WINDOW = 16  # steps
TRIAL = {False: 1, True: 2}  # windows of plain, of drafting, to judge it: the latter's vary more
BEGIN = 2  # windows of drafting before the first trial of plain
RETRIES = (
    16,
    128,
    512,
)  # windows of the winner between two trials of the other: first, most, and …
CLEAR = 0.75  # … most where the loser has no more than this share of the winner's rate
KEEP = 0.98  # of plain's rate: as long as it reaches that, drafting is kept
LEVELS = (1, 2, 4, 8, 16, 32, 64)  # sessions, at most
WARM = (0.01, 0.8)  # mean temperatures at which another kind begins
_WEIGHT = 0.25  # of a window in the winner's average


@dataclass(slots=True)
class _Match:
    """One contest. Drafting begins; `since` counts windows since the last trial, `left` those to
    come of a trial that is going on."""

    is_drafting: bool = True
    rates: dict[bool, float] = field(default_factory=dict)  # by way, tokens a second
    since: int = 0
    retry: int = BEGIN
    left: int = 0
    is_hurried: bool = False
    trial: list[float] = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def step(self, tokens: int, seconds: float) -> None:
        self.steps += 1
        self.tokens += tokens
        self.seconds += seconds
        if self.steps >= WINDOW and self.seconds:
            self._end_window(self.tokens / self.seconds)
            self.steps = self.tokens = 0
            self.seconds = 0.0

    def try_soon(self) -> None:
        """Something has changed: do not wait long for the next trial."""
        self.retry = min(self.retry, max(RETRIES[0], self.since))
        self.is_hurried = bool(self.left)

    def _end_window(self, rate: float) -> None:
        if self.left:
            self.trial.append(rate)
            self.left -= 1
            if not self.left:
                self._judge(sum(self.trial) / len(self.trial))
            return
        known = self.rates.get(self.is_drafting, rate)
        self.rates[self.is_drafting] = known + _WEIGHT * (rate - known)
        self.since += 1
        if self.since >= self.retry:
            self.is_drafting = not self.is_drafting
            self.left, self.trial = TRIAL[self.is_drafting], []

    def _judge(self, rate: float) -> None:
        """End a trial: keep to the way that was tried if it is the better one."""
        self.rates[self.is_drafting] = rate
        wins = self.rates[True] >= KEEP * self.rates[False]
        first, most, longest = RETRIES
        if wins is self.is_drafting or self.is_hurried:
            self.retry = first
        else:
            is_clear = min(self.rates.values()) < CLEAR * max(self.rates.values())
            self.retry = min(max(first, 2 * self.retry), longest if is_clear else most)
        self.is_drafting, self.is_hurried, self.since = wins, False, 0


class Contest:
    """What one engine does about drafts.

    Args:
        is_fixed: draft always, whatever it costs.
    """

    def __init__(self, is_fixed: bool = False) -> None:
        self._is_fixed = is_fixed
        kinds = product(range(len(LEVELS) + 1), range(len(WARM) + 1))
        self._matches = {kind: _Match() for kind in kinds}
        self._match = self._matches[0, 0]
        self._last: float | None = None

    @property
    def is_drafting(self) -> bool:
        """Whether steps get tree rows, and nodes a budget."""
        return self._is_fixed or self._match.is_drafting

    def look(self, sessions: int, temperature: float) -> None:
        """Speak of steps with so many sessions of that mean temperature."""
        kind = bisect_left(LEVELS, sessions), bisect_left(WARM, temperature)
        self._match = self._matches[kind]

    def drafters_changed(self) -> None:
        """A node is new, or has left."""
        for match in self._matches.values():
            match.try_soon()

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
        was = self.is_drafting
        self._match.step(tokens, now - last)
        return was is not self.is_drafting
