"""What daemon and draft worker say over their pipe. Bounds guard against bugs."""

from dataclasses import dataclass
from typing import Annotated

from p2p.wire.messages import MAX_GUESSES, Sampler
from p2p.wire.schema import U8, U16, U32, U64, Codec, Real, Size, Span

Path = Annotated[str, Size(1, 4096)]
Line = Annotated[str, Size(0, 4096)]
Session = Annotated[int, Span(1, 2**32 - 1)]

# Daemon to worker.


@dataclass(frozen=True, slots=True)
class Load:
    """First message. `device` is "cpu" or a ggml device name; `threads` 0 = half the physical
    cores."""

    path: Path
    sha256: Annotated[str, Size(0, 64)]
    device: Annotated[str, Size(1, 64)]
    threads: U16
    sessions: U16
    context: U32  # tokens per session


@dataclass(frozen=True, slots=True)
class Open:
    """Draft for a session. `session` is the daemon's own number for (host, sid).

    Drafting starts after the Feed or Open that is `last`. `next_id` is 1, or after a worker
    restart the id behind the last one the daemon holds: ids stay gap-free on the wire.
    """

    session: Session
    host: U16
    key: Annotated[bytes, Size(8, 8)]
    sampler: Sampler
    max_new: U32
    tokens: Annotated[tuple[U32, ...], Size(0, 200_000)]
    last: bool
    rows: U16
    ahead: U16
    next_id: U32


@dataclass(frozen=True, slots=True)
class Feed:
    session: Session
    tokens: Annotated[tuple[U32, ...], Size(1, 200_000)]
    last: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """`pos` must equal the tokens known so far, else Closed("gap") and the daemon opens it anew."""

    session: Session
    pos: U32
    tip: U32
    tokens: Annotated[tuple[U32, ...], Size(1, 256)]
    rows: U16
    ahead: U16


@dataclass(frozen=True, slots=True)
class Budget:
    """`rows` 0: the session sleeps; commits only append to its tokens."""

    session: Session
    rows: U16
    ahead: U16


@dataclass(frozen=True, slots=True)
class Bin:
    """One cell of a calibration table: p̂ = hits / offers."""

    rank: U8
    margin: U8
    band: U8
    source: U8
    offers: Real
    hits: Real


@dataclass(frozen=True, slots=True)
class Host:
    """A stream to a host begins: its weight in the round robin, and what is known of its target.

    Said before the host's first Open: what the worker learnt under the number is forgotten.
    """

    host: U16
    weight: Annotated[float, Span(0, 1000)]
    calibration: Annotated[tuple[Bin, ...], Size(0, 4096)]


@dataclass(frozen=True, slots=True)
class Close:
    session: Session


@dataclass(frozen=True, slots=True)
class Ping:
    n: U32


@dataclass(frozen=True, slots=True)
class Pace:
    """Share of time the worker may compute, 0.05-1."""

    duty: Annotated[float, Span(0.05, 1)]


@dataclass(frozen=True, slots=True)
class Stop:
    pass


# Worker to daemon.


@dataclass(frozen=True, slots=True)
class Loaded:
    """`costs` are c(1), c(2), c(4), c(8): seconds of a decode of that many rows."""

    vocabulary: U32
    context: U32
    sessions: U16
    layout: Annotated[str, Size(1, 16)]  # "streams" or "unified"
    costs: Annotated[tuple[Real, ...], Size(0, 8)]
    memory_bytes: U64
    device: Annotated[str, Size(1, 64)]
    threads: U16


@dataclass(frozen=True, slots=True)
class Refused:
    """An Open that cannot be served: `reason` is a p2p.wire.messages.CloseReason number."""

    session: Session
    reason: U8


@dataclass(frozen=True, slots=True)
class Growth:
    """New guesses of one session, the shape of the wire's Block without sid and seen."""

    session: Session
    pos: U32
    first: U32
    parents: Annotated[tuple[U32, ...], Size(1, MAX_GUESSES)]
    tokens: Annotated[tuple[U32, ...], Size(1, MAX_GUESSES)]
    scores: Annotated[bytes, Size(1, MAX_GUESSES)]


@dataclass(frozen=True, slots=True)
class Grown:
    growths: Annotated[tuple[Growth, ...], Size(1, 256)]


@dataclass(frozen=True, slots=True)
class Closed:
    """The worker ended a session: "gap", "full" or "context"."""

    session: Session
    reason: Annotated[str, Size(1, 32)]


@dataclass(frozen=True, slots=True)
class Stats:
    """Each second while there are sessions; counters only grow."""

    sessions: U16
    drafted: U64
    decodes: U64
    rows: U64
    prompt: U64
    hits: U64
    rss_bytes: U64
    busy: Annotated[float, Span(0, 1)]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learnt of a host's target, soon at first, then each minute with changes.

    The daemon keeps it (`daemon/learnt.py`).
    """

    host: U16
    table: Annotated[tuple[Bin, ...], Size(0, 4096)]


@dataclass(frozen=True, slots=True)
class Pong:
    n: U32


@dataclass(frozen=True, slots=True)
class Fault:
    """The worker cannot go on and leaves: "model", "engine", "nan", "memory" and a sentence."""

    kind: Annotated[str, Size(1, 32)]
    text: Line


TO_WORKER = Codec(
    {0: Load, 1: Open, 2: Feed, 3: Commit, 4: Budget, 5: Host, 6: Close, 7: Ping, 8: Pace, 9: Stop}
)
FROM_WORKER = Codec(
    {0: Loaded, 1: Refused, 2: Grown, 3: Closed, 4: Stats, 5: Calibration, 6: Pong, 7: Fault}
)
