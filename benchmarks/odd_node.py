"""Nodes for measuring: real daemons with an odd draft worker, or with a link that counts bytes.

    python -m benchmarks.odd_node mute DATA BOOTSTRAP     takes sessions and never guesses
    python -m benchmarks.odd_node late DATA BOOTSTRAP     guesses as it should, 5 s too late
    python -m benchmarks.odd_node counted DATA BOOTSTRAP  a good node; DATA/bytes says what passed

The late one stands for a node behind a slow line: all it says of guesses waits, in order, for
`LATE_SECONDS` between its worker and its daemon. What the counted one counts are whole frames with
their signatures, in both directions, without what libp2p puts around them.
"""

import struct
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from nexusnode.cli.run import make_transport
from nexusnode.daemon.main import run_node
from nexusnode.daemon.worker import OpenWorker, WorkerLink
from nexusnode.draft.launch import MODULE, environment
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Grown, Load, Loaded, Ping, Pong
from nexusnode.settings import NodeSettings
from p2p.log import open_log
from p2p.network.contain import ignore
from p2p.network.transport import Directory, Handler, Link, PassingLink, Started, Transport
from p2p.paths import folders
from p2p.process.child import open_child
from p2p.wire.identity import PeerId

LATE_SECONDS = 5.0
VOCABULARY = 49_152  # of the bundled draft
QUEUE = 10_000
COUNTED = "bytes"


class Mute:
    """A worker that answers its daemon and nothing else."""

    pid = 0

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](QUEUE)

    async def receive(self) -> Any:
        return await self._receive.receive()

    async def send(self, *messages: object) -> None:
        for message in messages:
            match message:
                case Load():
                    self._say(Loaded(VOCABULARY, 2048, 8, "streams", (), 1, "cpu", 1))
                case Ping():
                    self._say(Pong(message.n))
                case _:
                    pass

    def kill(self) -> None:
        self._send.close()

    def _say(self, message: object) -> None:
        self._send.send_nowait(message)


class Late:
    """A worker's link whose guesses arrive late; everything else passes at once."""

    def __init__(self, link: WorkerLink, nursery: trio.Nursery) -> None:
        self._link = link
        self._late_send, self._late_receive = trio.open_memory_channel[tuple[float, Any]](QUEUE)
        self._send, self._receive = trio.open_memory_channel[Any](QUEUE)
        self._failure: Exception | None = None
        nursery.start_soon(self._sort)
        nursery.start_soon(self._delay)

    @property
    def pid(self) -> int:
        return self._link.pid

    async def receive(self) -> Any:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            assert self._failure is not None, "the channel ends with the worker"
            raise self._failure from None

    async def send(self, *messages: object) -> None:
        await self._link.send(*messages)

    def kill(self) -> None:
        self._link.kill()

    async def _sort(self) -> None:
        try:
            while True:
                message = await self._link.receive()
                if isinstance(message, Grown):
                    await self._late_send.send((trio.current_time() + LATE_SECONDS, message))
                else:
                    await self._send.send(message)
        except Exception as error:  # handed on to whoever receives
            self._failure = error
            self._send.close()

    async def _delay(self) -> None:
        async for due, message in self._late_receive:
            await trio.sleep_until(due)
            try:
                await self._send.send(message)
            except trio.ClosedResourceError:
                return


class CountedLink(PassingLink):
    """A link that adds up what passes; the totals lie in a file of two u64."""

    def __init__(self, link: Link, path: Path) -> None:
        super().__init__(link)
        self._path = path
        self._sent = self._received = 0

    async def send(self, data: bytes) -> None:
        self._count(len(data), 0)
        await super().send(data)

    async def receive(self, max_bytes: int) -> bytes:
        data = await super().receive(max_bytes)
        self._count(0, len(data))
        return data

    def _count(self, sent: int, received: int) -> None:
        self._sent += sent
        self._received += received
        self._path.write_bytes(struct.pack("<QQ", self._sent, self._received))


class CountedTransport:
    """A transport whose dialled links are counted."""

    def __init__(self, transport: Transport, path: Path) -> None:
        self._transport = transport
        self._path = path

    @property
    def me(self) -> PeerId:
        return self._transport.me

    @property
    def directory(self) -> Directory:
        return self._transport.directory

    @property
    def faults(self) -> Mapping[str, int]:
        return self._transport.faults

    def addresses(self) -> list[str]:
        return self._transport.addresses()

    def serve(self, handler: Handler, on_bug: Callable[[Exception], None] = ignore) -> None:
        self._transport.serve(handler, on_bug)

    async def run(self, *, task_status: Started = trio.TASK_STATUS_IGNORED) -> None:
        await self._transport.run(task_status=task_status)

    async def dial(self, peer: PeerId, addresses: Sequence[str], timeout: float) -> Link:
        return CountedLink(await self._transport.dial(peer, addresses, timeout), self._path)

    async def drop(self, peer: PeerId) -> None:
        await self._transport.drop(peer)

    def ban(self, peer: PeerId, seconds: float) -> None:
        self._transport.ban(peer, seconds)


def counted_bytes(data: Path) -> tuple[int, int]:
    """Return the bytes that a counted node has sent and received."""
    sent, received = struct.unpack("<QQ", (data / COUNTED).read_bytes())
    return sent, received


@asynccontextmanager
async def open_mute() -> AsyncIterator[WorkerLink]:
    yield Mute()


@asynccontextmanager
async def open_late() -> AsyncIterator[WorkerLink]:
    async with (
        open_child(
            MODULE, FROM_WORKER, TO_WORKER, role="draft worker", environment=environment(0)
        ) as child,
        trio.open_nursery() as nursery,
    ):
        yield Late(child, nursery)
        nursery.cancel_scope.cancel()


OPENERS: dict[str, OpenWorker | None] = {"mute": open_mute, "late": open_late, "counted": None}


def main() -> None:
    kind, data, bootstrap = sys.argv[1:]

    def make(seed: bytes, settings: NodeSettings) -> Transport:
        transport = make_transport(seed, settings)
        return CountedTransport(transport, Path(data) / COUNTED) if kind == "counted" else transport

    trio.run(
        run_node,
        folders("node", Path(data)),
        {"run.when": "always", "hosts.bootstrap": [bootstrap]},
        "0",
        make,
        open_log(kind),
        OPENERS[kind],
    )


if __name__ == "__main__":
    main()
