"""Each workaround for py-libp2p 0.8.1, in one place; numbers are those of the traps in its tests.

A workaround goes when its canary in `tests/p2p/test_traps.py` fails: there the library's behaviour
is held to what is described here.
"""

import importlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import trio
from libp2p import new_host
from libp2p.abc import INetConn, INetStream
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import RateLimitError
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2p.network.contain import contain
from p2p.network.interfaces import own_addresses, spell_out
from p2p.wire.identity import PeerId
from p2p.wire.record import advertisable

KAD_PROTOCOL = TProtocol("/nexus/kad/1.0.0")
QUERY_SECONDS = 3  # 20: 10 s in the library, once per dead peer and phase of a lookup
NEGOTIATE_SECONDS = 3.0
NEW_STREAM_SECONDS = 5.0  # 11: without a limit it waits for ever at 256 open streams
CLOSE_SECONDS = 3.0
MAX_CONNECTIONS = 512

# 12: what a stream or a dial may raise. A ValueError is a multiaddr or peer id that makes no sense.
LIBRARY_ERRORS = (
    BaseLibp2pError,
    PeerStoreError,
    RateLimitError,
    MultiaddrError,
    trio.ClosedResourceError,
    trio.BrokenResourceError,
    trio.TooSlowError,
    EOFError,
    OSError,
    ValueError,
)


def apply() -> None:
    """Patch what the library has no option for. Idempotent; before the first host of a process."""
    # 7: each read sends a window update otherwise; round-trip CPU 10 to 21 % higher. Read per call.
    os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")
    _silence()
    # 14: KadDHT(protocol_prefix=…) is ignored, all would speak /ipfs/kad/1.0.0. 20: no option.
    for name in ("common", "kad_dht", "peer_routing", "provider_store", "value_store"):
        module = importlib.import_module(f"libp2p.kad_dht.{name}")
        for constant, value in (("PROTOCOL_ID", KAD_PROTOCOL), ("QUERY_TIMEOUT", QUERY_SECONDS)):
            if hasattr(module, constant):
                setattr(module, constant, value)


def _silence() -> None:
    """6: warnings print peers' values in hex, up to 2 MB a line; some modules set a level of their
    own, and some log to the root logger."""
    for name in ("libp2p", "async_service", "multiaddr"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]
    root = logging.getLogger()
    if not any(isinstance(each, _NotLibp2p) for each in root.filters):
        root.addFilter(_NotLibp2p())


class _NotLibp2p(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "/libp2p/" not in record.pathname.replace(os.sep, "/")


def make_host(seed: bytes, announce: Sequence[str]) -> BasicHost:
    """Return a host that speaks noise and yamux over TCP and, unlike the default, nothing else.

    Args:
        announce: what to tell others; empty for the addresses listened on that can be dialled,
            those of this machine's interfaces where it is every one.
    """
    private = Ed25519PrivateKey.from_bytes(seed)
    pair = KeyPair(private, private.get_public_key())
    noise = NoiseTransport(pair, noise_privkey=create_new_key_pair().private_key)

    def told(listened: list[Multiaddr]) -> list[Multiaddr]:
        heard_on = [str(address) for address in listened]
        texts = announce or advertisable(spell_out(heard_on, own_addresses()))
        return [Multiaddr(text) for text in texts]

    host = new_host(
        key_pair=pair,
        sec_opt={TProtocol(NOISE): noise},
        muxer_opt={TProtocol(YAMUX): Yamux},
        enable_tcp=True,
        negotiate_timeout=10,
        addrs_factory=told,
        disable_identify_address_discovery=True,
        connection_config=ConnectionConfig(
            max_connections=MAX_CONNECTIONS,
            high_watermark=MAX_CONNECTIONS,
            low_watermark=0,
            min_connections=0,
            dial_timeout=5.0,
            outbound_stream_protocol_negotiation_timeout=NEGOTIATE_SECONDS,
            inbound_stream_protocol_negotiation_timeout=NEGOTIATE_SECONDS,
        ),
    )
    host = cast(BasicHost, host)
    swarm_of(host).retry_config = RetryConfig(max_retries=0)  # 4: who retries is for us to say
    swarm_of(host).auto_connector = _NoAutoConnector(swarm_of(host))
    return host


class _NoAutoConnector(AutoConnector):
    """The library's dials whom it has heard of until half of `high_watermark` is reached."""

    async def maybe_connect(self) -> None:
        return


def swarm_of(host: BasicHost) -> Swarm:
    return cast(Swarm, host.get_network())


def library_id(peer: PeerId) -> ID:
    return ID(bytes(peer))


def guard_streams(
    host: BasicHost, faults: Counter[str], refuses: Callable[[INetStream], bool]
) -> None:
    """1, 11: let no stream end the host or outlive its handler, whoever's handler it is.

    An exception in a handler, or in the negotiation before it, leaves `host.run()` as an
    `ExceptionGroup`; a handler that returns without a reset leaks the stream on both sides.
    """

    async def guarded(stream: INetStream) -> None:
        try:
            if not refuses(stream):
                await contain(lambda: host._swarm_stream_handler(stream), faults)
        finally:
            await reset(stream, 1.0)

    swarm_of(host).set_stream_handler(guarded)


async def reset(stream: INetStream, seconds: float) -> bool:
    """Reset a stream, shielded; return whether that was done in time (a full socket blocks it).

    A reset alone takes what was sent before it, and not yet read, from the peer: so the write side
    is closed first, after which the library lets the peer read to the end.
    """
    with trio.CancelScope(shield=True), trio.move_on_after(seconds) as scope:
        with suppress(*LIBRARY_ERRORS):
            await cast(NetStream, stream).muxed_stream.close()
        await stream.reset()
    return not scope.cancelled_caught


async def connect(host: BasicHost, peer: PeerId, address: str) -> None:
    """Make a connection to `peer` at `address` unless there is one.

    Raises:
        LIBRARY_ERRORS: it cannot be made; the caller sets a deadline.
    """
    their = library_id(peer)
    # 4: after a failed dial the library refuses to try again for 60 s.
    swarm_of(host).unblock_peer(their)
    # It dials one address a peer, the one it has known longest: a restarted host's old port.
    host.get_peerstore().clear_addrs(their)
    await host.connect(PeerInfo(their, [_plain(address)]))


def is_connected(host: BasicHost, peer: PeerId) -> bool:
    return any(not each.is_closed for each in host.get_network().get_connections(library_id(peer)))


async def disconnect(host: BasicHost, peer: PeerId) -> None:
    """5: close all connections to `peer`, dead ones too, so that the next `connect` dials."""
    their = library_id(peer)
    stuck = list(host.get_network().get_connections(their))
    with trio.CancelScope(shield=True):
        with trio.move_on_after(0.5):
            await host.disconnect(their)
        for connection in stuck:
            await cut(connection)


async def cut(connection: INetConn) -> None:
    """Close a connection's socket at once. Its polite end would wait behind a blocked write."""
    with trio.CancelScope(shield=True), trio.move_on_after(0.5):
        yamux = yamux_of(connection)
        if not yamux.is_closed:
            await yamux.secured_conn.close()


async def close(host: BasicHost) -> None:
    """2: cancelled, `host.run()` leaves connections open until the process ends; close them."""
    with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS):
        await host.close()


def unread_bytes(connection: INetConn) -> int:
    """10: what a peer has in our memory; the library does not hold it to its window."""
    return sum(len(buffer) for buffer in tuple(yamux_of(connection).stream_buffers.values()))


def yamux_of(connection: INetConn) -> Yamux:
    return cast(Yamux, cast(SwarmConn, connection).muxed_conn)


def _plain(address: str) -> Multiaddr:
    """Return the address without the `/p2p/…` that may end it."""
    return Multiaddr(address.split("/p2p/")[0])
