"""One session as a host tells it and hears about it: commits joined, ids and positions checked."""

import struct
from collections import deque
from collections.abc import Sequence

from p2p.errors import BadGuessId, BadPosition, BadToken
from p2p.wire.messages import Block, Budget, Commit, Feed, Open, Sampler

RESTING_COMMIT_SECONDS = 1.0  # commits of a session at rows = 0 go out this often at most
MAX_COMMIT_TOKENS = 256
FEED_TOKENS = 4096
_MAX_ECHOES = 256  # commits a node may be behind and still be timed
_MAX_CREDITED = 0xFFFF


class HostSession:
    """From OPEN to CLOSE.

    Attributes:
        length: committed tokens, told or not.
        known: committed tokens the node had when it last spoke.
        rows, ahead: the latest budget.
        is_told: OPEN has been sent.
        waiting: tokens of the commit that waits.
        rest_until: no commit before this time while `rows` is 0.
    """

    def __init__(
        self,
        sid: int,
        key: bytes,
        sampler: Sampler,
        tokens: Sequence[int],
        max_new: int,
        rows: int,
        ahead: int,
    ) -> None:
        self.sid = sid
        self.rows = rows
        self.ahead = ahead
        self.length = len(tokens)
        self.known = 0
        self.is_told = False
        self.rest_until = float("-inf")
        self._key = key
        self._sampler = sampler
        self._max_new = max_new
        self._tokens = [*tokens]  # all of them until OPEN, then those of the commit that waits
        self._told = (rows, ahead)
        self._tip = 0
        self._credited = 0
        self._seq = 0
        self._next_id = 1
        self._echoes: deque[tuple[int, int, float]] = deque(maxlen=_MAX_ECHOES)

    @property
    def waiting(self) -> int:
        return len(self._tokens) if self.is_told else 0

    def add(self, tokens: Sequence[int], tip: int, credited: int) -> None:
        """Take committed tokens: they go with OPEN if that is not sent yet, else as a commit."""
        self._tokens += tokens
        self.length += len(tokens)
        if self.is_told:
            self._tip = tip
            self._credited += credited

    def open(self) -> list[Open | Feed]:
        """Return OPEN and as many FEEDs as the tokens take."""
        tokens, self._tokens = self._tokens, []
        self.is_told = True
        self.known = len(tokens)
        self._told = (self.rows, self.ahead)
        feeds = [
            Feed(
                self.sid,
                at,
                _packed(tokens[at : at + FEED_TOKENS]),
                at + FEED_TOKENS >= len(tokens),
            )
            for at in range(FEED_TOKENS, len(tokens), FEED_TOKENS)
        ]
        opening = Open(
            self.sid,
            self._key,
            self._sampler,
            len(tokens),
            self._max_new,
            self.rows,
            self.ahead,
            _packed(tokens[:FEED_TOKENS]),
        )
        return [opening, *feeds]

    def commits(self, now: float) -> list[Commit]:
        """Return what waits; `tip` and `credited` go with the last of several."""
        tokens, self._tokens = self._tokens, []
        commits = []
        for at in range(0, len(tokens), MAX_COMMIT_TOKENS):
            piece = tuple(tokens[at : at + MAX_COMMIT_TOKENS])
            is_last = at + len(piece) == len(tokens)
            self._seq += 1
            commits.append(
                Commit(
                    self.sid,
                    self._seq,
                    self.length - len(tokens) + at,
                    self._tip if is_last else 0,
                    min(self._credited, _MAX_CREDITED) if is_last else 0,
                    piece,
                    self.rows,
                    self.ahead,
                )
            )
        if commits:
            self._tip = self._credited = 0
            self._told = (self.rows, self.ahead)
            self._echoes.append((self._seq, self.length, now))
            self.rest_until = now + RESTING_COMMIT_SECONDS
        return commits

    def budget(self) -> Budget | None:
        """Return the budget if the node does not have it yet."""
        if self._told == (self.rows, self.ahead):
            return None
        self._told = (self.rows, self.ahead)
        return Budget(self.sid, self.rows, self.ahead)

    def hear(self, block: Block, vocabulary: int, now: float) -> float | None:
        """Take a block; return the age of the newest commit it is the first to show, else None.

        Raises:
            BadGuessId: ids leave a gap or repeat, or a parent is not older than its guess.
            BadPosition: `pos` is beyond the committed text.
            BadToken: a token id is not below `vocabulary`.
        """
        first = block.first
        if first != self._next_id:
            raise BadGuessId(f"session {self.sid}: id {first} where {self._next_id} is next")
        if any(parent >= own for own, parent in enumerate(block.parents, start=first)):
            raise BadGuessId(f"session {self.sid}: a parent is not older than its guess")
        if block.pos > self.length:
            raise BadPosition(f"session {self.sid}: {block.pos} is beyond {self.length} tokens")
        if max(block.tokens) >= vocabulary:
            raise BadToken(f"session {self.sid}: a token is not among the {vocabulary}")
        self._next_id += len(block.tokens)
        lag = None
        while self._echoes and self._echoes[0][0] <= block.seen:
            _, self.known, sent_at = self._echoes.popleft()
            lag = now - sent_at
        return lag


def _packed(tokens: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(tokens)}I", *tokens)
