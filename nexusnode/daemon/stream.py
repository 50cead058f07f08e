"""One stream to one host: link, protocol end and writer, and the pace at which guesses are sent.

Guesses of several decodes share a frame: a host takes 200 frames a second from a node
(docs/protocol.md, 6.4). The first ones behind a commit wait for no others, as the host has none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from nexusnode.draft.messages import Growth
from p2p.drafting.conversation import Parted, Refused
from p2p.drafting.node_end import NodeEnd, NodeEvent
from p2p.errors import NexusError, PeerGone
from p2p.network.stream import Outbox, drive
from p2p.network.transport import Link
from p2p.wire.messages import Bye, ByeReason, CloseReason, Error

FRAME_SECONDS = 0.008  # between two frames of guesses: 125 frames/s leave room for the rest


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a stream ended, and what the host said about it, if it did."""

    error: NexusError
    refusal: Error | None = None
    bye: Bye | None = None

    @property
    def retry_seconds(self) -> float:
        """How long the host asks to stay away."""
        asked = [message.retry_after for message in (self.refusal, self.bye) if message is not None]
        return float(max(asked, default=0))


class HostStream:
    """`run` it once; `grow` and `decline` are for `drafting.py`."""

    def __init__(self, link: Link, end: NodeEnd, hear: Callable[[NodeEvent], None]) -> None:
        self._link = link
        self._end = end
        self._hear = hear
        self._outbox = Outbox()
        self._grown = trio.Event()
        self._scope = trio.CancelScope()
        self._stopped: NexusError | None = None
        self._refusal: Error | None = None
        self._bye: Bye | None = None

    @property
    def rtt_seconds(self) -> float | None:
        return self._end.rtt_seconds

    def grow(self, sid: int, growth: Growth) -> None:
        """Queue guesses; a host that takes none while too many wait ends the stream."""
        try:
            self._end.grow(
                sid, growth.pos, growth.first, growth.parents, growth.tokens, growth.scores
            )
        except NexusError as error:
            self.stop(error)
        if 0 in growth.parents:  # directly behind the committed text
            self._outbox.wake()
        self._grown.set()

    def decline(self, sid: int, reason: CloseReason) -> None:
        self._end.decline(sid, reason)
        self._outbox.wake()

    def part(self, reason: ByeReason) -> None:
        """Say goodbye; the caller waits for `flushed` and then calls `stop`."""
        self._end.bye(reason)
        self._outbox.wake()

    async def flushed(self) -> None:
        await self._outbox.flushed()

    def stop(self, error: NexusError) -> None:
        """End the stream now, for this reason."""
        self._stopped = self._stopped or error
        self._scope.cancel()

    async def run(self) -> Ended:
        """Carry the stream until it ends."""
        ended: NexusError = PeerGone("ended")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pace)
                with self._scope:
                    try:
                        await drive(self._link, self._end, self._deliver, self._outbox)
                    except NexusError as error:
                        ended = error
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._link.abort("ended")
        return Ended(self._stopped or ended, self._refusal, self._bye)

    def _deliver(self, events: list[NodeEvent]) -> None:
        for event in events:
            match event:
                case Refused() if event.error.sid == 0:
                    # Before WELCOME the host's tokens may follow; it ends the stream itself.
                    self._refusal = event.error
                case Parted():
                    self._bye = event.bye
                    self.stop(PeerGone(f"the host said goodbye ({_name(event.bye.reason)})"))
                case _:
                    pass
            self._hear(event)

    async def _pace(self) -> None:
        while True:
            await self._grown.wait()
            self._grown = trio.Event()
            self._outbox.wake()
            await trio.sleep(FRAME_SECONDS)


def _name(reason: int) -> str:
    try:
        return ByeReason(reason).name.lower()
    except ValueError:
        return f"reason {reason}"
