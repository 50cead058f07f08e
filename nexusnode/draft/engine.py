"""What runs a draft model: one context, several token streams, one call a turn.

A stream is one sequence of tokens in KV memory; positions in it have no gaps. Bodies: `llama.py`,
and the twin `fake.py`.
`V` is the vocabulary, `K` the number of rows that want logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from p2p.errors import ResourceError

Logits = npt.NDArray[np.float32]


class Row(NamedTuple):
    """One token to decode at position `pos` of a stream; `wants` = its logits are needed."""

    stream: int
    pos: int
    token: int
    wants: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What one engine can take; whoever breaks one of these gets `BadBatch`.

    Attributes:
        streams: sequences in the context, numbered from 0.
        context: positions of one stream.
        rows: in one decode.
        outputs: rows of one decode that may want logits.
        ends: token ids that end a text.
        costs: c(1), c(2), c(4), c(8): measured seconds of a decode of that many rows.
    """

    streams: int
    context: int
    rows: int
    outputs: int
    vocabulary: int
    ends: frozenset[int]
    costs: tuple[float, ...]


class DraftEngine(Protocol):
    """One loaded draft model. Calls come from one thread."""

    @property
    def limits(self) -> Limits: ...

    @property
    def memory_bytes(self) -> int:
        """Bytes of weights and KV memory."""
        ...

    def decode(self, rows: Sequence[Row]) -> Logits:
        """Append the rows to their streams and return [K, V] logits in the order of the rows.

        The array is a view: it is only valid until the next decode.

        Raises:
            BadBatch: a row breaks the limits or its stream's order; nothing was changed.
            CacheFull: a stream has no room; nothing was changed.
            EngineLost: anything else; the engine must not be used again.
        """
        ...

    def cut(self, stream: int, pos: int) -> None:
        """Forget the stream's positions from `pos` on."""
        ...

    def close(self) -> None:
        """Free everything. Only tests need it: a worker ends by leaving."""
        ...


class BadBatch(ValueError):
    """A batch that llama.cpp would refuse or die of: a bug of the caller's."""


class CacheFull(ResourceError):
    """A stream's positions are used up."""


class EngineLost(ResourceError):
    """The engine's state is undefined; the process must end. `kind` is the Fault's kind."""

    def __init__(self, text: str, kind: str = "engine") -> None:
        super().__init__(text)
        self.kind = kind


def check_rows(rows: Sequence[Row], limits: Limits) -> None:
    """Raise `BadBatch` for rows that end a llama.cpp process (GGML_ASSERT) or that it refuses."""
    if not 1 <= len(rows) <= limits.rows:
        raise BadBatch(f"{len(rows)} rows in one decode; 1 to {limits.rows} are possible")
    wanting = sum(row.wants for row in rows)
    if wanting > limits.outputs:
        raise BadBatch(f"{wanting} rows want logits; {limits.outputs} can")
    for row in rows:
        check_stream(row.stream, limits)
        if not 0 <= row.token < limits.vocabulary:
            raise BadBatch(f"token {row.token}; the vocabulary has {limits.vocabulary}")
        if not 0 <= row.pos < limits.context:
            raise CacheFull(f"position {row.pos}; a stream has {limits.context}")


def check_stream(stream: int, limits: Limits) -> None:
    """Raise `BadBatch` for a stream that does not exist."""
    if not 0 <= stream < limits.streams:
        raise BadBatch(f"stream {stream}; there are {limits.streams}")
