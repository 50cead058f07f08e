"""A child as its parent sees it: real children, whose role is what its first message says."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import pytest
import trio

from p2p.errors import ChildError
from p2p.process import child as child_module
from p2p.process.child import Child, backoff_seconds, describe_exit, open_child
from p2p.wire.schema import Codec, Size

pytestmark = pytest.mark.slow

ROLES = """
import os, signal, sys, time
from dataclasses import dataclass
from typing import Annotated
from p2p.process.pipe import leave, open_pipe
from p2p.wire.schema import Codec, Size

@dataclass(frozen=True, slots=True)
class Say:
    text: Annotated[str, Size(0, 1 << 20)]

@dataclass(frozen=True, slots=True)
class Stop:
    pass

codec = Codec({0: Say, 1: Stop})
pipe = open_pipe(codec, codec)
while True:
    message = pipe.receive()
    if isinstance(message, Stop):
        leave(0)
    match message.text:
        case "die":
            print("something", "very", "wrong", file=sys.stderr, flush=True)
            leave(4)
        case "kill yourself":
            os.kill(os.getpid(), signal.SIGKILL)
        case "be deaf":
            pipe.send(Say("deaf"))
            time.sleep(60)
        case "be stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            pipe.send(Say("stubborn"))
            time.sleep(60)
        case "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "babble":
            os.write(pipe._write_fd, b"\\x00\\x00\\x00\\x01\\xc1")
        case "environment":
            pipe.send(Say(os.environ["NEXUS_TEST"]), Say(str(os.getpid())))
        case text:
            pipe.send(Say(text + "!"))
"""
PARENT = """
import sys, trio
from p2p.process.child import open_child
from p2p.wire.schema import Codec

async def main():
    codec = Codec({})
    async with open_child("roles", codec, codec, role="role") as child:
        print(child.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@dataclass(frozen=True, slots=True)
class Say:
    text: Annotated[str, Size(0, 1 << 20)]


@dataclass(frozen=True, slots=True)
class Stop:
    pass


CODEC = Codec({0: Say, 1: Stop})
Start = Callable[..., AbstractAsyncContextManager[Child]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    (tmp_path / "roles.py").write_text(ROLES)

    def open_role(stop: object | None = None) -> AbstractAsyncContextManager[Child]:
        return open_child(
            "roles",
            CODEC,
            CODEC,
            role="role",
            stop=stop,
            environment={"PYTHONPATH": str(tmp_path), "NEXUS_TEST": "given"},
        )

    return open_role


async def test_a_child_answers_and_is_gone_behind_the_block(start: Start) -> None:
    with trio.fail_after(20):
        async with start() as child:
            await child.send(Say("a"), Say("b"))
            answers = [await child.receive(), await child.receive()]
            assert psutil.pid_exists(child.pid)

    assert answers == [Say("a!"), Say("b!")]
    assert child.process.returncode == -signal.SIGKILL


async def test_a_child_gets_the_environment_it_is_given(start: Start) -> None:
    with trio.fail_after(20):
        async with start() as child:
            await child.send(Say("environment"))

            assert await child.receive() == Say("given")
            assert await child.receive() == Say(str(child.pid))


async def test_a_death_is_told_with_its_status_and_last_lines(start: Start) -> None:
    with trio.fail_after(20):
        async with start() as child:
            await child.send(Say("die"))
            with pytest.raises(ChildError, match=r"role ended with status 4: something very wrong"):
                await child.receive()

        assert child.last_lines == ("something very wrong",)


async def test_a_death_by_a_signal_is_told_by_its_name(start: Start) -> None:
    with trio.fail_after(20):
        async with start() as child:
            await child.send(Say("kill yourself"))
            with pytest.raises(ChildError, match="was ended by SIGKILL"):
                await child.receive()
            with pytest.raises(ChildError, match="was ended by SIGKILL"):
                await child.send(Say("a"))


async def test_a_child_error_leaves_the_block_as_it_is(start: Start) -> None:
    async def run() -> None:
        async with start() as child:
            await child.send(Say("die"))
            await child.receive()

    with trio.fail_after(20), pytest.raises(ChildError):
        await run()


async def test_a_child_that_sends_no_message_is_killed(start: Start) -> None:
    with trio.fail_after(20):
        async with start() as child:
            await child.send(Say("babble"))
            with pytest.raises(ChildError, match="sent what is no message"):
                await child.receive()
            await child.process.wait()

    assert child.process.returncode == -signal.SIGKILL


async def test_stop_is_obeyed_without_a_signal(start: Start) -> None:
    with trio.fail_after(20):
        async with start(Stop()) as child:
            await child.send(Say("a"))
            await child.receive()

    assert child.process.returncode == 0


@pytest.mark.parametrize(
    ("role", "steps", "status"),
    [("be deaf", 1, -signal.SIGTERM), ("be stubborn", 2, -signal.SIGKILL)],
)
async def test_a_child_that_does_not_stop_is_terminated_and_then_killed(
    start: Start, role: str, steps: int, status: int
) -> None:
    with trio.fail_after(20):
        async with start(Stop()) as child:
            await child.send(Say(role))
            await child.receive()
            begun = time.monotonic()
    took = time.monotonic() - begun

    assert child.process.returncode == status
    assert took >= steps * child_module.STOP_SECONDS


async def test_a_stopped_child_whose_pipe_is_full_is_killed_by_the_writer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "WRITE_SECONDS", 0.2)
    with trio.fail_after(20):
        async with start() as child:
            await child.send(Say("freeze"))
            while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
                await trio.lowlevel.checkpoint()
            with pytest.raises(ChildError, match="took no message"):
                await child.send(Say("x" * (1 << 19)))
            await child.process.wait()

    assert child.process.returncode == -signal.SIGKILL


async def test_a_cancelled_block_ends_its_child(start: Start) -> None:
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with start(Stop()) as child:
                scope.cancel()
                await child.receive()

    assert scope.cancelled_caught
    assert child.process.returncode is not None


async def test_a_cancelled_send_still_writes_whole_frames(start: Start) -> None:
    long = "y" * (1 << 19)
    with trio.fail_after(20):
        async with start() as child:
            with trio.CancelScope() as scope:
                scope.cancel()
                await child.send(Say("never written, or all of it"))
            await child.send(Say(long))
            answer = await child.receive()
            if answer != Say(long + "!"):
                answer = await child.receive()

    assert answer == Say(long + "!")


def test_a_child_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "roles.py").write_text(ROLES)
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.communicate()
    gone, alive = psutil.wait_procs([child], timeout=5)

    assert gone
    assert not alive


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (99, 60)]
)
def test_restarts_wait_longer_after_each_death(deaths: int, seconds: float) -> None:
    assert backoff_seconds(deaths) == seconds


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "closed its pipe"),
        (-9, "was ended by SIGKILL"),
        (-6, "was ended by SIGABRT"),
        (3, "ended with status 3"),
    ],
)
def test_an_exit_is_described_in_words(status: int | None, words: str) -> None:
    assert describe_exit(status) == words
