"""The drafting protocol `/nexus/draft/1`: what a node and a host say to each other.

Frames and their bounds only (docs/protocol.md, 3). Who may say what, and when, is for
`drafting/node_end.py` and `drafting/host_end.py`; signatures and hash chain are in `chain.py`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from p2p.errors import MalformedFrame
from p2p.wire.schema import U8, U16, U32, U64, Codec, Digest, Size, Span

PROTOCOL = "/nexus/draft/1"
VERSION = 1
NOISE_SPEC = 1  # nexus-noise-v1: docs/protocol.md, 7
MAX_GUESSES = 64  # in one block
MAX_LIVE = 256  # guesses of one drafter in one session
MAX_BLOCKS = 64  # in one frame
LADDER_STEP = 2048  # token entries under one rung of a DraftOffer's ladder

Sid = Annotated[int, Span(1, 2**32 - 1)]
TokenBytes = Annotated[bytes, Size(0, 16_384, 4)]  # u32 little-endian
Ids = Annotated[tuple[U32, ...], Size(1, MAX_GUESSES)]


class CloseReason(IntEnum):
    """Why one session ended. Unknown numbers from a peer are shown as numbers: fields stay U8."""

    FINISHED = 0
    ABORTED = 1
    DECLINED_CONTEXT = 2
    DECLINED_MEMORY = 3
    PAUSED = 4
    ERROR = 5
    DECLINED_BUSY = 6
    DESYNC = 7


class ByeReason(IntEnum):
    """Why a stream ends."""

    SHUTDOWN = 0
    PAUSED = 1
    REPLACED = 2
    MOVING = 3
    BANNED = 4


class TokenKind(IntEnum):
    """What an entry of a vocabulary is, for `tok_fp` (docs/protocol.md, 8.1)."""

    NORMAL = 0
    BYTE = 1
    CONTROL = 2
    UNUSED = 3
    ADDED = 4


@dataclass(frozen=True, slots=True)
class DraftOffer:
    """One draft model of a node: `ladder` holds 4 bytes per 2,048 token entries (of tok_fp)."""

    tok_fp: Digest
    name: Annotated[str, Size(0, 64)]
    vocabulary: U32
    ladder: Annotated[bytes, Size(0, 512, 4)]


@dataclass(frozen=True, slots=True)
class Hello:
    versions: Annotated[tuple[U8, ...], Size(1, 8)]
    nonce: Digest
    agent: Annotated[str, Size(0, 32)]
    drafts: Annotated[tuple[DraftOffer, ...], Size(1, 8)]
    noise_specs: Annotated[tuple[U8, ...], Size(1, 4)]
    caps: U64
    max_sessions: U16
    max_context: U32
    tokens_per_second: U32


@dataclass(frozen=True, slots=True)
class Welcome:
    version: U8
    nonce: Digest
    hello_digest: Digest
    tok_fp: Digest
    model_fp: Digest
    noise_spec: U8
    caps: U64
    max_sessions: U16
    max_guesses: Annotated[int, Span(1, MAX_GUESSES)]
    max_live: Annotated[int, Span(1, MAX_LIVE)]
    heartbeat_ms: Annotated[int, Span(100, 60_000)]
    others: Annotated[tuple[Annotated[bytes, Size(0, 4096)], ...], Size(0, 8)]


@dataclass(frozen=True, slots=True)
class Sampler:
    """Sampling settings a node mirrors, in whole thousandths; top_k 0, top_p 1000, min_p 0: off."""

    temperature: Annotated[int, Span(0, 2000)]
    top_k: U32
    top_p: Annotated[int, Span(0, 1000)]
    min_p: Annotated[int, Span(0, 1000)]


@dataclass(frozen=True, slots=True)
class Open:
    sid: Sid
    key: Annotated[bytes, Size(8, 8)]
    sampler: Sampler
    total: U32
    max_new: U32
    rows: U16
    ahead: U16
    tokens: TokenBytes


@dataclass(frozen=True, slots=True)
class Feed:
    sid: Sid
    start: U32
    tokens: TokenBytes
    last: bool


@dataclass(frozen=True, slots=True)
class Block:
    """Guesses for one session: ids first … first+len-1; a parent is an older id, or 0.

    0 is the committed text. `pos` is the absolute position that tokens with parent 0 guess;
    `scores` are round(255·√p̂).
    """

    sid: Sid
    seen: U32
    pos: U32
    first: Annotated[int, Span(1, 2**32 - 1)]
    parents: Ids
    tokens: Ids
    scores: Annotated[bytes, Size(1, MAX_GUESSES)]

    def __post_init__(self) -> None:
        if not len(self.parents) == len(self.tokens) == len(self.scores):
            raise MalformedFrame("Block: parents, tokens and scores differ in length")


@dataclass(frozen=True, slots=True)
class Draft:
    blocks: Annotated[tuple[Block, ...], Size(1, MAX_BLOCKS)]


@dataclass(frozen=True, slots=True)
class Commit:
    """Tokens that are final, the first at `pos`; `tip`, `credited`: docs/protocol.md, 5.7."""

    sid: Sid
    seq: U32
    pos: U32
    tip: U32
    credited: U16
    tokens: Annotated[tuple[U32, ...], Size(1, 256)]
    rows: U16
    ahead: U16


@dataclass(frozen=True, slots=True)
class Commits:
    commits: Annotated[tuple[Commit, ...], Size(1, MAX_BLOCKS)]


@dataclass(frozen=True, slots=True)
class Budget:
    """`sid` 0 means every session."""

    sid: U32
    rows: U16
    ahead: U16


@dataclass(frozen=True, slots=True)
class Budgets:
    budgets: Annotated[tuple[Budget, ...], Size(1, MAX_BLOCKS)]


@dataclass(frozen=True, slots=True)
class Ping:
    n: U32
    micros: U64


@dataclass(frozen=True, slots=True)
class Pong:
    n: U32
    micros: U64


@dataclass(frozen=True, slots=True)
class Closing:
    sid: Sid
    reason: U8


@dataclass(frozen=True, slots=True)
class Close:
    closings: Annotated[tuple[Closing, ...], Size(1, MAX_BLOCKS)]


@dataclass(frozen=True, slots=True)
class Error:
    """A typed refusal: `code` as in `p2p.errors.ANSWERS`; for 10 `count` is an id that differs."""

    code: U8
    sid: U32
    count: U32
    retry_after: U16
    text: Annotated[str, Size(0, 128)]


@dataclass(frozen=True, slots=True)
class Receipt:
    receipt: Annotated[bytes, Size(0, 512)]


@dataclass(frozen=True, slots=True)
class Bye:
    reason: U8
    retry_after: U16


@dataclass(frozen=True, slots=True)
class VocabularyEntry:
    kind: U8
    text: Annotated[bytes, Size(0, 128)]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The host's own tokens from id `start` on, after an Error `incompatible`."""

    start: U32
    entries: Annotated[tuple[VocabularyEntry, ...], Size(1, LADDER_STEP)]


# 13, 14 and 16-31 are reserved and refused as unknown.
PEER_CODEC = Codec(
    {
        0: Hello,
        1: Welcome,
        2: Open,
        3: Draft,
        4: Commits,
        5: Budgets,
        6: Ping,
        7: Pong,
        8: Close,
        9: Error,
        10: Receipt,
        11: Bye,
        12: Feed,
        15: Vocabulary,
    },
    max_items=4096,
    max_bytes=16_384,
)
