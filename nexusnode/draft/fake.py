"""The twin of `llama.py`: a model whose next token is a hash of the text, for tests.

`truth` is what a target of the same family says; with `agreement` 1 the draft always says so too.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from nexusnode.draft.engine import (
    BadBatch,
    EngineLost,
    Limits,
    Logits,
    Row,
    check_rows,
    check_stream,
)

PEAK = 1.0  # the best token's logit; the others are -1, -2, …
CANDIDATES = 8


class FakeEngine:
    """Behaves as `DraftEngine` says, with the same guards as the real one.

    Args:
        agreement: share of texts after which the draft's best token is the truth.
        memory: last tokens that it looks at; with few, texts soon repeat themselves.
        lost_after: decodes after which `EngineLost` is raised.
        nan_after: decodes after which logits hold NaN.
    """

    def __init__(
        self,
        streams: int = 4,
        context: int = 256,
        vocabulary: int = 512,
        agreement: float = 1.0,
        memory: int | None = None,
        lost_after: int | None = None,
        nan_after: int | None = None,
    ) -> None:
        self.limits = Limits(
            streams=streams,
            context=context,
            rows=64,
            outputs=32,
            vocabulary=vocabulary,
            ends=frozenset({0}),
            costs=(1.0, 1.6, 2.8, 4.5),
        )
        self.memory_bytes = 0
        self.texts: list[list[int]] = [[] for _ in range(streams)]
        self.decodes = 0
        self.rows = 0
        self.is_closed = False
        self._agreement = agreement
        self._memory = memory
        self._lost_after = lost_after
        self._nan_after = nan_after

    def decode(self, rows: Sequence[Row]) -> Logits:
        check_rows(rows, self.limits)
        lengths = [len(text) for text in self.texts]
        for row in rows:
            if row.pos != lengths[row.stream]:
                raise BadBatch(f"position {row.pos} after {lengths[row.stream]} tokens")
            lengths[row.stream] += 1
        if self._lost_after is not None and self.decodes >= self._lost_after:
            raise EngineLost("the fake engine was told to fail")
        self.decodes += 1
        self.rows += len(rows)
        logits = []
        for row in rows:
            self.texts[row.stream].append(row.token)
            if row.wants:
                logits.append(self.predict(self.texts[row.stream]))
        if self._nan_after is not None and self.decodes > self._nan_after and logits:
            logits[-1][3] = np.nan
        return np.stack(logits) if logits else np.empty((0, self.limits.vocabulary), np.float32)

    def cut(self, stream: int, pos: int) -> None:
        check_stream(stream, self.limits)
        del self.texts[stream][pos:]

    def close(self) -> None:
        self.is_closed = True

    def predict(self, text: Sequence[int]) -> Logits:
        """Return [V] the draft's logits after `text`."""
        digest = self._digest(text)
        logits = np.full(self.limits.vocabulary, -20.0, np.float32)
        for place in range(CANDIDATES - 1, 0, -1):
            logits[self._token(digest, place)] = -float(place)
        says_truth = digest[31] < self._agreement * 256
        logits[self._token(digest, 0 if says_truth else 1)] = PEAK
        return logits

    def truth(self, text: Sequence[int]) -> int:
        """Return the target's token after `text` at temperature 0; never an end of text."""
        return self._token(self._digest(text), 0)

    def _token(self, digest: bytes, place: int) -> int:
        value = int.from_bytes(digest[2 * place : 2 * place + 2], "little")
        return 1 + value % (self.limits.vocabulary - 1)

    def _digest(self, text: Sequence[int]) -> bytes:
        seen = text if self._memory is None else text[-self._memory :]
        return blake2b(np.asarray(seen, "<u4").tobytes(), digest_size=32).digest()
