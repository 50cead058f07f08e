"""The program as a user starts it: a real window process, a real daemon, a real X screen."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest
from PySide6.QtTest import QTest

from gui.instance import Instance
from gui.launch import Launcher, command
from gui.store import Store
from nexusnode.control.scripted import ScriptedDaemon
from p2p.errors import ControlError
from p2p.paths import folders, socket_path

pytestmark = [pytest.mark.slow, pytest.mark.system]
START_SECONDS = 60.0


@pytest.fixture
def machine(screen: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose folders are all below `tmp_path`."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    yield {
        **os.environ,
        "DISPLAY": screen,
        "QT_QPA_PLATFORM": "xcb",
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    nexusnode("stop", tmp_path, {**os.environ, "XDG_RUNTIME_DIR": str(runtime)})


def nexusnode(
    verb: str, data: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    line = [*command(), verb, "--data", str(data / "n")]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)


def start_window(data: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "gui.main", "--data", str(data / "n")]
    return subprocess.Popen(line, env=environment)


def eventually(is_true: Callable[[], object]) -> None:
    due = monotonic() + START_SECONDS
    while not is_true():
        assert monotonic() < due, "what was waited for did not come"
        QTest.qWait(100)


def window_of(process: subprocess.Popen[bytes], environment: dict[str, str]) -> str:
    line = ["xdotool", "search", "--pid", str(process.pid), "--name", "Home – Nexus"]
    return subprocess.run(line, env=environment, capture_output=True, text=True).stdout.strip()


def test_the_window_starts_a_node_and_its_crash_does_not_end_it(qapp, machine, tmp_path):
    window = start_window(tmp_path, machine)
    eventually(lambda: window_of(window, machine))
    eventually(lambda: nexusnode("status", tmp_path, machine).returncode == 0)
    before = nexusnode("status", tmp_path, machine).stdout

    second = start_window(tmp_path, machine)
    assert second.wait(30) == 0
    window.send_signal(signal.SIGKILL)
    window.wait(10)
    after = nexusnode("status", tmp_path, machine).stdout
    third = start_window(tmp_path, machine)
    eventually(lambda: window_of(third, machine))
    third.terminate()

    assert third.wait(30) == 0
    assert "node" in before
    assert after.split("node ")[1].split()[0] == before.split("node ")[1].split()[0]


def test_a_node_of_another_version_is_ended_and_ours_started(qapp, wait_for, machine, tmp_path,
                                                             monkeypatch):  # fmt: skip
    monkeypatch.setenv("XDG_RUNTIME_DIR", machine["XDG_RUNTIME_DIR"])
    home = folders("node", tmp_path / "n")
    path = socket_path(home.data)
    path.parent.mkdir(mode=0o700)
    with ScriptedDaemon(path, version="0.0.1") as old:
        store = Store(path, "0.1.0")
        store.start()
        wait_for(lambda: store.version == "0.0.1")
        launcher = Launcher(store, home, ["--data", str(tmp_path / "n")])

        launcher.restart()
        wait_for(lambda: any(call.method == "quit" for call in old.calls))
        old.close()

    eventually(lambda: store.is_connected and store.version != "0.0.1")
    assert store.bridge.peer_pid
    assert psutil.pid_exists(store.bridge.peer_pid)
    store.stop()


def test_a_node_of_another_api_is_not_restarted_unasked(qapp, wait_for, tmp_path):
    with ScriptedDaemon(tmp_path / "n.sock") as old:
        old.refuse_hello = ControlError("restart the node", "control.api-mismatch")
        store = Store(tmp_path / "n.sock", "0.1.0")
        store.start()
        wait_for(lambda: store.trouble)

        Launcher(store, folders("node", tmp_path / "n"), []).start_if_absent()

        assert store.trouble == ("control.api-mismatch", "restart the node")
        assert not store.is_starting
        store.stop()


def test_the_second_window_raises_the_first(qapp, wait_for, tmp_path):
    first = Instance(tmp_path / "gui.sock")
    raised = []
    first.raised.connect(lambda: raised.append(True))

    assert first.claim()
    assert not Instance(tmp_path / "gui.sock").claim()
    wait_for(lambda: raised)

    first.release()
    assert Instance(tmp_path / "gui.sock").claim()
