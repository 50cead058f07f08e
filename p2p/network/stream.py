"""Drives one sans-IO end over one link: a reader, a writer and a timer, until the stream ends.

The end decides what is said and when, and when to read on; here bytes move, and a peer that does
not take them is cut off (docs/protocol.md, 6.4). What they mean is none of this file's business.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, Protocol, TypeVar

import trio

from p2p.errors import NexusError, PeerError, PeerGone
from p2p.network.transport import READ_BYTES, Link

WRITE_SECONDS = 3.0  # a peer that does not take one write in this time is slow
FLUSH_SECONDS = 1.0  # for the ERROR frame that says why a stream ends
_TICK_SECONDS = 0.01  # an end that is due now and has nothing to do may not spin

E = TypeVar("E")
EventT = TypeVar("EventT")


class End(Protocol[EventT]):
    """What `NodeEnd` and `HostEnd` have in common; `now` is monotonic seconds."""

    def receive(self, data: bytes, now: float, /) -> list[EventT]: ...
    def outgoing(self, now: float, /) -> bytes: ...
    def pause(self, now: float, /) -> float: ...
    def due(self) -> float: ...
    def tick(self, now: float, /) -> list[EventT]: ...


class Outbox:
    """How callers say that an end has something to send: after each call on it, `wake()`."""

    def __init__(self) -> None:
        self._ready = trio.Event()
        self._empty = trio.Event()

    def wake(self) -> None:
        """Have the writer ask the end for bytes. Never blocks; several wakes make one write."""
        self._ready.set()
        if self._empty.is_set():
            self._empty = trio.Event()

    async def flushed(self) -> None:
        """Wait until all was handed to the link; the caller sets the deadline (BYE at shutdown)."""
        await self._empty.wait()

    async def ready(self) -> None:
        """For the writer: wait for a wake."""
        await self._ready.wait()
        self._ready = trio.Event()

    def mark_empty(self) -> None:
        """For the writer: what the end had is sent."""
        if not self._ready.is_set():
            self._empty.set()


async def drive(
    link: Link,
    end: End[E],
    deliver: Callable[[list[E]], None],
    outbox: Outbox,
) -> NoReturn:
    """Move bytes between `link` and `end` until the stream ends, then abort the link and raise.

    Args:
        deliver: gets the end's events as soon as they are read; must not block, and bounds its own
            queues.

    Raises:
        PeerError: the peer broke the protocol; the ERROR frame that the end had ready was sent.
        PeerGone: the link broke, or the peer was silent or did not read.
    """
    reason = "cancelled"
    try:
        await _Stream(link, end, deliver, outbox).run()
    except NexusError as error:
        reason = error.code
        raise
    finally:
        await link.abort(reason)


class _Stream(Generic[E]):
    def __init__(
        self, link: Link, end: End[E], deliver: Callable[[list[E]], None], outbox: Outbox
    ) -> None:
        self._link = link
        self._end = end
        self._deliver = deliver
        self._outbox = outbox
        self._ended: NexusError | None = None
        self._writing_since: float | None = None
        self._timer_until = math.inf
        self._poke_timer = trio.Event()

    async def run(self) -> NoReturn:
        async with trio.open_nursery() as nursery:
            for task in (self._read, self._write, self._keep_time):
                nursery.start_soon(self._until_end, task, nursery.cancel_scope)
        assert self._ended is not None, "a task of a stream ends by raising"
        raise self._ended

    async def _until_end(
        self, task: Callable[[], Awaitable[NoReturn]], scope: trio.CancelScope
    ) -> None:
        """Keep the first error that is ours and end the siblings; a bug goes up as it is."""
        try:
            await task()
        except PeerError as error:
            await self._say_why()
            self._ended = self._ended or error
            scope.cancel()
        except PeerGone as error:
            self._ended = self._ended or error
            scope.cancel()

    async def _read(self) -> NoReturn:
        while True:
            data = await self._link.receive(READ_BYTES)
            self._take(self._end.receive(data, trio.current_time()))
            pause = self._end.pause(trio.current_time())
            if pause > 0:  # over its rate: the peer waits in its own send buffer
                await trio.sleep(pause)

    async def _write(self) -> NoReturn:
        while True:
            data = self._end.outgoing(trio.current_time())
            self._hurry_timer(self._end.due())
            if data:
                await self._send(data)
            else:
                self._outbox.mark_empty()
                await self._outbox.ready()

    async def _send(self, data: bytes) -> None:
        """Send with no time-out around the write: cut off, it would leave half a frame behind
        (py-libp2p 0.8.1). The timer aborts the link instead, which wakes the write."""
        self._writing_since = trio.current_time()
        self._hurry_timer(self._slow_at())
        await self._link.send(data)
        self._writing_since = None

    async def _keep_time(self) -> NoReturn:
        while True:
            now = trio.current_time()
            self._timer_until = max(min(self._end.due(), self._slow_at()), now + _TICK_SECONDS)
            with trio.move_on_at(self._timer_until):
                await self._poke_timer.wait()
                self._poke_timer = trio.Event()
            now = trio.current_time()
            if now >= self._slow_at():
                raise PeerGone(f"slow: a write was not taken for {WRITE_SECONDS:.0f} s")
            self._take(self._end.tick(now))

    def _hurry_timer(self, until: float) -> None:
        """Have the timer wake at `until` if it means to sleep longer."""
        if max(until, trio.current_time() + _TICK_SECONDS) < self._timer_until:
            self._poke_timer.set()

    def _slow_at(self) -> float:
        since = self._writing_since
        return math.inf if since is None else since + WRITE_SECONDS

    def _take(self, events: list[E]) -> None:
        if events:
            self._deliver(events)
        self._outbox.wake()

    async def _say_why(self) -> None:
        """Let the writer, the only one who sends, hand over the end's last frame."""
        self._outbox.wake()
        with trio.move_on_after(FLUSH_SECONDS):
            await self._outbox.flushed()
