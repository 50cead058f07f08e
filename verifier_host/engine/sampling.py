"""`choose`: the target's coupled token for one row of logits, exactly by docs/protocol.md, 7.4.

Every step is float32 but masses, which are float64. A row is judged alone: nothing here depends on
how many rows a step has. Few ids can win, as noise is bounded: only theirs is computed whole.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from p2p.drafting.coupling import gumbel, row_key
from verifier_host.engine.kernels import Kernels, open_kernels
from verifier_host.messages import Sampling, TokenLogprob
from verifier_host.scheduling.rows import Chosen, Int32, Rows, SessionRows

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
UNUSABLE = -2  # NaN, +inf or nothing but -inf
UNWANTED = -1
COLD = 0.01  # temperatures below count as 0


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of one row.

    Attributes:
        noise: row key of the position being chosen; `coupling.row_key`.
        counts: generated ids on the row's own path and how often.
        generated: how many tokens that is.
    """

    sampling: Sampling
    noise: tuple[int, int, int, int]
    counts: Mapping[int, int] = field(default_factory=dict)
    generated: int = 0


class Chooser:
    """Chooses for one target."""

    def __init__(
        self, vocabulary: int, end_ids: tuple[int, ...], kernels: Kernels | None = None
    ) -> None:
        self._kernels = kernels or open_kernels()
        self._room = np.empty(vocabulary, np.int32)
        self._end_ids = list(end_ids)

    def rows(self, rows: Rows, logits: Tensor) -> Chosen:
        """Choose after every wanted row of a step.

        Args:
            logits: [W, V] float32, one row per wanted row, in order.
        """
        tokens = np.full(len(rows.token), UNWANTED, np.int32)
        logprobs: list[TokenLogprob | None] = [None] * len(rows.token)
        order = iter(logits.numpy())
        for session in rows.sessions:
            for row, ask in asks(rows, session):
                z0 = next(order)
                token = self.choose(z0, ask)
                tokens[row] = token
                if session.sampling.logprobs >= 0 and token >= 0:
                    z0 = self._masked(z0, ask)
                    logprobs[row] = logprob(z0, token, session.sampling.logprobs)
        return Chosen(tokens, tuple(logprobs))

    def choose(self, logits: Float32, ask: Ask) -> int:
        """Return the coupled token after a row of `logits` [V], or UNUSABLE."""
        z2 = self._penalised(logits, ask)
        best = int(z2.argmax())  # the first of equals; a NaN counts as the greatest
        if not np.isfinite(z2[best]):
            return UNUSABLE
        if ask.sampling.temperature < COLD:
            return best
        z = z2 / np.float32(ask.sampling.temperature)
        ids, scores = self._contenders(z, best, ask.noise)
        kept = Kept(z, ask.sampling)
        for at in np.argsort(-scores, kind="stable"):
            if kept.keeps(z[ids[at]]):
                return int(ids[at])
        raise AssertionError("the greatest of z is always kept")

    def _contenders(
        self, z: Float32, best: int, noise: tuple[int, int, int, int]
    ) -> tuple[Int32, Float32]:
        """Return the ids, in order, whose z plus noise is not below that of id `best`, and those
        scores. `best` is among them, so the token chosen is, whatever else is not kept."""
        least = z[best] + gumbel(np.array([best], np.uint32), noise)[0]
        key = np.array(noise, np.uint32)
        room = self._room
        count = self._kernels.contend(
            len(z), z.ctypes.data, key.ctypes.data, least, room.ctypes.data
        )
        ids = room[:count]
        scores: Float32 = gumbel(ids.view(np.uint32), noise) + z[ids]
        return ids, scores

    def _masked(self, logits: Float32, ask: Ask) -> Float32:
        """z0: end-of-text ids are out while fewer than `min_tokens` are generated."""
        if ask.generated >= ask.sampling.min_tokens:
            return logits
        z0 = logits.copy()
        z0[self._end_ids] = -np.inf
        return z0

    def _penalised(self, logits: Float32, ask: Ask) -> Float32:
        sampling, z = ask.sampling, self._masked(logits, ask)
        if sampling.logit_bias:
            z = z.copy()
            for token, bias in sampling.logit_bias:
                if token < len(z):
                    z[token] += np.float32(bias)
        if ask.counts and (sampling.frequency_penalty or sampling.presence_penalty):
            z = z.copy()
            seen = np.array([token for token in ask.counts if token < len(z)], np.intp)
            times = np.array([ask.counts[token] for token in seen.tolist()], np.float32)
            z[seen] -= np.float32(sampling.frequency_penalty) * times
            z[seen] -= np.float32(sampling.presence_penalty)
        return z


class Kept:
    """The set top-k, top-p and min-p leave, in transformers' order; ties at an edge are all kept.

    Whether a token is kept depends on its z alone, and no lower z is kept where a higher is not.
    """

    def __init__(self, z: Float32, sampling: Sampling) -> None:
        self._z = z
        self._top = z.max()
        self._floor = np.float32(-np.inf)  # top-k's and min-p's edge, not below the greatest
        self._top_p = sampling.top_p
        self._masses: Float64 | None = None
        self._total = 1.0
        if 0 < sampling.top_k < len(z):
            self._floor = np.partition(z, -sampling.top_k)[-sampling.top_k]
        if sampling.top_p < 1:
            self._masses = np.exp(z.astype(np.float64) - np.float64(self._top))
            self._total = float(self._masses[z >= self._floor].sum())
        if sampling.min_p > 0:
            edge = self._top + np.float32(math.log(sampling.min_p))
            self._floor = max(self._floor, min(edge, self._top))

    def keeps(self, z: np.float32) -> bool:
        if z < self._floor:
            return False
        if self._masses is None or z == self._top:
            return True
        return float(self._masses[self._z > z].sum()) / self._total < self._top_p


def asks(rows: Rows, session: SessionRows) -> list[tuple[int, Ask]]:
    """Return what is asked of a session's wanted rows.

    The first wanted row is the last committed token (a root, or the end of a prompt): rows above it
    are in `session.counts` already, rows below are guesses that count for their own descendants.
    """
    wanted = [row for row in range(session.start, session.stop) if rows.wants[row]]
    if not wanted:
        return []
    base = int(rows.position[wanted[0]])
    sampling = session.sampling
    penalised = bool(sampling.frequency_penalty or sampling.presence_penalty)
    found = []
    for row in wanted:
        position = int(rows.position[row])
        counts = _on_path(rows, row, base, session.counts) if penalised else session.counts
        noise = row_key(session.key, position + 1)
        found.append((row, Ask(sampling, noise, counts, session.generated + position - base)))
    return found


def _on_path(rows: Rows, row: int, base: int, counts: Mapping[int, int]) -> Mapping[int, int]:
    if rows.position[row] == base:
        return counts
    found = Counter(counts)
    while row >= 0 and rows.position[row] > base:
        found[int(rows.token[row])] += 1
        row = int(rows.parent[row])
    return found


def logprob(z0: Float32, token: int, alternatives: int) -> TokenLogprob:
    """log_softmax(z0) of `token` and of the best `alternatives`, equal ones by lowest id."""
    wide = z0.astype(np.float64)
    top = wide.max()
    normaliser = top + np.log(np.exp(wide - top).sum())
    best: list[tuple[int, float]] = []
    if alternatives:
        edge = np.partition(z0, -min(alternatives, len(z0)))[-min(alternatives, len(z0))]
        ids = np.flatnonzero((z0 >= edge) & np.isfinite(z0))
        ids = ids[np.argsort(-wide[ids], kind="stable")][:alternatives]
        best = [(int(i), float(wide[i] - normaliser)) for i in ids]
    return TokenLogprob(float(wide[token] - normaliser), tuple(best))
