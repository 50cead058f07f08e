"""From what makes the node stop to its worker gone: below 2 s, whatever it was.

The daemon, its socket, its sensors and the worker's process are real; the worker has no model, so
that it starts within a second.
"""

import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from nexusnode.control.client import ControlClient, open_client
from nexusnode.control.messages import Pause
from nexusnode.daemon.main import run_node
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER
from nexusnode.sensors.idle_x11 import IdleX11
from nexusnode.sensors.programs import Programs
from nexusnode.sensors.sensor import Reading, Sensor
from p2p.errors import NoDaemon
from p2p.log import quiet_log
from p2p.network.memory import MemoryNetwork
from p2p.paths import folders, socket_path
from p2p.process.child import open_child

pytestmark = [pytest.mark.system, pytest.mark.slow]

TRIGGERS = int(os.environ.get("NEXUS_RELEASE_TRIGGERS", "8"))
RELEASE_SECONDS = 2.0
START_SECONDS = 30.0
QUIET_SECONDS = 1.5


class ShortMinutes(IdleX11):
    """The real sensor, but that `QUIET_SECONDS` without input already count as an hour."""

    async def read(self) -> Reading:
        seconds = (await super().read()).idle_seconds or 0.0
        return Reading("", idle_seconds=seconds if seconds < QUIET_SECONDS else 3600.0)


def open_quick_worker() -> AbstractAsyncContextManager[Any]:
    here = Path(__file__)
    path = os.pathsep.join([str(here.parent), str(here.parents[2])])
    return open_child("quick_worker", FROM_WORKER, TO_WORKER, role="quick worker",
                      environment={"PYTHONPATH": path})  # fmt: skip


class Node:
    """A daemon in this process, and its clients in threads."""

    def __init__(self, data: Path) -> None:
        self.data = data

    async def ask(self, method: str, *params: Any) -> Any:
        def blocking() -> Any:
            client: ControlClient
            with open_client(socket_path(self.data), "1.0") as client:
                return client.call(method, *params)

        return await trio.to_thread.run_sync(blocking)

    async def worker(self) -> int:
        """Wait until a worker is ready; return its process."""
        with trio.fail_after(START_SECONDS):
            while True:
                try:
                    view = (await self.ask("state.snapshot")).worker
                    if view.state == "ready" and view.pid is not None:
                        assert psutil.pid_exists(view.pid)
                        return int(view.pid)
                except NoDaemon:
                    pass
                await trio.sleep(0.02)


@asynccontextmanager
async def running(
    data: Path, flags: dict[str, object], sensors: tuple[Sensor, ...]
) -> AsyncIterator[Node]:
    network = MemoryNetwork()
    node = Node(data)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(
                run_node,
                folders("node", data),
                flags,
                "1.0",
                lambda seed, settings: network.transport(seed),
                quiet_log(),
                open_quick_worker,
                lambda folder: sensors,
            )
        )
        yield node
        await node.ask("quit")


async def gone(pid: int, since: float) -> float:
    """Wait until the process is reaped; return the seconds since `since`."""
    with trio.fail_after(START_SECONDS):
        while psutil.pid_exists(pid):
            await trio.sleep(0.005)
    return time.monotonic() - since


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    return tmp_path / "n"


async def test_a_pause_frees_the_memory_at_once(data: Path) -> None:
    took = []
    async with running(data, {"run.when": "always"}, ()) as node:
        for _ in range(TRIGGERS):
            pid, started = await node.worker(), time.monotonic()
            await node.ask("pause", Pause(None, None))
            took.append(await gone(pid, started))
            await node.ask("resume")
        pid, started = await node.worker(), time.monotonic()

    assert max(took) < RELEASE_SECONDS
    assert not psutil.pid_exists(pid)  # quitting leaves none behind


async def test_a_program_of_the_list_frees_the_memory_within_two_seconds(data: Path) -> None:
    took = []
    flags: dict[str, object] = {"run.when": "always", "run.apps": ("nexus-test-game",)}
    game = data.parent / "nexus-test-game"
    game.symlink_to("/bin/sleep")
    async with running(data, flags, (Programs(),)) as node:
        for _ in range(TRIGGERS):
            pid, started = await node.worker(), time.monotonic()
            played = subprocess.Popen([str(game), "60"])
            took.append(await gone(pid, started))
            assert (await node.ask("state.snapshot")).reason == "exclusive-app"
            played.kill()
            played.wait()

    assert max(took) < RELEASE_SECONDS


async def test_a_moved_mouse_frees_the_memory_within_two_seconds(
    data: Path, open_display: Callable[[], str]
) -> None:
    display = open_display()
    took = []
    async with running(data, {}, (ShortMinutes({"DISPLAY": display}),)) as node:
        for number in range(max(1, TRIGGERS // 2)):
            pid, started = await node.worker(), time.monotonic()
            subprocess.run(
                ["xdotool", "mousemove", str(10 + number % 2), "10"],
                env={**os.environ, "DISPLAY": display},
                check=True,
                timeout=20,
            )
            took.append(await gone(pid, started))
            assert (await node.ask("state.snapshot")).reason == "input"

    assert max(took) < RELEASE_SECONDS


@pytest.fixture
def open_display() -> Any:
    servers: list[subprocess.Popen[bytes]] = []

    def start() -> str:
        inner, outer = os.pipe()
        servers.append(
            subprocess.Popen(
                ["Xvfb", "-displayfd", str(outer), "-screen", "0", "640x480x24"],
                pass_fds=(outer,),
                stderr=subprocess.DEVNULL,
            )
        )
        os.close(outer)
        with os.fdopen(inner) as pipe:
            return f":{pipe.readline().strip()}"

    yield start
    for server in servers:
        server.terminate()
        server.wait(10)
