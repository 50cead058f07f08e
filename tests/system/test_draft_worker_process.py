"""The draft worker as the daemon runs it: a real child with the bundled model."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

import nexusnode.models
from nexusnode.draft.launch import DEFAULT_NICE, MODULE, NICE_VARIABLE, environment
from nexusnode.draft.messages import (
    FROM_WORKER,
    TO_WORKER,
    Budget,
    Close,
    Commit,
    Fault,
    Grown,
    Growth,
    Load,
    Loaded,
    Open,
    Ping,
    Pong,
    Stats,
    Stop,
)
from p2p.errors import ChildError
from p2p.process.child import Child, open_child
from p2p.process.pipe import EXIT_MODEL, EXIT_STOP
from p2p.wire.messages import Sampler

pytestmark = [pytest.mark.system, pytest.mark.slow]

BUNDLED = Path(nexusnode.models.__path__[0]) / "bundled" / "smollm2-draft-50m-q4_0.gguf"
PROMPT = tuple(range(1000, 1040))
SECONDS = 60


def load(path: Path = BUNDLED, sessions: int = 2) -> Load:
    return Load(str(path), "known", "cpu", 1, sessions, 512)


def opened(session: int = 1, tokens: Sequence[int] = PROMPT, next_id: int = 1) -> Open:
    sampler = Sampler(0, 0, 1000, 0)
    return Open(session, 1, b"eightkey", sampler, 400, tuple(tokens), True, 16, 8, next_id)


def start(nice: int = 0) -> AbstractAsyncContextManager[Child]:
    """Start a worker that does not give way: these tests must end on a busy machine too."""
    variables = {**environment(1), NICE_VARIABLE: str(nice)}
    return open_child(MODULE, FROM_WORKER, TO_WORKER, role="draft worker", environment=variables)


@asynccontextmanager
async def ready(sessions: int = 2, nice: int = 0) -> AsyncIterator[Child]:
    with trio.fail_after(SECONDS):
        async with start(nice) as child:
            await child.send(load(sessions=sessions))
            assert isinstance(await child.receive(), Loaded)
            yield child


async def said(child: Child, kind: type) -> Any:
    """Return the next message of a kind."""
    while not isinstance(message := await child.receive(), kind):
        pass
    return message


async def rest(child: Child, n: int) -> list[Growth]:
    """Return what grew until the worker answers a ping twice without growing in between."""
    growths: list[Growth] = []
    quiet = 0
    while quiet < 2:
        await child.send(Ping(n))
        before = len(growths)
        while not isinstance(message := await child.receive(), Pong):
            if isinstance(message, Grown):
                growths += message.growths
        quiet = quiet + 1 if growths and len(growths) == before else 0
        await trio.sleep(0.05)  # lets the worker decode: the end of growing is no event
    return growths


async def test_a_session_grows_and_a_commit_moves_its_root() -> None:
    async with ready() as child:
        await child.send(opened())
        growths = await rest(child, 1)
        head = growths[0].tokens[0]

        await child.send(Commit(1, len(PROMPT), 1, (head,), 16, 8))
        onward = await rest(child, 2)

    assert all(growth.pos == len(PROMPT) for growth in growths)
    assert all(growth.pos == len(PROMPT) + 1 for growth in onward)
    assert growths[0].first == 1
    assert onward[0].first == growths[-1].first + len(growths[-1].tokens)
    assert min(onward[0].parents) > 1


async def test_a_restarted_worker_that_is_replayed_guesses_the_same() -> None:
    async with ready() as child:
        await child.send(opened())
        growths = await rest(child, 1)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(ChildError, match="SIGKILL"):
            await said(child, Stats)
    head = growths[0].tokens[0]

    async with ready() as child:
        await child.send(opened(tokens=[*PROMPT, head], next_id=100))
        again = await rest(child, 1)

    assert again[0].first == 100
    assert again[0].tokens[0] in {
        token
        for growth in growths
        for parent, token in zip(growth.parents, growth.tokens, strict=True)
        if parent == 1
    }


async def test_a_worker_without_budget_uses_no_processor_time() -> None:
    async with ready() as child:
        await child.send(opened())
        await rest(child, 1)
        await child.send(Budget(1, 0, 0), Ping(2))
        await said(child, Pong)
        process = psutil.Process(child.pid)
        before = process.cpu_times()

        await trio.sleep(2.0)

        after = process.cpu_times()
        spent = after.user + after.system - before.user - before.system
    assert spent <= 0.02 * 2.0


async def test_a_worker_gives_way_to_everything_else() -> None:
    async with ready(nice=DEFAULT_NICE) as child:
        process = psutil.Process(child.pid)

        assert process.nice() == 19
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "800"


async def test_stop_ends_it_by_itself() -> None:
    async with ready() as child:
        await child.send(Stop())
        await child.process.wait()

    assert child.process.returncode == EXIT_STOP


async def test_a_worker_outlives_the_thread_that_started_it_but_not_the_pipe() -> None:
    async with ready() as child:
        assert child.process.stdin is not None
        await child.process.stdin.aclose()
        await child.process.wait()

    assert child.process.returncode == EXIT_STOP


@pytest.mark.parametrize("content", ["cut", "foreign", "absent"])
async def test_a_model_that_cannot_be_used_is_a_fault_and_status_3(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "model.gguf"
    if content == "cut":
        path.write_bytes(BUNDLED.read_bytes()[:1_000_000])
    elif content == "foreign":
        path.write_bytes(b"\x7fELF" + bytes(100_000))

    with trio.fail_after(SECONDS):
        async with start() as child:
            await child.send(load(path))
            fault = await child.receive()
            await child.process.wait()

    assert isinstance(fault, Fault)
    assert fault.kind == "model"
    assert "model.gguf" in fault.text
    assert child.process.returncode == EXIT_MODEL


async def test_two_hundred_sessions_leave_no_memory_behind() -> None:
    async with ready(sessions=4) as child:
        process = psutil.Process(child.pid)
        settled = 0
        for number in range(1, 201):
            tokens = [1000 + (number * 7 + place) % 900 for place in range(60)]
            await child.send(opened(number, tokens))
            grown = await said(child, Grown)
            head = grown.growths[0].tokens[0]
            await child.send(Commit(number, 60, 0, (head, 17), 16, 8))
            await said(child, Grown)
            await child.send(Close(number))
            if number == 50:
                settled = process.memory_info().rss
        left = process.memory_info().rss

    assert left <= settled * 1.05


def test_a_worker_is_gone_soon_after_its_daemon_was_killed(tmp_path: Path) -> None:
    code = (
        "import trio\n"
        "from nexusnode.draft.launch import MODULE\n"
        "from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Load\n"
        "from p2p.process.child import open_child\n"
        "async def main():\n"
        "    async with open_child(MODULE, FROM_WORKER, TO_WORKER, role='draft') as child:\n"
        f"        await child.send(Load({str(BUNDLED)!r}, '', 'cpu', 1, 1, 512))\n"
        "        await child.receive()\n"
        "        print(child.pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, NICE_VARIABLE: "0"},
    )
    assert daemon.stdout is not None
    worker = psutil.Process(int(daemon.stdout.readline()))

    daemon.kill()
    daemon.communicate()
    gone, alive = psutil.wait_procs([worker], timeout=2)

    assert gone
    assert not alive
