"""What the house asks of a network: links to proven peers, and a directory where hosts are found.

Two bodies: `peer.py` (libp2p, with `directory.py`) and `memory.py`, the twin for tests. In short:

    transport = Libp2pTransport(seed, listen=["/ip4/127.0.0.1/tcp/0"], bootstrap=[…], server=True)
    transport.serve(handler)            # before run; without it draft streams are refused
    await nursery.start(transport.run)
    link = await transport.dial(peer, addresses, timeout=10)
    await drive(link, end, deliver, outbox)                             # stream.py
    await discover(transport.directory, tok_fps, report, has_host=…)    # discovery.py
    await publish(transport.directory, identity, describe)              # discovery.py

A bootstrap peer is a `server=True` transport without a handler.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import trio

from p2p.network.contain import ignore
from p2p.wire.identity import PeerId
from p2p.wire.record import Signed

READ_BYTES = 65_536  # in bulk: each read costs a window update (`tests/p2p/test_traps.py`, 07)
STALE_SECONDS = 10.0  # heartbeats come every 5 s


class Link(Protocol):
    """One authenticated, ordered byte stream to one peer, whose id its handshake proved."""

    @property
    def peer(self) -> PeerId: ...

    @property
    def address(self) -> str | None:
        """The peer's IP address as this end sees it; None if there is none to see."""
        ...

    @property
    def relayed(self) -> bool: ...

    async def send(self, data: bytes) -> None:
        """Hand `data` to the network; waits while the peer does not read. Raises `PeerGone`.

        For one task at a time. A send that is cancelled leaves part of `data` behind: `abort`.
        """
        ...

    async def receive(self, max_bytes: int) -> bytes:
        """Return 1 to `max_bytes` bytes. Raises `PeerGone` once nothing more will come."""
        ...

    async def abort(self, reason: str) -> None:
        """End the stream within 1 s and wake `send` and `receive`. Idempotent, never raises.

        What was sent before still reaches a peer that reads. The connection below is closed too
        if the peer takes no bytes, or none came for `STALE_SECONDS`.
        """
        ...


Handler = Callable[[Link], Awaitable[None]]


class PassingLink:
    """A `Link` that hands everything on."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def peer(self) -> PeerId:
        return self._link.peer

    @property
    def address(self) -> str | None:
        return self._link.address

    @property
    def relayed(self) -> bool:
        return self._link.relayed

    async def send(self, data: bytes) -> None:
        await self._link.send(data)

    async def receive(self, max_bytes: int) -> bytes:
        return await self._link.receive(max_bytes)

    async def abort(self, reason: str) -> None:
        await self._link.abort(reason)


class Started(Protocol):
    """trio's `TaskStatus[None]`, which the stubs that libp2p brings along (trio-typing) lack."""

    def started(self) -> None: ...


class Startup:
    """A `Started` that is waited for beside the task, where `nursery.start` would wait in it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def started(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


class Directory(Protocol):
    """Where hosts say that they are there. Slow, lossy, full of strangers: records are signed."""

    async def publish(self, record: bytes, keys: Sequence[str]) -> int:
        """Store the caller's own `record` and name it under provider `keys`.

        Returns the number of servers that took the record; 0 means that nobody can find it yet.
        """
        ...

    async def find(self, key: str, timeout: float) -> list[tuple[PeerId, list[str]]]:
        """Return the peers named under provider `key` now, each once, with addresses as hearsay."""
        ...

    async def record(self, peer: PeerId, timeout: float) -> Signed | None:
        """Return the newest valid record of `peer` that servers hold now, or None."""
        ...

    async def changed(self) -> None:
        """Wait until another server was reached: what was published may be unknown to it."""
        ...

    @property
    def servers(self) -> int:
        """How many servers this end knows: the cost of a lookup grows with it."""
        ...


class Transport(Protocol):
    """This process as a peer."""

    @property
    def me(self) -> PeerId: ...

    @property
    def directory(self) -> Directory: ...

    @property
    def faults(self) -> Mapping[str, int]:
        """Exceptions caught in handlers, and peers cut off for flooding, by name."""
        ...

    def addresses(self) -> list[str]:
        """Return the multiaddrs under which others can dial this peer, without `/p2p/…`."""
        ...

    def serve(self, handler: Handler, on_bug: Callable[[Exception], None] = ignore) -> None:
        """Call `handler` with each link that a peer opens. Its exceptions are caught and counted.

        The link is aborted when the handler returns. `on_bug` gets what is no error of ours, for
        the log.
        """
        ...

    async def run(self, *, task_status: Started = trio.TASK_STATUS_IGNORED) -> None:
        """Own sockets and background tasks until cancelled; started once it can dial and serve."""
        ...

    async def dial(self, peer: PeerId, addresses: Sequence[str], timeout: float) -> Link:
        """Return a new link to `peer`. Raises `DialFailed` with the reason of the last address."""
        ...

    async def drop(self, peer: PeerId) -> None:
        """Close every connection to `peer`; its links end with `PeerGone`."""
        ...

    def ban(self, peer: PeerId, seconds: float) -> None:
        """Refuse every stream of `peer` for so long."""
        ...
