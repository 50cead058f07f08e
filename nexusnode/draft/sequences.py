"""Which tokens each stream of the engine holds, and the only hand that changes them.

Positions of a stream have no gaps and are never written twice: what llama.cpp answers by an error
or an abort cannot be asked for here. `V` is the vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

from nexusnode.draft.engine import BadBatch, DraftEngine, Logits, Row


class Piece(NamedTuple):
    """Tokens to append to a stream; the last `outputs` of them want logits."""

    stream: int
    tokens: Sequence[int]
    outputs: int


class Sequences:
    """The streams of one engine, free and taken, and how far each is filled."""

    def __init__(self, engine: DraftEngine) -> None:
        self._engine = engine
        self._lengths = [0] * engine.limits.streams
        self._free = list(range(engine.limits.streams - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """Return an empty stream; `BadBatch` if none is free."""
        if not self._free:
            raise BadBatch("no stream is free")
        return self._free.pop()

    def release(self, stream: int) -> None:
        """Empty a stream and make it free."""
        self.cut(stream, 0)
        self._free.append(stream)

    def length(self, stream: int) -> int:
        """Return how many tokens the stream holds."""
        return self._lengths[stream]

    def cut(self, stream: int, pos: int) -> None:
        """Forget the stream's tokens from position `pos` on, if there are any."""
        if pos < self._lengths[stream]:
            self._engine.cut(stream, pos)
            self._lengths[stream] = pos

    def decode(self, pieces: Sequence[Piece]) -> list[Logits]:
        """Append all pieces in one call; return each one's [outputs, V], valid until the next.

        Raises: as `DraftEngine.decode`; after `BadBatch` and `CacheFull` nothing has changed.
        """
        if len({piece.stream for piece in pieces}) != len(pieces):
            raise BadBatch("two pieces for one stream in one decode")
        rows = []
        for stream, tokens, outputs in pieces:
            start, quiet = self._lengths[stream], len(tokens) - outputs
            rows += [
                Row(stream, start + place, token, place >= quiet)
                for place, token in enumerate(tokens)
            ]
        logits = self._engine.decode(rows)
        found = []
        at = 0
        for stream, tokens, outputs in pieces:
            self._lengths[stream] += len(tokens)
            found.append(logits[at : at + outputs])
            at += outputs
        return found
