"""A child process as its parent sees it: started by module name, spoken to in frames, always ended.

Restarting is the owner's decision (it must replay what the child knew); `backoff_seconds` says
when.
"""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from p2p.errors import ChildError, NexusError, PeerError
from p2p.paths import frozen_program
from p2p.wire.frame import FrameDecoder, frame
from p2p.wire.schema import Codec

LINES_KEPT = 200
STOP_SECONDS = 0.5  # after the Stop frame, and again after SIGTERM; chosen
WRITE_SECONDS = 10.0
BACKOFF_CAP_SECONDS = 60.0
_READ_BYTES = 1 << 16


class Child:
    """A running child. `receive` and `send` raise `ChildError` once it has ended."""

    def __init__(self, role: str, process: trio.Process, incoming: Codec, outgoing: Codec) -> None:
        self.role = role
        self.process = process
        self._incoming = incoming
        self._outgoing = outgoing
        self._decoder = FrameDecoder()
        self._ready: deque[Any] = deque()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._write_lock = trio.Lock()

    @property
    def pid(self) -> int:
        return self.process.pid

    async def receive(self) -> Any:
        """Return the child's next message."""
        assert self.process.stdout is not None
        while not self._ready:
            try:
                data = await self.process.stdout.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise await self._ended()
            try:
                self._ready.extend(self._incoming.unpack(body) for body in self._decoder.feed(data))
            except PeerError as error:
                self.kill()
                raise ChildError(f"{self.role} sent what is no message: {error}; killed") from error
        return self._ready.popleft()

    async def send(self, *messages: object) -> None:
        """Write the messages in one go; a child that does not take them in `WRITE_SECONDS` is
        killed. Cancellation waits for that: half a frame would spoil all that follow."""
        await self._write(WRITE_SECONDS, messages)

    def kill(self) -> None:
        """End the child now. Nothing it holds is worth a wait: its parent can replay it."""
        self.process.kill()

    @property
    def last_lines(self) -> tuple[str, ...]:
        """What the child and its libraries printed last."""
        return tuple(self._lines)

    async def _write(self, seconds: float, messages: Sequence[object]) -> None:
        assert self.process.stdin is not None
        data = b"".join(frame(self._outgoing.pack(message)) for message in messages)
        async with self._write_lock:
            try:
                with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True) as scope:
                    await self.process.stdin.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise await self._ended() from None
        if scope.cancelled_caught:
            self.kill()
            raise ChildError(f"{self.role} took no message for {seconds:g} s; killed")

    async def _ended(self) -> ChildError:
        with trio.move_on_after(STOP_SECONDS):
            await self.process.wait()
        tail = " | ".join(list(self._lines)[-3:])
        how = describe_exit(self.process.returncode)
        return ChildError(f"{self.role} {how}" + (f": {tail}" if tail else ""))

    async def _keep_lines(self) -> None:
        assert self.process.stderr is not None
        rest = b""
        async for data in self.process.stderr:
            *lines, rest = (rest + data).split(b"\n")
            self._lines.extend(line.decode(errors="replace")[:500] for line in lines)
            rest = rest[-4096:]


@asynccontextmanager
async def open_child(
    module: str,
    incoming: Codec,
    outgoing: Codec,
    *,
    role: str,
    stop: object | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run `module` as a process (`command`) and speak frames with it; it never outlives the block.

    An error of ours raised in the block comes out as it is, not in a group.

    Args:
        stop: the message that asks it to leave; None = kill it at once (draft worker: a SIGTERM to
            a busy llama.cpp took up to 22.9 s, median of ten 8.1).
        environment: set on top of this process's own.
    """
    process = await trio.lowlevel.open_process(
        command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    child = Child(role, process, incoming, outgoing)
    failure: NexusError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child._keep_lines)
        try:
            yield child
        except NexusError as error:
            failure = error
        finally:
            with trio.CancelScope(shield=True):
                await _end(child, stop)
                nursery.cancel_scope.cancel()
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        await stream.aclose()
    if failure is not None:
        raise failure


def command(module: str) -> list[str]:
    """Return the words that start `module` as a child of this installation.

    The packaged app holds no Python to be given `-m`: it starts itself again and takes only the
    modules on its own list (packaging/entry.py).
    """
    if frozen_program() is not None:
        return [sys.executable, "--child", module]
    return [sys.executable, "-P", "-m", module]


async def _end(child: Child, stop: object | None) -> None:
    if stop is not None and child.process.returncode is None:
        with trio.move_on_after(STOP_SECONDS):
            try:
                await child._write(STOP_SECONDS, [stop])
                await child.process.wait()
            except ChildError:
                pass
        if child.process.returncode is None:
            child.process.terminate()
            with trio.move_on_after(STOP_SECONDS):
                await child.process.wait()
    if child.process.returncode is None:
        child.process.kill()
    await child.process.wait()


def backoff_seconds(deaths: int) -> float:
    """Return how long to wait before start number `deaths + 1`: 1, 2, 4 … 60 s."""
    return min(BACKOFF_CAP_SECONDS, 2.0 ** max(0, deaths - 1))


def describe_exit(status: int | None) -> str:
    """Say in words how a process ended."""
    if status is None:
        return "closed its pipe"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
