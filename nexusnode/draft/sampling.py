"""From a row of draft logits to the few tokens that the target may choose there.

The noise is the target's own (`p2p/drafting/coupling.py`), so only the logits are a guess. The
settings are applied to candidates only; what is lost by that costs acceptance, never correctness.
`V` is the vocabulary.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nexusnode.draft.engine import EngineLost, Logits
from p2p.drafting.coupling import gumbel, row_key
from p2p.wire.messages import Sampler

BREADTH = 4  # ranks: the best candidate and up to three further ones; chosen
# Ids this far below the best logit, in units of the temperature, are left out: they would have won
# in 0.6 % (T 0.7) and 1.3 % (T 1) of 1,408 rows of technical text (measured).
NATS = 10.0
COLDEST = 0.01  # below it the greatest logit is chosen, without noise (docs/protocol.md, 7.4)


class Ranked(NamedTuple):
    """A token that may be chosen.

    `margin` is its noised score's distance to the best one's, in nats; for the best token itself,
    to the second best's (NATS if there is none).
    """

    token: int
    margin: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """A session's sampling settings as numbers to compute with; 0, 1 and 0 are off."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float

    @classmethod
    def of(cls, sampler: Sampler) -> "Sampling":
        """Return the wire's thousandths as numbers."""
        return cls(
            sampler.temperature / 1000, sampler.top_k, sampler.top_p / 1000, sampler.min_p / 1000
        )

    @property
    def is_greedy(self) -> bool:
        return self.temperature < COLDEST

    @property
    def band(self) -> int:
        """Which of four temperature bands this is, for calibration: 0, to 0.5, to 0.8, above."""
        if self.is_greedy:
            return 0
        return 1 if self.temperature <= 0.5 else 2 if self.temperature <= 0.8 else 3


def rank(
    logits: Logits, sampling: Sampling, key: bytes, position: int, also: int | None = None
) -> tuple[list[Ranked], float | None]:
    """Return the BREADTH best tokens for `position`, best first, and the margin of token `also`.

    Args:
        logits: [V] of the token before.
        position: absolute, of the token that is chosen.
        also: a token that something else proposes; its margin is NATS if it cannot win.

    Raises:
        EngineLost: the row holds NaN (kind "nan").
    """
    best = float(logits.max())  # NaN if any is NaN
    if not np.isfinite(best):
        raise EngineLost("the model's logits are not numbers", "nan")
    scale = 1.0 if sampling.is_greedy else sampling.temperature
    ids = np.flatnonzero(logits >= np.float32(best - NATS * scale))
    scores = logits[ids] / np.float32(scale)
    if not sampling.is_greedy:
        kept = _kept(scores, sampling)
        ids, scores = ids[kept], scores[kept]
        scores = scores + gumbel(ids.astype(np.uint32), row_key(key, position))
    order = _best(scores)
    top = float(scores[order[0]])
    second = float(scores[order[1]]) if len(order) > 1 else top - NATS
    ranked = [Ranked(int(ids[order[0]]), top - second)]
    ranked += [Ranked(int(ids[at]), top - float(scores[at])) for at in order[1:]]
    if also is None:
        return ranked, None
    (found,) = np.nonzero(ids == also)
    return ranked, top - float(scores[found[0]]) if len(found) else NATS


def _best(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return the places of the BREADTH greatest scores, greatest first; of equals, the lowest."""
    if len(scores) > BREADTH:
        edge = np.partition(scores, -BREADTH)[-BREADTH]
        places = np.flatnonzero(scores >= edge)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")][:BREADTH]


def _kept(scores: npt.NDArray[np.float32], sampling: Sampling) -> npt.NDArray[np.bool_]:
    """Return which candidates top-k, top-p and min-p keep, in this order: docs/protocol.md, 7.4."""
    kept = np.ones(len(scores), np.bool_)
    if 0 < sampling.top_k < len(scores):
        kept &= scores >= np.partition(scores, -sampling.top_k)[-sampling.top_k]
    if 0 < sampling.top_p < 1:
        order = np.argsort(-scores, kind="stable")
        mass = np.where(kept, np.exp(scores.astype(np.float64) - float(scores.max())), 0.0)
        above = np.cumsum(mass[order]) - mass[order]
        kept[order] &= above < sampling.top_p * mass.sum()
    if sampling.min_p > 0:
        kept &= scores >= scores.max() + np.float32(np.log(sampling.min_p))
    return kept
