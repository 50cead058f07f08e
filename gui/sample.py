"""One made-up node, for the pictures and the tests of the window. Nothing of it is ever shown to
a user."""

import math
from dataclasses import replace

from nexusnode.control.messages import (
    History,
    HistoryQuery,
    HistoryRow,
    HostView,
    Meters,
    Models,
    ModelView,
    Pair,
    Schema,
    SensorView,
    Settings,
    Snapshot,
    WorkerView,
)

GB = 1 << 30
SNAPSHOT = Snapshot(
    state="running",
    reason="ok",
    blockers=(),
    missing=(),
    until_unix_seconds=None,
    node_id="12D3KooWQqFkzU8yTqN1rk7Qa",
    model="SmolLM2 135M Instruct",
    model_path="/models/smollm2.gguf",
    tok_fp="a1b2c3d4",
    worker=WorkerView("drafting", "", 4242, 0, 2, 531 << 20),
    hosts=(
        HostView("12D3KooWNorthRack4eTd", "192.0.2.7:4001", "serving", "", 1, 90210, 31904, 43764),
        HostView("12D3KooWSouthHall9xPb", "192.0.2.9:4001", "serving", "", 1, 51800, 16306, 23944),
    ),
    bootstrap_peers=14,
    uptime_seconds=7200.0,
    duty=1.0,
    autostart=False,
)
METERS = Meters(
    detector="X11",
    idle_seconds=2340.0,
    device="GeForce RTX 3060",
    celsius=61.0,
    watts=86.0,
    watts_limit=120.0,
    memory_free_bytes=int(9.5 * GB),
    memory_total_bytes=12 * GB,
    duty=1.0,
    drafted_per_second=118.0,
    credited=34_100,
    committed=47_760,
    received_bytes=81_000_000,
    sent_bytes=64_000_000,
    sensors=(
        SensorView("X11", "idle", True, "You moved the mouse or typed 39 minutes ago."),
        SensorView("UPower", "power", True, "On mains power."),
        SensorView("NetworkManager", "network", True, "This network is not metered."),
        SensorView("X11", "fullscreen", True, "No full-screen program."),
        SensorView("NVML", "heat", True, "61 °C, 86 W."),
    ),
)
MODELS = Models(
    models=(
        ModelView(
            "smollm2-135m-instruct-q4_0", "SmolLM2", "Apache-2.0", 92 << 20, True, True,
            "/models/smollm2.gguf", "fits", "Fits with 9.5 GB to spare.", 310.0, 2, "ready",
            92 << 20, 0.0, None, "",
        ),
        ModelView(
            "qwen2.5-0.5b-instruct-q8_0", "Qwen2.5", "Apache-2.0", 531 << 20, False, False, "",
            "fits", "Fits with 8.9 GB to spare.", None, 12, "absent", 0, 0.0, None, "",
        ),
    ),
    recommended="qwen2.5-0.5b-instruct-q8_0",
    recommended_reason="Fits with 8.9 GB to spare; 12 hosts use it.",
    folder="/models",
    free_bytes=120 * GB,
)  # fmt: skip
SETTINGS = Settings(
    revision=3,
    pairs=(
        Pair("run.when", '"idle"'),
        Pair("run.idle_minutes", "5"),
        Pair("limits.hot_celsius", "80"),
    ),
    needs_restart=(),
)
SCHEMA = Schema(rows=())

PAUSED = replace(
    SNAPSHOT, state="paused", reason="input", blockers=("input",),
    worker=WorkerView("absent", "", None, 0, 0, 0),
)  # fmt: skip
NO_HOST = replace(SNAPSHOT, missing=("no-host",), hosts=())


def history(query: HistoryQuery) -> History:
    """Return a lively past: a wave of kept tokens with one stretch of pause in it."""
    span = query.to_unix_seconds - query.from_unix_seconds
    count = max(2, min(query.points, 120))
    step = span / count
    return History(step, tuple(_row(query, step, index, count) for index in range(count)))


def default_answers() -> dict[str, object]:
    """Return what the made-up node says to each method that only asks."""
    return {
        "state.snapshot": SNAPSHOT,
        "meters": METERS,
        "models.list": MODELS,
        "settings.get": SETTINGS,
        "settings.schema": SCHEMA,
        "history.query": history,
        "pause": replace(SNAPSHOT, state="paused", reason="user-pause"),
        "resume": SNAPSHOT,
        "run_anyway": SNAPSHOT,
        "finish": replace(SNAPSHOT, state="finishing", reason="finish-then-pause"),
    }


def _row(query: HistoryQuery, step: float, index: int, count: int) -> HistoryRow:
    is_paused = 0.3 < index / count < 0.44
    wave = 560 + 130 * math.sin(index / 6) + 45 * math.sin(index * 0.9) + 18 * math.sin(index * 2.3)
    kept = 0 if is_paused else int(wave * step / 60)
    return HistoryRow(
        query.from_unix_seconds + int(index * step),
        "paused" if is_paused else "running",
        "input" if is_paused else "ok",
        kept * 3, kept, int(kept / 0.71), 61.0, 14.0 if is_paused else 86.0, kept * 40, kept * 30,
    )  # fmt: skip
