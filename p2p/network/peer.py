"""This process as a libp2p peer: noise and yamux over TCP, every handler guarded.

The library's traps are dealt with in `fixes.py` and `kad.py`; what is left of it is here.
"""

import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from p2p.errors import ConfigError, DialFailed, PeerGone, ResourceError
from p2p.network import fixes, kad
from p2p.network.contain import contain, ignore
from p2p.network.directory import KadDirectory, parse_bootstrap
from p2p.network.transport import STALE_SECONDS, Handler, Started
from p2p.wire.identity import Identity, PeerId
from p2p.wire.messages import PROTOCOL

MAX_UNREAD_BYTES = 8 * 1024 * 1024  # of one connection; own readers drain at once
WATCH_SECONDS = 0.25
FLOOD_BAN_SECONDS = 600.0
RESET_SECONDS = 0.4
_DRAFT = TProtocol(PROTOCOL)


class Libp2pTransport:
    """A `Transport` over TCP.

    Args:
        seed: 32 bytes, the identity.
        listen: multiaddrs to listen on, `/tcp/0` for any port; a node that only dials needs none.
        announce: multiaddrs to tell others; empty for those listened on that others can dial, and
            for this machine's own where it listens on every interface.
        bootstrap: `/ip4/…/tcp/…/p2p/ID` of directory servers, tried for ever.
        server: answer and keep directory entries for others: hosts and bootstrap peers do.
    """

    def __init__(
        self,
        seed: bytes,
        *,
        listen: Sequence[str] = (),
        announce: Sequence[str] = (),
        bootstrap: Sequence[str] = (),
        server: bool = False,
    ) -> None:
        fixes.apply()
        self._me = Identity(seed).peer
        self._listen = tuple(listen)
        self._bootstrap = tuple(parse_bootstrap(address) for address in bootstrap)
        self._faults: Counter[str] = Counter()
        self._banned: dict[PeerId, float] = {}
        self._host = fixes.make_host(seed, announce)
        self._dht = kad.make_dht(self._host, server)
        self._directory = KadDirectory(self._host, self._dht, self._me)

    @property
    def me(self) -> PeerId:
        return self._me

    @property
    def directory(self) -> KadDirectory:
        return self._directory

    @property
    def faults(self) -> Mapping[str, int]:
        return self._faults

    def addresses(self) -> list[str]:
        return [str(address).split("/p2p/")[0] for address in self._host.get_addrs()]

    def serve(self, handler: Handler, on_bug: Callable[[Exception], None] = ignore) -> None:
        async def on_stream(stream: INetStream) -> None:
            link = Libp2pLink(self._host, stream)
            try:
                await contain(lambda: handler(link), self._faults, on_bug)
            finally:
                await link.abort("the handler ended")

        self._host.set_stream_handler(_DRAFT, on_stream)

    async def run(self, *, task_status: Started = trio.TASK_STATUS_IGNORED) -> None:
        """Run once; a transport that ended is not started again.

        Raises:
            ConfigError: an address to listen on makes no sense.
            ResourceError: it cannot be listened on, as another process does.
        """
        addresses = [_listenable(address) for address in self._listen]
        fixes.guard_streams(self._host, self._faults, self._refuses)
        async with self._host.run(addresses):
            try:
                if len(self._host.get_transport_addrs()) < len(addresses):
                    raise ResourceError(f"cannot listen on {', '.join(self._listen)}")
                async with background_trio_service(self._dht), trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_memory)
                    nursery.start_soon(self._directory.stay_joined, self._bootstrap)
                    task_status.started()
            finally:
                await fixes.close(self._host)

    async def dial(self, peer: PeerId, addresses: Sequence[str], timeout: float) -> "Libp2pLink":
        reason = "no address to dial"
        with trio.move_on_after(timeout):
            if fixes.is_connected(self._host, peer):
                try:
                    return await self._open(peer)
                except fixes.LIBRARY_ERRORS as error:
                    reason = _said(error)
                    await fixes.disconnect(self._host, peer)
            for address in addresses:
                reason = f"{address}: no answer in {timeout:.1f} s"
                try:
                    await fixes.connect(self._host, peer, address)
                    return await self._open(peer)
                except fixes.LIBRARY_ERRORS as error:
                    reason = f"{address}: {_said(error)}"
                    await fixes.disconnect(self._host, peer)
        raise DialFailed(f"{peer.short}: {reason}")

    async def drop(self, peer: PeerId) -> None:
        await fixes.disconnect(self._host, peer)

    def ban(self, peer: PeerId, seconds: float) -> None:
        self._banned[peer] = trio.current_time() + seconds

    async def _open(self, peer: PeerId) -> "Libp2pLink":
        with trio.fail_after(fixes.NEW_STREAM_SECONDS):
            stream = await self._host.new_stream(fixes.library_id(peer), [_DRAFT])
        return Libp2pLink(self._host, stream)

    def _refuses(self, stream: INetStream) -> bool:
        now = trio.current_time()
        for peer in [peer for peer, until in self._banned.items() if until <= now]:
            del self._banned[peer]
        return bool(self._banned) and _peer_of(stream) in self._banned

    async def _watch_memory(self) -> None:
        """Cut off who makes us hold more than any honest reader leaves unread (trap 10)."""
        while True:
            await trio.sleep(WATCH_SECONDS)
            for connection in self._host.get_network().get_connections():
                if fixes.unread_bytes(connection) > MAX_UNREAD_BYTES:
                    self._faults["peer.flood"] += 1
                    peer_id = fixes.yamux_of(connection).peer_id
                    self.ban(PeerId.from_bytes(peer_id.to_bytes()), FLOOD_BAN_SECONDS)
                    await fixes.cut(connection)


class Libp2pLink:
    """A draft stream; a `Link`."""

    relayed = False

    def __init__(self, host: BasicHost, stream: INetStream) -> None:
        self._host = host
        self._stream = stream
        self._peer = _peer_of(stream)
        self._ended: str | None = None
        self._reading = trio.CancelScope()
        self._last_received = trio.current_time()

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def address(self) -> str | None:
        remote = self._stream.get_remote_address()
        return None if remote is None else remote[0]

    async def send(self, data: bytes) -> None:
        self._check()
        try:
            await self._stream.write(data)
        except fixes.LIBRARY_ERRORS as error:
            raise PeerGone(self._ended or _said(error)) from error

    async def receive(self, max_bytes: int) -> bytes:
        self._check()
        data = b""
        # A reader that waits is not woken by a reset of its own side: hence the scope.
        with trio.CancelScope() as self._reading:
            try:
                data = await self._stream.read(max_bytes)
            except fixes.LIBRARY_ERRORS as error:
                raise PeerGone(self._ended or _said(error)) from error
        if not data:
            raise PeerGone(self._ended or "the stream ended")
        self._last_received = trio.current_time()
        return data

    async def abort(self, reason: str) -> None:
        if self._ended is not None:
            return
        self._ended = f"ended here: {reason}"
        self._reading.cancel()
        is_stale = trio.current_time() - self._last_received > STALE_SECONDS
        is_reset = await fixes.reset(self._stream, RESET_SECONDS)
        connection = _connection_of(self._stream)
        if connection is not None and (is_stale or not is_reset):
            await fixes.cut(connection)

    def _check(self) -> None:
        if self._ended is not None:
            raise PeerGone(self._ended)


def _peer_of(stream: INetStream) -> PeerId:
    return PeerId.from_bytes(stream.muxed_conn.peer_id.to_bytes())


def _connection_of(stream: INetStream) -> SwarmConn | None:
    return stream.swarm_conn if isinstance(stream, NetStream) else None


def _listenable(address: str) -> Multiaddr:
    """Return the multiaddr if its port is free.

    py-libp2p 0.8.1 listens with SO_REUSEPORT: two processes on one port would each get some of the
    connections, and neither an error.
    """
    try:
        parsed = Multiaddr(address)
        family = socket.AF_INET6 if address.startswith("/ip6/") else socket.AF_INET
        ip = parsed.value_for_protocol("ip6" if family == socket.AF_INET6 else "ip4")
        port = int(parsed.value_for_protocol("tcp"))
    except fixes.LIBRARY_ERRORS as error:
        raise ConfigError(
            f"listen address {address!r}: {_said(error)}; expected /ip4/127.0.0.1/tcp/4001"
        ) from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            raise ResourceError(f"cannot listen on {address}: {error.strerror}") from error
    return parsed


def _said(error: BaseException) -> str:
    """Return what went wrong in a few words: the library's own may quote what a peer sent."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return cause.strerror or "error" if isinstance(cause, OSError) else type(cause).__name__
