"""The node of `ring.py`: the real daemon, with stamps on its stream and on its worker's pipe."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from benchmarks.stamps import Stamps, TimedTransport
from nexusnode.daemon.main import run_node
from nexusnode.daemon.worker import WorkerLink
from nexusnode.draft.launch import environment
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Commit, Grown
from nexusnode.settings import NodeSettings
from p2p.log import open_log
from p2p.network.peer import Libp2pTransport
from p2p.paths import folders
from p2p.process.child import Child, open_child


class TimedChild:
    """The worker as the daemon sees it."""

    def __init__(self, child: Child, stamps: Stamps) -> None:
        self._child = child
        self._stamps = stamps
        self.pid = child.pid
        self.kill = child.kill

    async def receive(self) -> Any:
        message = await self._child.receive()
        if isinstance(message, Grown):
            self._stamps.at("node-hears", message.growths[0].pos)
        return message

    async def send(self, *messages: object) -> None:
        for message in messages:
            if isinstance(message, Commit):
                self._stamps.at("node-passes", message.pos + len(message.tokens))
        await self._child.send(*messages)


def main() -> None:
    """Run a node in the folder of the first argument that asks the bootstrap peer of the second."""
    stamps = Stamps("node")

    @asynccontextmanager
    async def open_worker() -> AsyncIterator[WorkerLink]:
        variables = environment(1)
        async with open_child(
            "benchmarks.ring_worker", FROM_WORKER, TO_WORKER, role="worker", environment=variables
        ) as child:
            yield TimedChild(child, stamps)

    def make_transport(seed: bytes, settings: NodeSettings) -> TimedTransport:
        inner = Libp2pTransport(seed, bootstrap=settings.bootstrap)
        return TimedTransport(inner, stamps, "node")

    place = folders("node", Path(sys.argv[1]))
    flags = {"run.when": "always", "hosts.bootstrap": [sys.argv[2]]}
    trio.run(run_node, place, flags, "benchmark", make_transport, open_log("node"), open_worker)


if __name__ == "__main__":
    main()
