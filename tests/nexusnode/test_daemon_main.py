import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from nexusnode.control.client import open_client
from nexusnode.control.messages import (
    Autostart,
    FileTarget,
    HistoryQuery,
    LogQuery,
    Pair,
    Pause,
    RunAnyway,
    SettingsPatch,
    Topics,
)
from nexusnode.daemon.known import KnownHosts
from nexusnode.daemon.main import run_node
from nexusnode.models.catalogue import BUNDLED
from nexusnode.sensors.sensor import Kind, Reading
from p2p.errors import AlreadyRunning, ConfigError, ModelError, NoDaemon
from p2p.log import quiet_log
from p2p.network.memory import MemoryNetwork
from p2p.network.transport import Started
from p2p.paths import folders, socket_path
from p2p.wire.identity import Identity
from p2p.wire.record import HostRecord, Policy, Service, sign_record
from p2p.wire.schema import check

ALWAYS = {"run.when": "always"}
pytestmark = pytest.mark.slow  # the header of the bundled model is read in a real child


class DeafTransport:
    """A transport whose address cannot be listened on."""

    def __init__(self, inner: Any) -> None:
        self.me = inner.me
        self.directory = inner.directory

    async def run(self, *, task_status: Started) -> None:
        raise ConfigError("/ip4/nonsense: cannot be listened on")


def runner(data: Path, workers: Any, flags: dict[str, object] | None = None) -> Any:
    network = MemoryNetwork()
    return partial(
        run_node,
        folders("node", data),
        ALWAYS if flags is None else flags,
        "1.0",
        lambda seed, settings: network.transport(seed),
        quiet_log(),
        workers.open,
    )


async def ask(data: Path, method: str, params: Any = None) -> Any:
    """Call a method as soon as the daemon answers."""

    def blocking() -> Any:
        with open_client(socket_path(data), "1.0") as client:
            return client.call(method, *([] if params is None else [params]))

    with trio.fail_after(20):
        while True:
            try:
                return await trio.to_thread.run_sync(blocking)
            except NoDaemon:
                await trio.sleep(0.05)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    return tmp_path / "n"


async def test_it_answers_until_it_is_told_to_quit(data: Path, workers: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        snapshot = await ask(data, "state.snapshot")
        settings = await ask(data, "settings.get")
        await ask(data, "resume")
        await ask(data, "quit")

    assert snapshot.reason == "ok"
    assert "SmolLM2" in snapshot.model
    assert {pair.key for pair in settings.pairs} >= {"run.when", "chat.url"}
    assert workers.running is None
    assert not socket_path(data).exists()


async def test_a_second_one_on_the_same_folder_is_refused(data: Path, workers: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        await ask(data, "state.snapshot")

        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            await runner(data, workers)()

        await ask(data, "quit")


async def test_a_network_that_cannot_start_ends_it_with_its_reason(
    data: Path, workers: Any
) -> None:
    network = MemoryNetwork()

    with pytest.raises(ConfigError, match="nonsense"):
        await run_node(
            folders("node", data),
            ALWAYS,
            "1.0",
            lambda seed, settings: DeafTransport(network.transport(seed)),
            quiet_log(),
            workers.open,
        )

    assert not socket_path(data).exists()


async def test_a_model_that_cannot_be_used_ends_it_before_it_starts(
    data: Path, tmp_path: Path, workers: Any
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no model")

    with pytest.raises(ModelError, match=r"bad\.gguf"):
        await runner(data, workers, {"models.draft": str(tmp_path / "bad.gguf")})()

    assert workers.started == []


async def test_a_pause_outlasts_a_restart_and_a_resume_ends_it(data: Path, workers: Any) -> None:
    async def started(*calls: tuple[str, Any]) -> list[Any]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner(data, workers))
            snapshots = [await ask(data, *call) for call in (("state.snapshot", None), *calls)]
            await ask(data, "quit")
        return [snapshot.reason for snapshot in snapshots]

    assert await started(("pause", Pause(None, None))) == ["ok", "user-pause"]
    count = len(workers.started)
    assert await started() == ["user-pause"]
    assert len(workers.started) == count
    assert await started(("resume", None)) == ["user-pause", "ok"]
    assert await started() == ["ok"]


async def test_a_host_of_the_last_run_is_tried_though_no_directory_names_it(
    data: Path, workers: Any
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        snapshot = await ask(data, "state.snapshot")
        await ask(data, "quit")
    identity, now = Identity(b"h" * 32), int(time.time())
    service = Service(bytes.fromhex(snapshot.tok_fp), bytes(32), "m", Policy.OPEN, 8)
    record = HostRecord(
        1, identity.public, 1, now, now + 900, ("/memory/x",), (1,), (1,), (service,), ()
    )
    known = KnownHosts(data, quiet_log())
    known.keep(identity.peer, sign_record(record, identity), True)
    await known.save()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        again = await ask(data, "state.snapshot")
        await ask(data, "quit")

    assert snapshot.hosts == ()
    assert [host.peer for host in again.hosts] == [str(identity.peer)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it(data: Path, workers: Any, number: signal.Signals) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        await ask(data, "state.snapshot")

        os.kill(os.getpid(), number)


async def test_a_signal_while_it_still_starts_ends_it_too(data: Path, workers: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        with trio.fail_after(10):
            while not (data / "identity").exists():
                await trio.lowlevel.checkpoint()

        os.kill(os.getpid(), signal.SIGINT)

    assert workers.started == []


async def test_the_window_gets_models_history_log_and_findings(
    data: Path, workers: Any, tmp_path: Path
) -> None:
    now = int(time.time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        models = await ask(data, "models.list")
        storage = await ask(data, "storage")
        history = await ask(data, "history.query", HistoryQuery(now - 3600, now, 360))
        log = await ask(data, "log.tail", LogQuery(100, "info"))
        findings = await ask(data, "doctor")
        report = await ask(data, "diagnostics.preview")
        zipped = await ask(data, "diagnostics.write", FileTarget(str(tmp_path / "r.zip")))
        await ask(data, "quit")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        later = await ask(data, "history.query", HistoryQuery(now - 3600, now + 60, 360))
        csv = await ask(data, "history.export", FileTarget(str(tmp_path / "h.csv")))
        await ask(data, "quit")

    assert [model.name for model in models.models if model.is_active] == [BUNDLED.id]
    assert {folder.name for folder in storage.folders} >= {"models", "data", "logs"}
    assert history.rows == ()
    assert any("node.started" in line for line in log.lines)
    assert {finding.name: finding.status for finding in findings.findings}["model"] == "well"
    assert zipped.bytes > 0
    assert "doctor.txt" in {file.name for file in report.files}
    assert len(later.rows) == 1  # the last seconds of the first run
    assert csv.bytes > 0


class Someone:
    """A sensor of somebody who was last here so many seconds ago."""

    name: ClassVar[str] = "someone"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 0.05

    def __init__(self, idle_seconds: float) -> None:
        self.idle_seconds = idle_seconds

    async def read(self) -> Reading:
        return Reading("here", idle_seconds=self.idle_seconds)

    async def close(self) -> None:
        """Nothing is open."""


async def reason_becomes(data: Path, reason: str) -> None:
    with trio.fail_after(10):
        while (await ask(data, "state.snapshot")).reason != reason:
            await trio.sleep(0.02)


async def test_sensors_decide_and_a_changed_limit_counts_at_once(data: Path, workers: Any) -> None:
    someone = Someone(90.0)
    run = partial(runner(data, workers, {}), make_sensors=lambda folder: (someone,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await reason_becomes(data, "input")
        tested = await ask(data, "idle.test")

        await ask(data, "settings.set", SettingsPatch((Pair("run.idle_minutes", "1"),), None))
        await reason_becomes(data, "ok")
        someone.idle_seconds = 0.0
        await reason_becomes(data, "input")
        anyway = await ask(data, "run_anyway", RunAnyway(600.0))
        meters = await ask(data, "meters")
        await ask(data, "quit")

    assert (tested.detector, tested.idle_seconds) == ("someone", 90.0)
    assert anyway.reason == "ok"
    assert (meters.detector, meters.idle_seconds, meters.celsius) == ("someone", 0.0, None)
    assert [(view.name, view.works) for view in meters.sensors] == [("someone", True)]


async def test_meters_come_every_second_to_who_asked_for_them(data: Path, workers: Any) -> None:
    def watch() -> list[Any]:
        with open_client(socket_path(data), "1.0") as client:
            client.call("subscribe", Topics(("meters",)))
            return [client.next_notice() for _ in range(2)]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        await ask(data, "state.snapshot")
        with trio.fail_after(20):
            first, second = await trio.to_thread.run_sync(watch)
        await ask(data, "quit")

    assert (first.topic, first.seq + 1) == ("meters", second.seq)
    assert first.data.memory_total_bytes > 0
    check(first.data)


async def test_autostart_is_written_by_its_switch_alone(
    data: Path, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        before = await ask(data, "state.snapshot")
        assert not (tmp_path / "config").exists()
        on = await ask(data, "autostart", Autostart(True))
        file = tmp_path / "config" / "autostart" / "org.nexusnode.Nexus.desktop"
        assert "--background" in file.read_text()
        off = await ask(data, "autostart", Autostart(False))
        await ask(data, "quit")

    assert (before.autostart, on.autostart, off.autostart) == (False, True, False)
    assert not file.exists()


async def test_finishing_outlasts_a_restart_as_a_pause(data: Path, workers: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        await ask(data, "state.snapshot")
        finished = await ask(data, "finish")
        await ask(data, "quit")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner(data, workers))
        again = await ask(data, "state.snapshot")
        await ask(data, "quit")

    assert (finished.reason, again.reason) == ("user-pause", "user-pause")
