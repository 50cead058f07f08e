"""One session as a node hears it and answers: tokens in, checked; guesses out, coalesced."""

import struct
from collections.abc import Sequence

from p2p.errors import BadToken, Desync, MalformedFrame
from p2p.wire.messages import MAX_GUESSES, Block, Commit, Feed, Open


class NodeSession:
    """From OPEN to CLOSE. `vocabulary` is how many tokens exist.

    Attributes:
        is_whole: all tokens that were so far when the host opened it have come.
        length: tokens known; `tokens` holds them until they are taken, once it is whole.
        rows, ahead: the latest budget.
        waiting: guesses that are not sent.
    """

    def __init__(self, opening: Open, vocabulary: int) -> None:
        self.opening = opening
        self.rows = opening.rows
        self.ahead = opening.ahead
        self.length = 0
        self.waiting = 0
        self._vocabulary = vocabulary
        self._tokens: list[int] = []
        self._seq = 0
        self._next_id = 1
        self._blocks: list[_GrowingBlock] = []
        if opening.total < 1 or len(opening.tokens) > 4 * opening.total:
            raise MalformedFrame(
                f"OPEN brings {len(opening.tokens)} bytes of {opening.total} tokens"
            )

    @property
    def is_whole(self) -> bool:
        return self.length >= self.opening.total

    def begin(self) -> None:
        """Take OPEN's own tokens. Raises `BadToken`."""
        self._join(_unpacked(self.opening.tokens))

    def feed(self, feed: Feed) -> None:
        """Take more of the tokens so far.

        Raises:
            Desync: they do not join what is there, or `last` is not where OPEN's total says.
            BadToken: one is not in the vocabulary.
        """
        tokens = _unpacked(feed.tokens)
        length = self.length + len(tokens)
        if self.is_whole or feed.start != self.length or length > self.opening.total:
            raise Desync(f"FEED from {feed.start} to {length} where {self.length} tokens are known")
        if feed.last != (length == self.opening.total):
            raise Desync(f"FEED ends at {length}, OPEN announced {self.opening.total} tokens")
        self._join(tokens)

    def take_tokens(self) -> tuple[int, ...]:
        """Return the tokens so far and keep their number only: the draft worker has them now."""
        tokens, self._tokens = tuple(self._tokens), []
        return tokens

    def commit(self, commit: Commit) -> None:
        """Take tokens that are final. Raises `Desync` when they do not join, or `BadToken`."""
        if not self.is_whole or commit.seq <= self._seq or commit.pos != self.length:
            raise Desync(f"COMMIT {commit.seq} at {commit.pos} after {self._seq} at {self.length}")
        self._check(commit.tokens)
        self._seq = commit.seq
        self.length += len(commit.tokens)
        self.rows, self.ahead = commit.rows, commit.ahead

    def grow(
        self,
        pos: int,
        first: int,
        parents: Sequence[int],
        tokens: Sequence[int],
        scores: bytes,
    ) -> None:
        """Add guesses to what waits; a block of the same `pos` grows while it has room."""
        if first != self._next_id or pos > self.length:
            raise ValueError(
                f"block {first} at {pos}; {self._next_id} at {self.length} or before is next"
            )
        if not 1 <= len(tokens) == len(parents) == len(scores) <= MAX_GUESSES:
            raise ValueError(f"a block of {len(parents)}, {len(tokens)} and {len(scores)} items")
        self._next_id += len(tokens)
        self.waiting += len(tokens)
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.pos != pos or len(last.tokens) + len(tokens) > MAX_GUESSES:
            last = _GrowingBlock(pos, first)
            self._blocks.append(last)
        last.seen = self._seq
        last.parents += parents
        last.tokens += tokens
        last.scores += scores

    def take_blocks(self) -> list[Block]:
        """Return what waits."""
        blocks = [block.freeze(self.opening.sid) for block in self._blocks]
        self._blocks.clear()
        self.waiting = 0
        return blocks

    def _join(self, tokens: Sequence[int]) -> None:
        self._check(tokens)
        self._tokens += tokens
        self.length += len(tokens)

    def _check(self, tokens: Sequence[int]) -> None:
        if max(tokens, default=0) >= self._vocabulary:
            raise BadToken(f"a token is not among the tokenizer's {self._vocabulary}")


class _GrowingBlock:
    """Guesses of one `pos` that wait to be sent."""

    def __init__(self, pos: int, first: int) -> None:
        self.pos = pos
        self.first = first
        self.seen = 0
        self.parents: list[int] = []
        self.tokens: list[int] = []
        self.scores = bytearray()

    def freeze(self, sid: int) -> Block:
        parents, tokens = tuple(self.parents), tuple(self.tokens)
        return Block(sid, self.seen, self.pos, self.first, parents, tokens, bytes(self.scores))


def _unpacked(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(raw) // 4}I", raw)
