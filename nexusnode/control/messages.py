"""Methods and topics of the control API v1 and the shape of what they carry.

Each params, result and data is one frozen dataclass, on the wire an array in field order. A new
field is appended and raises `API`; `Hello` and `Welcome` never change.
"""

from dataclasses import dataclass
from typing import Annotated

from p2p.wire.schema import I64, U16, U32, U64, Real, Size, Span

API = 1
API_MIN = 1

Word = Annotated[str, Size(0, 64)]
Line = Annotated[str, Size(0, 1024)]
PathText = Annotated[str, Size(0, 4096)]
Seconds = Annotated[float, Span(0, 366 * 86_400)]


@dataclass(frozen=True, slots=True)
class Nothing:
    """Params or result of a method that has none."""


@dataclass(frozen=True, slots=True)
class Hello:
    client: Word
    version: Word
    api_min: U16
    api_max: U16


@dataclass(frozen=True, slots=True)
class Welcome:
    api: U16
    version: Word
    pid: U32
    data_dir: PathText
    capabilities: Annotated[tuple[Word, ...], Size(0, 64)]
    started_by: Word


@dataclass(frozen=True, slots=True)
class WorkerView:
    """`state` and `reason` as in `nexusnode.states`; counters run since the daemon's start."""

    state: Word
    reason: Line
    pid: U32 | None
    restarts: U32
    sessions: U32
    rss_bytes: U64


@dataclass(frozen=True, slots=True)
class HostView:
    """One host. `drafted` guesses were sent, `credited` of the `committed` tokens were ours too."""

    peer: Word
    address: Line
    state: Word
    reason: Line
    sessions: U32
    drafted: U64
    credited: U64
    committed: U64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything `status` shows. `missing` and `blockers` hold values of `nexusnode.states`."""

    state: Word
    reason: Word
    blockers: Annotated[tuple[Word, ...], Size(0, 32)]
    missing: Annotated[tuple[Word, ...], Size(0, 8)]
    until_unix_seconds: I64 | None
    node_id: Word
    model: Line
    model_path: PathText
    tok_fp: Word
    worker: WorkerView
    hosts: Annotated[tuple[HostView, ...], Size(0, 256)]
    bootstrap_peers: U32
    uptime_seconds: Real


@dataclass(frozen=True, slots=True)
class Topics:
    """Of `state` and `chat`."""

    topics: Annotated[tuple[Word, ...], Size(0, 16)]


@dataclass(frozen=True, slots=True)
class Pause:
    """Both None: until resumed. `for_seconds` counts sleep of the machine, `until` is wall time."""

    for_seconds: Seconds | None
    until_unix_seconds: I64 | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A setting and its value as TOML writes it."""

    key: Word
    value: PathText


@dataclass(frozen=True, slots=True)
class Settings:
    """`needs_restart` names keys whose file value is not what runs."""

    revision: U32
    pairs: Annotated[tuple[Pair, ...], Size(0, 128)]
    needs_restart: Annotated[tuple[Word, ...], Size(0, 128)]


@dataclass(frozen=True, slots=True)
class SettingsPatch:
    """Taken as a whole or not at all; `chat.key` is stored in a file of its own, never read
    back."""

    pairs: Annotated[tuple[Pair, ...], Size(1, 128)]
    if_revision: U32 | None


@dataclass(frozen=True, slots=True)
class ChatTurn:
    role: Word
    text: Annotated[str, Size(0, 1 << 18)]


@dataclass(frozen=True, slots=True)
class ChatStart:
    """`model` empty: the first that the host lists. `draft` False: nothing goes to any node."""

    turns: Annotated[tuple[ChatTurn, ...], Size(1, 256)]
    model: Line
    max_tokens: Annotated[int, Span(1, 1 << 20)]
    temperature: Annotated[float, Span(0, 2)]
    seed: U32 | None
    draft: bool


@dataclass(frozen=True, slots=True)
class ChatStarted:
    chat: U32


@dataclass(frozen=True, slots=True)
class ChatStop:
    chat: U32


@dataclass(frozen=True, slots=True)
class ChatToken:
    """A piece of the answer; `node` drafted it, empty = the target's own."""

    text: Annotated[str, Size(0, 65_536)]
    node: Word


@dataclass(frozen=True, slots=True)
class ChatEnd:
    """`reason`: stop, length, stopped or failed; with failed `code` and `sentence` say why."""

    reason: Word
    code: Word
    sentence: Line
    tokens: U32
    accepted: U32
    drafted: U32
    steps: U32


@dataclass(frozen=True, slots=True)
class ChatEvent:
    """Data of topic `chat`: goes only to the client that started the chat."""

    chat: U32
    tokens: Annotated[tuple[ChatToken, ...], Size(0, 4096)]
    end: ChatEnd | None


@dataclass(frozen=True, slots=True)
class Method:
    """What a method takes and gives."""

    params: type
    result: type


METHODS: dict[str, Method] = {
    "hello": Method(Hello, Welcome),
    "state.snapshot": Method(Nothing, Snapshot),
    "subscribe": Method(Topics, Nothing),
    "unsubscribe": Method(Topics, Nothing),
    "pause": Method(Pause, Snapshot),
    "resume": Method(Nothing, Snapshot),
    "settings.get": Method(Nothing, Settings),
    "settings.set": Method(SettingsPatch, Settings),
    "chat.start": Method(ChatStart, ChatStarted),
    "chat.stop": Method(ChatStop, Nothing),
    "quit": Method(Nothing, Nothing),
}
TOPICS: dict[str, type] = {"state": Snapshot, "chat": ChatEvent}
