"""When what passed, in each process of a ring: a file of nanoseconds, names and text lengths.

`CLOCK_MONOTONIC` is one clock for all processes of a machine. Only benchmarks use this: product
parts are wrapped where they take their parts from outside.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from p2p.network.contain import ignore
from p2p.network.peer import Libp2pTransport
from p2p.network.transport import Handler, Link, PassingLink
from p2p.wire.identity import PeerId

FOLDER = "NEXUS_RING_STAMPS"  # the variable that names the folder


class Stamps:
    """The file of one process; a stamp is one write, so that a kill loses none."""

    def __init__(self, role: str) -> None:
        path = Path(os.environ[FOLDER]) / role
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def at(self, name: str, length: int = 0) -> None:
        """Note that `name` happened now; `length` = the committed text's, where it is known."""
        os.write(self._file, f"{time.monotonic_ns()} {name} {length}\n".encode())


class TimedLink(PassingLink):
    """A `Link` that stamps "sends" before a write and "receives" behind a read."""

    def __init__(self, link: Link, stamps: Stamps, role: str) -> None:
        super().__init__(link)
        self._stamps = stamps
        self._role = role

    async def send(self, data: bytes) -> None:
        self._stamps.at(f"{self._role}-sends")
        await super().send(data)

    async def receive(self, max_bytes: int) -> bytes:
        data = await super().receive(max_bytes)
        self._stamps.at(f"{self._role}-receives")
        return data


class TimedTransport:
    """A libp2p peer whose draft streams are stamped."""

    def __init__(self, inner: Libp2pTransport, stamps: Stamps, role: str) -> None:
        self._inner = inner
        self._stamps = stamps
        self._role = role
        self.me = inner.me
        self.directory = inner.directory
        self.faults = inner.faults
        self.addresses = inner.addresses
        self.run = inner.run
        self.drop = inner.drop
        self.ban = inner.ban

    def serve(self, handler: Handler, on_bug: Callable[[Exception], None] = ignore) -> None:
        async def timed(link: Link) -> None:
            await handler(TimedLink(link, self._stamps, self._role))

        self._inner.serve(timed, on_bug)

    async def dial(self, peer: PeerId, addresses: Sequence[str], timeout: float) -> Link:
        link = await self._inner.dial(peer, addresses, timeout)
        return TimedLink(link, self._stamps, self._role)
