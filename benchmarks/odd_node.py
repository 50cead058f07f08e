"""Nodes that are of no use, for the bars of `load.py`: real daemons with an odd draft worker.

    python -m benchmarks.odd_node mute DATA BOOTSTRAP    takes sessions and never guesses
    python -m benchmarks.odd_node late DATA BOOTSTRAP    guesses as it should, 5 s too late

The late one stands for a node behind a slow line: all it says of guesses waits, in order, for
`LATE_SECONDS` between its worker and its daemon.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from nexusnode.cli.run import make_transport
from nexusnode.daemon.main import run_node
from nexusnode.daemon.worker import OpenWorker, WorkerLink
from nexusnode.draft.launch import MODULE, environment
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Grown, Load, Loaded, Ping, Pong
from p2p.log import open_log
from p2p.paths import folders
from p2p.process.child import open_child

LATE_SECONDS = 5.0
VOCABULARY = 49_152  # of the bundled draft
QUEUE = 10_000


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


OPENERS: dict[str, OpenWorker] = {"mute": open_mute, "late": open_late}


def main() -> None:
    kind, data, bootstrap = sys.argv[1:]
    trio.run(
        run_node,
        folders("node", Path(data)),
        {"run.when": "always", "hosts.bootstrap": [bootstrap]},
        "0",
        make_transport,
        open_log(kind),
        OPENERS[kind],
    )


if __name__ == "__main__":
    main()
