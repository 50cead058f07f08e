"""Methods and topics of the control API v1 and the shape of what they carry.

Each params, result and data is one frozen dataclass, on the wire an array in field order. A new
field is appended and raises `API`; `Hello` and `Welcome` never change.
"""

from dataclasses import dataclass
from typing import Annotated

from p2p.wire.schema import I64, U16, U32, U64, Real, Size, Span

API = 2
API_MIN = 2

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
    duty: Real
    autostart: bool


@dataclass(frozen=True, slots=True)
class SensorView:
    """One source of facts. `finding` is a sentence: what it says, or why it cannot say anything."""

    name: Word
    kind: Word
    works: bool
    finding: Line


@dataclass(frozen=True, slots=True)
class Meters:
    """What changes by the second. None = nothing here can tell.

    `detector` names the idle sensor in use, "" = none. Rates are over the last seconds, `credited`
    and `committed` over the last hour, bytes since midnight.
    """

    detector: Word
    idle_seconds: Real | None
    device: Line
    celsius: Real | None
    watts: Real | None
    watts_limit: Real | None
    memory_free_bytes: U64
    memory_total_bytes: U64
    duty: Real
    drafted_per_second: Real
    credited: U64
    committed: U64
    received_bytes: U64
    sent_bytes: U64
    sensors: Annotated[tuple[SensorView, ...], Size(0, 64)]


@dataclass(frozen=True, slots=True)
class RunAnyway:
    """Skips what only waits for the user to be away: input, full screen, hours, unknown."""

    for_seconds: Seconds


@dataclass(frozen=True, slots=True)
class IdleTest:
    """What the idle detector says now; `why_not` is a sentence if none works."""

    detector: Word
    idle_seconds: Real | None
    why_not: Line


@dataclass(frozen=True, slots=True)
class SettingView:
    """A row of the settings' table; `value` and `default` as TOML writes them."""

    key: Word
    kind: Word
    value: PathText
    default: PathText
    text: Line
    low: Real | None
    high: Real | None
    choices: Annotated[tuple[Word, ...], Size(0, 64)]
    is_live: bool


@dataclass(frozen=True, slots=True)
class Schema:
    rows: Annotated[tuple[SettingView, ...], Size(0, 128)]


@dataclass(frozen=True, slots=True)
class ModelView:
    """One draft model.

    `fit`: fits, tight or no. `state`: absent, loading, paused, ready, failed. `hosts` want it now.
    `speed`: tokens/s measured here. `seconds_left` of a download, if it can be told.
    """

    name: Line
    family: Line
    licence: Line
    file_bytes: U64
    is_bundled: bool
    is_active: bool
    path: PathText
    fit: Word
    fit_reason: Line
    speed: Real | None
    hosts: U32
    state: Word
    done_bytes: U64
    bytes_per_second: Real
    seconds_left: Real | None
    reason: Line


@dataclass(frozen=True, slots=True)
class Models:
    """`recommended` is a name, with the sentence why."""

    models: Annotated[tuple[ModelView, ...], Size(0, 64)]
    recommended: Line
    recommended_reason: Line
    folder: PathText
    free_bytes: U64


@dataclass(frozen=True, slots=True)
class ModelPull:
    """A name of the catalogue, a Hugging Face id or a URL; `sha256` is needed for a URL."""

    source: PathText
    sha256: Word


@dataclass(frozen=True, slots=True)
class ModelName:
    name: PathText


@dataclass(frozen=True, slots=True)
class ModelMove:
    folder: PathText


@dataclass(frozen=True, slots=True)
class FolderView:
    """A folder of the node's and what it takes on the disk."""

    name: Word
    path: PathText
    bytes: U64
    partial_bytes: U64


@dataclass(frozen=True, slots=True)
class Storage:
    folders: Annotated[tuple[FolderView, ...], Size(0, 16)]


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """`points` rows at most, spread evenly over the time."""

    from_unix_seconds: I64
    to_unix_seconds: I64
    points: U16


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """Sums over one stretch that begins at `unix_seconds`; `state` and `reason` of most of it."""

    unix_seconds: I64
    state: Word
    reason: Word
    drafted: U64
    credited: U64
    committed: U64
    celsius: Real | None
    watts: Real | None
    received_bytes: U64
    sent_bytes: U64


@dataclass(frozen=True, slots=True)
class History:
    step_seconds: Real
    rows: Annotated[tuple[HistoryRow, ...], Size(0, 4096)]


@dataclass(frozen=True, slots=True)
class FileTarget:
    """Where to write a file that the user has chosen."""

    path: PathText


@dataclass(frozen=True, slots=True)
class Written:
    path: PathText
    bytes: U64


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The last `lines` of the log at this level or above: debug, info, warning, error."""

    lines: Annotated[int, Span(1, 2000)]
    level: Word


@dataclass(frozen=True, slots=True)
class LogLines:
    lines: Annotated[tuple[Line, ...], Size(0, 2000)]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of the doctor: `status` is well, note or ill."""

    name: Word
    status: Word
    finding: Line
    meaning: Line
    advice: Line


@dataclass(frozen=True, slots=True)
class Findings:
    findings: Annotated[tuple[Finding, ...], Size(0, 128)]


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A file of the diagnostics archive, redacted, from its beginning."""

    name: Word
    bytes: U64
    text: Annotated[str, Size(0, 65_536)]


@dataclass(frozen=True, slots=True)
class Report:
    files: Annotated[tuple[ReportFile, ...], Size(0, 16)]


@dataclass(frozen=True, slots=True)
class Autostart:
    is_on: bool


@dataclass(frozen=True, slots=True)
class Topics:
    """Of `TOPICS`."""

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
    "run_anyway": Method(RunAnyway, Snapshot),
    "finish": Method(Nothing, Snapshot),
    "meters": Method(Nothing, Meters),
    "idle.test": Method(Nothing, IdleTest),
    "autostart": Method(Autostart, Snapshot),
    "settings.schema": Method(Nothing, Schema),
    "models.list": Method(Nothing, Models),
    "models.pull": Method(ModelPull, Models),
    "models.pause": Method(ModelName, Models),
    "models.resume": Method(ModelName, Models),
    "models.cancel": Method(ModelName, Models),
    "models.delete": Method(ModelName, Models),
    "models.move": Method(ModelMove, Models),
    "storage": Method(Nothing, Storage),
    "storage.free": Method(Nothing, Storage),
    "history.query": Method(HistoryQuery, History),
    "history.export": Method(FileTarget, Written),
    "log.tail": Method(LogQuery, LogLines),
    "doctor": Method(Nothing, Findings),
    "diagnostics.preview": Method(Nothing, Report),
    "diagnostics.write": Method(FileTarget, Written),
    "settings.get": Method(Nothing, Settings),
    "settings.set": Method(SettingsPatch, Settings),
    "chat.start": Method(ChatStart, ChatStarted),
    "chat.stop": Method(ChatStop, Nothing),
    "quit": Method(Nothing, Nothing),
}
TOPICS: dict[str, type] = {
    "state": Snapshot,
    "meters": Meters,
    "models": Models,
    "chat": ChatEvent,
}
