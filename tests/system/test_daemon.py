"""The daemon as a person meets it: one real `nexusnode run`, spoken to by the real commands."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from p2p.paths import folders, socket_path

pytestmark = [pytest.mark.system, pytest.mark.slow]

NEXUSNODE = str(Path(sys.executable).parent / "nexusnode")
START_SECONDS = 60.0


class Daemon:
    """A running `nexusnode run --always`, and what its commands say."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log = data.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> None:
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [NEXUSNODE, "run", "--data", str(self.data), *flags],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [NEXUSNODE, *words, "--data", str(self.data)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        done = self.call("status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def worker_state(self) -> str | None:
        found = self.status()
        return found["worker"]["state"] if found else None

    def wait(self, is_true: Callable[[], object], seconds: float = START_SECONDS) -> float:
        """Wait until something holds; return how long it took."""
        started = time.monotonic()
        while not is_true():
            assert time.monotonic() - started < seconds, self.log.read_text()
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return time.monotonic() - started

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    for display in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(display, raising=False)  # nobody's input counts here
    found = Daemon(tmp_path / "node")
    yield found
    found.end()


def test_one_daemon_owns_its_folder_and_answers_its_commands(daemon: Daemon) -> None:
    daemon.start("--always")
    daemon.wait(lambda: daemon.worker_state() == "ready")
    path = socket_path(folders("node", daemon.data).data)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((daemon.data / "identity").stat().st_mode) == 0o600
    assert daemon.status()["node_id"] == daemon.call("id").stdout.strip()

    second = daemon.call("run")
    assert second.returncode == 4
    assert "already runs" in second.stderr
    assert "Traceback" not in second.stderr

    (worker,) = daemon.children()
    assert "Paused: for a while" in daemon.call("pause", "--for", "1h").stdout
    worker.wait(2)
    daemon.wait(lambda: daemon.worker_state() == "absent", 5)
    assert daemon.status()["reason"] == "snooze"
    assert daemon.call("resume").returncode == 0
    daemon.wait(lambda: daemon.worker_state() == "ready")

    (worker,) = daemon.children()
    stopped = daemon.call("stop")
    assert stopped.stdout == "The node has ended.\n"
    assert daemon.process is not None
    assert daemon.process.wait(10) == 0
    assert not worker.is_running()
    assert not path.exists()
    assert daemon.call("status").returncode == 4


def test_a_worker_that_is_killed_is_restarted_at_once(daemon: Daemon) -> None:
    daemon.start("--always")
    daemon.wait(lambda: daemon.worker_state() == "ready")
    (worker,) = daemon.children()

    worker.kill()
    took = daemon.wait(lambda: {child.pid for child in daemon.children()} - {worker.pid}, 5)
    daemon.wait(lambda: daemon.worker_state() == "ready")

    assert took < 1.0
    assert daemon.status()["restarts"] == 1
    assert "SIGKILL" in daemon.status()["worker"]["reason"]


def test_a_worker_that_hangs_is_killed_and_replaced(daemon: Daemon) -> None:
    daemon.start("--always")
    daemon.wait(lambda: daemon.worker_state() == "ready")
    (worker,) = daemon.children()

    worker.suspend()
    daemon.wait(lambda: not worker.is_running(), 20)
    daemon.wait(lambda: daemon.worker_state() == "ready")

    assert "silent" in daemon.status()["worker"]["reason"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_leaves_no_process(
    daemon: Daemon, number: signal.Signals
) -> None:
    daemon.start("--always")
    daemon.wait(lambda: daemon.worker_state() == "ready")
    children = daemon.children()
    assert daemon.process is not None

    daemon.process.send_signal(number)

    assert daemon.process.wait(10) == 0
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in daemon.log.read_text()
    assert not socket_path(folders("node", daemon.data).data).exists()


def test_a_daemon_that_is_killed_takes_its_worker_along_and_its_folder_can_be_used_again(
    daemon: Daemon,
) -> None:
    daemon.start("--always")
    daemon.wait(lambda: daemon.worker_state() == "ready")
    children = daemon.children()
    assert daemon.process is not None

    daemon.process.kill()
    daemon.process.wait()
    psutil.wait_procs(children, timeout=5)
    assert not any(child.is_running() for child in children)

    daemon.start("--always")
    daemon.wait(lambda: daemon.worker_state() == "ready")


def test_without_always_it_is_ready_but_paused_and_says_why(daemon: Daemon) -> None:
    daemon.start()
    daemon.wait(daemon.status)

    assert "cannot tell whether you are away" in daemon.call("status").stdout
    assert daemon.children() == []


def test_watching_shows_a_pause_as_it_happens_and_ends_with_ctrl_c(daemon: Daemon) -> None:
    daemon.start("--always")
    daemon.wait(lambda: daemon.worker_state() == "ready")
    watch = subprocess.Popen(
        [NEXUSNODE, "status", "--watch", "--json", "--data", str(daemon.data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["state"] == "running"

    daemon.call("pause")
    while json.loads(watch.stdout.readline())["state"] != "paused":
        pass
    watch.send_signal(signal.SIGINT)

    assert watch.wait(5) == 130
    assert watch.stderr is not None
    assert watch.stderr.read() == ""


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--model", "/nowhere/x.gguf"], 6, "/nowhere/x.gguf"),
        (["--model", "nothing"], 6, "nothing"),
        (["--threads", "-1"], 3, "limits.threads"),
        (["--bootstrap", "nonsense"], 3, "nonsense"),
        (["--always", "--listen", "nonsense"], 3, "nonsense"),
    ],
)
def test_a_start_that_cannot_succeed_says_why_in_one_line(
    daemon: Daemon, flags: list[str], status: int, words: str
) -> None:
    done = daemon.call("run", *flags)

    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ip", ["127.0.0.1", "0.0.0.0"])
def test_a_bootstrap_peer_says_its_address_and_ends_on_sigterm(ip: str, tmp_path: Path) -> None:
    address = tmp_path / "address"
    process = subprocess.Popen(
        [NEXUSNODE, "bootstrap", "--listen", f"/ip4/{ip}/tcp/0", "--data", str(tmp_path / "b"),
         "--address-file", str(address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    started = time.monotonic()
    while not address.exists() and time.monotonic() - started < 10:
        time.sleep(0.01)

    process.send_signal(signal.SIGTERM)

    line = process.communicate(timeout=10)[0].splitlines()[0]
    assert process.returncode == 0
    assert line.startswith("listening on /ip4/")
    assert ip == "0.0.0.0" or ip in line
    assert "0.0.0.0" not in line
    assert address.read_text().strip() in line
    assert stat.S_IMODE((tmp_path / "b" / "identity").stat().st_mode) == 0o600
