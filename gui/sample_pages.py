"""What the made-up node of `gui/sample.py` says to the other pages: settings, disk, log, report."""

from nexusnode.control.messages import (
    ChatStarted,
    FileTarget,
    Finding,
    Findings,
    FolderView,
    IdleTest,
    LogLines,
    LogQuery,
    Nothing,
    Pair,
    Report,
    ReportFile,
    Schema,
    Settings,
    SettingsPatch,
    SettingView,
    Storage,
    Written,
)
from p2p.settings import Value, toml_value


def _row(
    key: str,
    value: Value,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> SettingView:
    kind = "list" if isinstance(value, tuple) else type(value).__name__
    text = toml_value(value)
    return SettingView(key, kind, text, text, f"Help of {key}.", low, high, choices, True)


SCHEMA = Schema(
    rows=(
        _row("run.when", "idle", choices=("idle", "always")),
        _row("run.idle_minutes", 5, 1, 60),
        _row("run.hours", (), high=64),
        _row("run.timezone", ""),
        _row("run.on_battery", False),
        _row("run.battery_percent", 80, 0, 100),
        _row("run.fullscreen", True),
        _row("run.apps", (), high=64),
        _row("limits.watts", 0, 0, 1000),
        _row("limits.hot_celsius", 80, 50, 105),
        _row("limits.cool_celsius", 72, 40, 100),
        _row("limits.duty", 1.0, 0.05, 1),
        _row("limits.threads", 0, 0, 64),
        _row("limits.memory_reserve_mb", 1024, 0, 65_536),
        _row("limits.disk_reserve_gb", 5.0, 0, 1000),
        _row("limits.gb_per_day", 10.0, 0, 10_000),
        _row("limits.metered", False),
        _row("models.draft", ""),
        _row("hosts.bootstrap", (), high=32),
        _row("hosts.allow", (), high=64),
        _row("chat.url", ""),
    )
)
CHANGED: dict[str, Value] = {
    "run.hours": ("mon 18:00-24:00", "tue 18:00-24:00", "sat 00:00-24:00", "sun 08:00-20:30"),
    "run.apps": ("blender", "davinci-resolve"),
    "hosts.bootstrap": ("/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWNorthRack4eTd",),
    "chat.url": "http://192.0.2.7:8000/v1",
}
STORAGE = Storage(
    (
        FolderView("models", "/home/you/.local/share/nexus/node/models", 623_000_000, 96_000_000),
        FolderView("data", "/home/you/.local/share/nexus/node", 2_500_000, 0),
        FolderView("logs", "/home/you/.local/state/nexus/node", 900_000, 0),
    )
)
LOG = LogLines(
    (
        "22:01:14 info daemon.started pid=4242",
        "22:01:15 info host.connected peer=12D3…4eTd",
        "22:02:40 warning block.refused code=frame.late",
        "22:03:02 info worker.ready model=SmolLM2",
    )
)
FINDINGS = Findings(
    (
        Finding("Idle by X11", "well", "The last input was 39 minutes ago.", "", ""),
        Finding("Graphics card", "well", "GeForce RTX 3060, 61 °C.", "", ""),
        Finding(
            "Battery",
            "note",
            "No battery was found.",
            "The rule for batteries has nothing to look at.",
            "",
        ),
    )
)
REPORT = Report(
    (
        ReportFile("doctor.txt", 71, "Idle by X11: well\nGraphics card: well\nBattery: note\n"),
        ReportFile("log.txt", 140, "\n".join(LOG.lines)),
    )
)


def page_answers() -> dict[str, object]:
    """Return answers that remember what `settings.set` has changed."""
    values = {row.key: row.value for row in SCHEMA.rows}
    values |= {key: toml_value(value) for key, value in CHANGED.items()}
    revision = [1]

    def get(_: Nothing) -> Settings:
        pairs = tuple(Pair(key, value) for key, value in values.items())
        return Settings(revision[0], pairs, ())

    def change(patch: SettingsPatch) -> Settings:
        values.update({pair.key: pair.value for pair in patch.pairs if pair.key in values})
        revision[0] += 1
        return get(Nothing())

    def read_log(query: LogQuery) -> LogLines:
        is_all = query.level in ("debug", "info")
        return LogLines(tuple(line for line in LOG.lines if is_all or " info " not in line))

    def write(target: FileTarget) -> Written:
        return Written(target.path, 4321)

    return {
        "settings.schema": SCHEMA,
        "settings.get": get,
        "settings.set": change,
        "idle.test": IdleTest("X11", 1.0, ""),
        "storage": STORAGE,
        "storage.free": STORAGE,
        "log.tail": read_log,
        "doctor": FINDINGS,
        "diagnostics.preview": REPORT,
        "diagnostics.write": write,
        "history.export": write,
        "chat.start": ChatStarted(1),
        "chat.stop": Nothing(),
    }
