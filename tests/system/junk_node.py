"""A hostile node: a real daemon whose draft worker invents guesses and claims to be sure of them.

It knows everything a node knows, the coupling key included. Run: junk_node.py DATA BOOTSTRAP.
"""

import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from nexusnode.cli.run import make_transport
from nexusnode.daemon.main import run_node
from nexusnode.draft.messages import (
    Close,
    Commit,
    Feed,
    Grown,
    Growth,
    Load,
    Loaded,
    Open,
    Ping,
    Pong,
)
from p2p.log import open_log
from p2p.paths import folders

VOCABULARY = 49_152
SHAPES = ("siblings", "comb", "chain", "repeat")


class JunkWorker:
    """The daemon's worker link, answered by malice instead of a model."""

    pid = 0

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._send, self._receive = trio.open_memory_channel[Any](10_000)
        self._known: dict[int, tuple[int, int]] = {}

    async def receive(self) -> Any:
        return await self._receive.receive()

    async def send(self, *messages: object) -> None:
        for message in messages:
            match message:
                case Load():
                    self._say(Loaded(VOCABULARY, 2048, 8, "streams", (), 1, "cpu", 1))
                case Ping():
                    self._say(Pong(message.n))
                case Open():
                    self._known[message.session] = (len(message.tokens), message.next_id)
                    self._attack(message.session)
                case Feed() | Commit() if message.session in self._known:
                    length, first = self._known[message.session]
                    self._known[message.session] = (length + len(message.tokens), first)
                    self._attack(message.session)
                case Close():
                    self._known.pop(message.session, None)
                case _:
                    pass

    def kill(self) -> None:
        self._send.close()

    def _say(self, message: object) -> None:
        self._send.send_nowait(message)

    def _attack(self, session: int) -> None:
        """Send a block of wrong guesses in one of several shapes, each with full confidence."""
        pos, first = self._known[session]
        count = self._random.randrange(1, 17)
        tokens = tuple(self._random.randrange(VOCABULARY) for _ in range(count))
        match self._random.choice(SHAPES):
            case "siblings":
                parents = (0,) * count
            case "comb":
                parents = tuple(first + i // 2 * 2 - 1 if i >= 2 else 0 for i in range(count))
            case "repeat":
                parents, tokens = (0,) * count, (tokens[0],) * count
            case _:
                parents = (0, *range(first, first + count - 1))
        self._known[session] = (pos, first + count)
        self._say(Grown((Growth(session, pos, first, parents, tokens, b"\xff" * count),)))


@asynccontextmanager
async def open_junk() -> AsyncIterator[JunkWorker]:
    yield JunkWorker()


if __name__ == "__main__":
    trio.run(
        run_node,
        folders("node", Path(sys.argv[1])),
        {"run.when": "always", "hosts.bootstrap": [sys.argv[2]]},
        "0",
        make_transport,
        open_log("junk"),
        open_junk,
    )
