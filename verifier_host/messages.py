"""What front and engine worker say over their pipe. Bounds guard against bugs."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from p2p.wire.schema import U16, U32, U64, Codec, Real, Size, Span

Key = Annotated[bytes, Size(8, 8)]
Tokens = Annotated[tuple[U32, ...], Size(0, 200_000)]
Path = Annotated[str, Size(1, 4096)]
Line = Annotated[str, Size(0, 4096)]
TARGET = 0  # drafter number of a token nobody guessed
HOST = 2**32 - 1  # drafter number of the host's own n-gram drafter; nodes count from 1
MAX_TOP_LOGPROBS = 20


class FinishReason(IntEnum):
    """Why the engine ended a session. Stop strings are the front's business: it cancels."""

    STOP = 0  # an end-of-text id, not part of the text
    LENGTH = 1
    ERROR = 2  # no finite logit: the choice cannot go on


# Front to engine.


@dataclass(frozen=True, slots=True)
class Load:
    """First message: what to run. `kv_tokens` 0 = as much as memory allows; `threads` 0 = all
    cores."""

    path: Path
    name: Annotated[str, Size(1, 256)]
    dtype: Annotated[str, Size(1, 16)]  # "fp32" or "bf16"
    threads: U16
    kv_tokens: U64
    max_context: U32
    max_rows: U16
    debug: bool  # check slot counts after every step
    ngram: bool = False  # the host's own n-gram drafter
    drafts_always: bool = False  # also where it is slower


@dataclass(frozen=True, slots=True)
class Sampling:
    """`choose`'s settings (docs/protocol.md, 7.4); top_k 0, top_p 1 and min_p 0 are off."""

    temperature: Annotated[float, Span(0, 2)] = 1.0
    top_k: U32 = 0
    top_p: Annotated[float, Span(0, 1)] = 1.0
    min_p: Annotated[float, Span(0, 1)] = 0.0
    presence_penalty: Annotated[float, Span(-2, 2)] = 0.0
    frequency_penalty: Annotated[float, Span(-2, 2)] = 0.0
    logit_bias: Annotated[
        tuple[tuple[U32, Annotated[float, Span(-100, 100)]], ...], Size(0, 300)
    ] = ()
    min_tokens: U32 = 0
    ignore_eos: bool = False
    logprobs: Annotated[int, Span(-1, MAX_TOP_LOGPROBS)] = -1  # -1 none, else how many alternatives


@dataclass(frozen=True, slots=True)
class Start:
    """Begin or, with `committed` tokens, take up a session again; the key stays.

    `namespace` parts prefix caches, and takes turns at admission (one per API key); `max_new`
    counts from the prompt's end; without `is_drafted` the engine drafts nothing itself.
    """

    session: U32
    prompt: Annotated[tuple[U32, ...], Size(1, 200_000)]
    committed: Tokens
    key: Key
    sampling: Sampling
    max_new: U32
    namespace: Annotated[bytes, Size(0, 32)]
    is_drafted: bool = False


@dataclass(frozen=True, slots=True)
class Guesses:
    """A block as its node sent it; `drafter` is the front's number for that node's stream, from
    1."""

    session: U32
    drafter: Annotated[int, Span(1, HOST - 1)]
    pos: U32
    first: U32
    parents: Annotated[tuple[U32, ...], Size(1, 64)]
    tokens: Annotated[tuple[U32, ...], Size(1, 64)]
    scores: Annotated[bytes, Size(1, 64)]


@dataclass(frozen=True, slots=True)
class Leave:
    """A drafter has left a session (or, with session 0, all of them): forget its guesses and
    names."""

    session: U32
    drafter: U32


@dataclass(frozen=True, slots=True)
class Cancel:
    session: U32


@dataclass(frozen=True, slots=True)
class Ping:
    n: U32


@dataclass(frozen=True, slots=True)
class Stop:
    pass


# Engine to front.


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of a load, at most five a second."""

    done: Annotated[float, Span(0, 1)]
    what: Line


@dataclass(frozen=True, slots=True)
class Loaded:
    exact: bool
    fingerprint: Annotated[str, Size(16, 16)]
    slots: U64
    context: U32
    vocabulary: U32
    end_ids: Annotated[tuple[U32, ...], Size(0, 64)]
    load_seconds: Real
    kernels: Line  # which compiled kernels it computes with
    memory_bytes: U64


@dataclass(frozen=True, slots=True)
class Admitted:
    """A session has room in the engine, since `seconds_ago`; once, however often it gives way."""

    session: U32
    seconds_ago: Real


@dataclass(frozen=True, slots=True)
class Credit:
    """One drafter's part of a commit: `tip` and `credited` of docs/protocol.md, 5.7."""

    drafter: U32
    tip: U32
    credited: U16


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """log_softmax of the model's own logits: the chosen token's, and the best alternatives'."""

    logprob: Real
    top: Annotated[tuple[tuple[U32, Real], ...], Size(0, MAX_TOP_LOGPROBS)]


@dataclass(frozen=True, slots=True)
class Committed:
    """Final tokens, the first at position `pos`; one source (drafter, HOST or TARGET) per token.

    `drafted` counts the tree rows this session had in the step, accepted or not.
    """

    session: U32
    pos: U32
    tokens: Annotated[tuple[U32, ...], Size(1, 256)]
    sources: Annotated[tuple[U32, ...], Size(1, 256)]
    logprobs: Annotated[tuple[TokenLogprob, ...], Size(0, 256)]
    drafted: U16
    credits: Annotated[tuple[Credit, ...], Size(0, 256)]


@dataclass(frozen=True, slots=True)
class Finished:
    """The session is over and its slots are free; comes behind its last Committed."""

    session: U32
    reason: FinishReason
    steps: U32


@dataclass(frozen=True, slots=True)
class Refused:
    """A Start that cannot be served; `code` is one of p2p.errors."""

    session: U32
    code: Annotated[str, Size(1, 64)]
    text: Line


@dataclass(frozen=True, slots=True)
class Rows:
    """How many tree rows of a session the next steps can use; 0 = its nodes may rest."""

    session: U32
    rows: U16


@dataclass(frozen=True, slots=True)
class Gauge:
    """Counts for metrics, placement and pacing; every 0.1 s while stepping, and on change of a
    budget.

    Times are seconds; counters only grow. `step_seconds` are medians of late steps by row bucket.
    `rows_host` and `accepted_host` are the tree rows, and those accepted, that no node had guessed.
    `busy_seconds` is time with sessions inside, `compute_seconds` the part of it in steps.
    """

    running: U32
    waiting: U32
    slots_held: U64
    slots_cached: U64
    slots_free: U64
    steps: U64
    rows_target: U64
    rows_draft: U64
    rows_prompt: U64
    rows_host: U64
    accepted: U64
    accepted_host: U64
    stale: U64
    preemptions: U64
    prefix_queries: U64
    prefix_hits: U64
    holds: U64
    hold_seconds: Real
    compute_seconds: Real
    busy_seconds: Real
    step_seconds: Annotated[tuple[tuple[U16, Real], ...], Size(0, 64)]
    accepted_by_depth: Annotated[tuple[U64, ...], Size(0, 64)]
    budgets: Annotated[tuple[Rows, ...], Size(0, 4096)]
    rss_bytes: U64


@dataclass(frozen=True, slots=True)
class Pong:
    n: U32


@dataclass(frozen=True, slots=True)
class Fault:
    """The worker cannot go on and leaves: `code` of p2p.errors and a sentence that says what to
    do."""

    code: Annotated[str, Size(1, 64)]
    text: Line


TO_ENGINE = Codec({0: Load, 1: Start, 2: Guesses, 3: Leave, 4: Cancel, 5: Ping, 6: Stop})
FROM_ENGINE = Codec(
    {
        0: Loading,
        1: Loaded,
        2: Committed,
        3: Finished,
        4: Refused,
        5: Gauge,
        6: Pong,
        7: Fault,
        8: Admitted,
    }
)
