"""How likely a guess is right, given that its parent is: p̂, learnt from what hosts commit. Pure.

A table of hits and offers by rank, margin, temperature and source, on top of a prior; one table for
each host, as each has its own target.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RANKS = 4
MARGINS = 16
BANDS = 4
SOURCES = 2
MODEL, NGRAM = 0, 1  # NGRAM: a repetition in the text proposes the token, whatever the model says
DECAY = 0.999  # per commit
PRIOR_OFFERS = 24.0  # chosen: what the prior weighs against offers that were counted
CHANCE_CAP = 0.995

# Bin b of margins ends at edge b; the last has no end. In nats of noised score, chosen: finer where
# the hit rate changes fastest.
MARGIN_EDGES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.5, 1.9, 2.4, 3.0, 3.7, 4.5, 5.5, 7.0)

# Without a measured prior: by rank (chosen), moved by the margin.
RANK_CHANCE = (0.6, 0.12, 0.06, 0.03)
NGRAM_CHANCE = 0.7


class Cell(NamedTuple):
    """Where one kind of guess is counted."""

    rank: int
    margin: int
    band: int
    source: int


def margin_bin(margin: float) -> int:
    """Return which of MARGINS bins a margin in nats is in."""
    return bisect_right(MARGIN_EDGES, margin)


def plain_prior(cell: Cell) -> float:
    """Return p̂ where nothing was measured."""
    middle = MARGIN_EDGES[min(cell.margin, MARGINS - 2)]
    if cell.rank == 0:
        # The best token is surer the further the second is behind.
        chance = 1.0 - (1.0 - RANK_CHANCE[0]) * 1.6 * float(np.exp(-0.5 * middle))
    else:
        chance = RANK_CHANCE[cell.rank] * 2.0 * float(np.exp(-0.5 * middle))
    if cell.source == NGRAM:
        chance = max(chance, NGRAM_CHANCE if cell.rank == 0 else NGRAM_CHANCE / 2)
    return min(CHANCE_CAP, max(0.001, chance))


class Calibration:
    """p̂ for one host's target."""

    def __init__(self, prior: Mapping[Cell, float] | None = None) -> None:
        """Start from a measured `prior` for some cells and `plain_prior` for the others."""
        shape = (RANKS, MARGINS, BANDS, SOURCES)
        self._prior = np.empty(shape)
        for index in np.ndindex(shape):
            cell = Cell(*index)
            self._prior[index] = (prior or {}).get(cell, plain_prior(cell))
        self._offers = np.zeros(shape)
        self._hits = np.zeros(shape)
        self.is_changed = False

    def chance(self, cell: Cell) -> float:
        """Return p̂ of a guess of this kind, above 0 and at most CHANCE_CAP."""
        hits = float(self._hits[cell]) + PRIOR_OFFERS * float(self._prior[cell])
        return min(CHANCE_CAP, hits / (float(self._offers[cell]) + PRIOR_OFFERS))

    def learn(self, cells: Iterable[tuple[Cell, bool]]) -> None:
        """Count the candidates of one committed place: their kinds, and whether they were right."""
        self._offers *= DECAY
        self._hits *= DECAY
        for cell, is_hit in cells:
            self._offers[cell] += 1.0
            self._hits[cell] += is_hit
        self.is_changed = True

    def table(self) -> list[tuple[Cell, float, float]]:
        """Return (cell, offers, hits) of all cells with something counted."""
        counted: Iterable[npt.NDArray[np.intp]] = np.argwhere(self._offers > 0.01)
        found = []
        for index in counted:
            cell = Cell(*(int(part) for part in index))
            found.append((cell, float(self._offers[cell]), float(self._hits[cell])))
        return found

    def restore(self, table: Iterable[tuple[Cell, float, float]]) -> None:
        """Take counts of an earlier run; cells and counts that cannot be are left out."""
        for cell, offers, hits in table:
            inside = all(
                0 <= part < bound
                for part, bound in zip(cell, (RANKS, MARGINS, BANDS, SOURCES), strict=True)
            )
            if inside and 0.0 <= hits <= offers < float("inf"):
                self._offers[cell] = offers
                self._hits[cell] = hits


def score_byte(chance: float) -> int:
    """Return the wire's score of p̂: round(255·√p̂)."""
    return round(255.0 * sqrt(chance))
