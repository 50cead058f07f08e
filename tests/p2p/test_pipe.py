"""The child's half of a pipe, in real Python children that are spoken to by bytes."""

import os
import signal
import subprocess
import sys

import pytest

from p2p.process.pipe import EXIT_FAULT, EXIT_STOP
from p2p.wire.frame import FrameDecoder, frame
from p2p.wire.schema import packb, unpackb

pytestmark = pytest.mark.slow

SECONDS = 20
CHILD = """
import ctypes, time
from dataclasses import dataclass
from p2p.process.pipe import open_pipe
from p2p.wire.schema import U32, Codec

@dataclass(frozen=True, slots=True)
class Number:
    n: U32

codec = Codec({0: Number})
pipe = open_pipe(codec, codec)
"""
ECHO = """
while True:
    message = pipe.receive()
    print("printed by Python", flush=True)
    ctypes.CDLL(None).puts(b"printed by C")
    ctypes.CDLL(None).fflush(None)
    pipe.send(Number(message.n + 1), Number(message.n + 2))
"""


class Spoken:
    """A child and the numbers that come from it."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._decoder = FrameDecoder()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self, count: int) -> list[object]:
        """Return the next `count` numbers, or those before the child's end."""
        assert self.process.stdout is not None
        found: list[object] = []
        while len(found) < count and (data := os.read(self.process.stdout.fileno(), 4096)):
            found += [unpackb(body)[1] for body in self._decoder.feed(data)]
        return found

    def end(self) -> tuple[int, bytes]:
        """Close the pipe; return the exit status and what was printed."""
        _, printed = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, printed


def number(n: object) -> bytes:
    return frame(packb([0, n]))


def test_messages_are_answered_in_order_and_prints_do_not_reach_the_pipe() -> None:
    child = Spoken(ECHO)

    child.write(number(1) + number(10))
    answers = child.read(4)
    status, printed = child.end()

    assert answers == [2, 3, 11, 12]
    assert status == EXIT_STOP
    assert b"printed by Python" in printed
    assert b"printed by C" in printed


# A child that is measured for coverage saves its data as it leaves, some thousand turns at the GIL;
# at 5 ms each, the default, a busy loop beside it makes that last half a minute.
BUSY = "import sys; sys.setswitchinterval(1e-4)\nwhile True: pass"


@pytest.mark.parametrize(
    "busy", ["time.sleep(60)", BUSY, "pipe.receive()"], ids=["asleep", "busy", "waiting"]
)
def test_a_child_leaves_when_its_parent_closes_the_pipe_whatever_it_does(busy: str) -> None:
    child = Spoken("pipe.send(Number(0))\n" + busy)
    child.read(1)

    status, _ = child.end()

    assert status == EXIT_STOP


@pytest.mark.parametrize(
    "data",
    [number("no number"), number(2**32), frame(packb([9])), b"\xff" * 8, frame(b"\xc1")],
    ids=["type", "bounds", "unknown", "length", "bytes"],
)
def test_what_is_no_message_ends_the_child_with_a_reason(data: bytes) -> None:
    child = Spoken("time.sleep(60)")

    child.write(data)
    child.process.wait(SECONDS)  # the pipe is still open
    status, printed = child.end()

    assert status == EXIT_FAULT
    assert b"cannot be read" in printed


def test_a_child_that_writes_to_a_parent_that_does_not_read_any_more_leaves_quietly() -> None:
    child = Spoken("pipe.receive()\nwhile True: pipe.send(Number(1))")
    assert child.process.stdout is not None

    child.process.stdout.close()
    child.write(number(1))
    child.process.wait(SECONDS)

    assert child.end() == (EXIT_STOP, b"")


def test_a_timeout_returns_nothing_and_drain_returns_all_that_came() -> None:
    child = Spoken(
        "assert pipe.drain() == []\n"
        "assert pipe.receive(0.01) is None\n"
        "pipe.send(Number(0))\n"
        "got = []\n"
        "while len(got) < 3: got += pipe.drain()\n"
        "pipe.send(*got)\n"
        "time.sleep(60)\n"
    )
    ready = child.read(1)

    child.write(number(5) + number(6) + number(7))
    got = child.read(3)
    child.end()

    assert ready == [0]
    assert got == [5, 6, 7]


def test_ctrl_c_in_the_terminal_is_left_to_the_parent() -> None:
    child = Spoken("pipe.send(Number(0))\npipe.receive()\npipe.send(Number(8))\ntime.sleep(60)")
    child.read(1)

    child.process.send_signal(signal.SIGINT)
    child.write(number(1))
    answers = child.read(1)
    status, _ = child.end()

    assert answers == [8]
    assert status == EXIT_STOP
