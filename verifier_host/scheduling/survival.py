"""How likely a guess is the target's own token: a drafter's claim, corrected by what came of it.

A score is a hint, 255·√p̂ with p̂ the chance given that the parent is right. It picks one of 16
bins; each bin of each drafter and depth counts how often such guesses held, so that a lying node is
believed as little as a poor one.
"""

from collections.abc import Iterable

from p2p.drafting.tree import MAX_DEPTH, Guess, Name

BINS = 16
PRIOR = 4.0  # pseudo-counts that stand for the claim itself
HALVED_EVERY = 4096  # events of one drafter: the past fades
DAMPING = 0.5  # on what a second drafter adds: guesses of two models go wrong together
DEPTHS = (1, 2, 4, 8)  # last depth of each bucket; one more for what is deeper
_CLAIMED = tuple((((bin << 4) + 8) / 255) ** 2 for bin in range(BINS))
_FIRST_CELL = tuple(  # of each depth
    BINS * sum(depth > last for last in DEPTHS) for depth in range(MAX_DEPTH + 2)
)


class _Counts:
    __slots__ = ("accepted", "chance", "events", "offered")

    def __init__(self) -> None:
        cells = (len(DEPTHS) + 1) * BINS
        self.offered = [0.0] * cells
        self.accepted = [0.0] * cells
        self.chance = list(_CLAIMED) * (len(DEPTHS) + 1)
        self.events = 0

    def record(self, cell: int, hit: bool) -> None:
        self.offered[cell] += 1
        self.accepted[cell] += hit
        self.events += 1
        if self.events % HALVED_EVERY == 0:
            self.offered = [count / 2 for count in self.offered]
            self.accepted = [count / 2 for count in self.accepted]
        self.chance[cell] = (self.accepted[cell] + PRIOR * _CLAIMED[cell % BINS]) / (
            self.offered[cell] + PRIOR
        )


class Survival:
    """Calibration of all drafters of one engine."""

    def __init__(self) -> None:
        self._drafters: dict[int, _Counts] = {}

    def chance(self, guess: Guess, depth: int) -> float:
        """Return the chance that a guess holds, given that its parent does.

        Args:
            depth: 1 for a child of the root.
        """
        names = guess.names
        if len(names) == 1:  # by far the most frequent: this is the planner's innermost call
            ((drafter, name),) = names.items()
            return self._believed(drafter, name, depth)
        chances = sorted(
            (self._believed(drafter, name, depth) for drafter, name in names.items()), reverse=True
        )
        miss = 1.0 - chances[0] if chances else 1.0
        for chance in chances[1:]:
            miss *= 1.0 - DAMPING * chance
        return 1.0 - miss

    def record(self, siblings: Iterable[Guess], depth: int, token: int) -> None:
        """Learn from guesses on a place that the text went through: `token` came there."""
        first = _FIRST_CELL[depth]
        for guess in siblings:
            hit = guess.token == token
            for drafter, name in guess.names.items():
                if drafter not in self._drafters:
                    self._drafters[drafter] = _Counts()
                self._drafters[drafter].record(first + (name.score >> 4), hit)

    def forget(self, drafter: int) -> None:
        """Drop a drafter that has left: its number never comes again."""
        self._drafters.pop(drafter, None)

    def _believed(self, drafter: int, name: Name, depth: int) -> float:
        counts = self._drafters.get(drafter, _FRESH)
        return counts.chance[_FIRST_CELL[depth] + (name.score >> 4)]


_FRESH = _Counts()  # what is believed of a drafter that nothing is known of; never written
