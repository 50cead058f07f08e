"""What py-libp2p 0.8.1 does, trap by trap, and that our peers do not fall in.

A `canary` holds the library to its trap: when it fails, the library has changed and the workaround
in `p2p/network/fixes.py` or `kad.py` may go. The tests beside them hold our peers to the right
behaviour, as `test_transport_contract.py` does on any transport.
"""

import importlib.util
import inspect
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version

import pytest
import trio
import trio.testing
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.kad_dht import common, peer_routing
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.stream.exceptions import StreamReset
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import SwarmException
from libp2p.peer.peerinfo import PeerInfo
from libp2p.records.validator import BlankValidator, NamespacedValidator
from libp2p.stream_muxer.yamux import yamux
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from p2p.errors import ConfigError, DialFailed, PeerGone, ResourceError
from p2p.network import fixes, kad
from p2p.network.directory import parse_bootstrap
from p2p.network.peer import MAX_UNREAD_BYTES, Libp2pLink, Libp2pTransport
from p2p.network.transport import Handler, Link
from p2p.wire.identity import Identity
from p2p.wire.record import provider_key, record_key

pytestmark = pytest.mark.slow

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
NOBODY = "/ip4/127.0.0.1/tcp/9"
TALK, BOOM = TProtocol("/trap/talk"), TProtocol("/trap/boom")
SEEDS = b"a" * 32, b"b" * 32
ME, OTHER = (Identity(seed).peer for seed in SEEDS)

StreamHandler = Callable[[INetStream], Awaitable[None]]


@dataclass
class Two:
    """Two hosts of the library, `b` connected to `a`, without guards."""

    a: BasicHost
    b: BasicHost

    async def stream(self, protocol: TProtocol = TALK) -> NetStream:
        stream = await self.b.new_stream(self.a.get_id(), [protocol])
        assert isinstance(stream, NetStream)
        return stream


async def idle(stream: INetStream) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def two(handler: StreamHandler = idle) -> AsyncIterator[Two]:
    fixes.apply()
    a, b = (fixes.make_host(seed, ()) for seed in SEEDS)
    a.set_stream_handler(TALK, handler)
    async with a.run([Multiaddr(LOOPBACK)]), b.run([]):
        try:
            await b.connect(PeerInfo(a.get_id(), a.get_transport_addrs()))
            with trio.fail_after(30):
                yield Two(a, b)
        finally:
            await fixes.close(a)
            await fixes.close(b)


@asynccontextmanager
async def ours(handler: Handler) -> AsyncIterator[tuple[Libp2pTransport, Libp2pTransport]]:
    node, host = Libp2pTransport(SEEDS[0]), Libp2pTransport(SEEDS[1], listen=[LOOPBACK])
    host.serve(handler)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await nursery.start(host.run)
        with trio.fail_after(30):
            yield node, host
        nursery.cancel_scope.cancel()


async def hold(link: Link) -> None:
    await trio.sleep_forever()


async def echo(link: Link) -> None:
    while True:
        await link.send(await link.receive(65_536))


def test_the_canaries_are_about_the_installed_version() -> None:
    assert version("libp2p") == "0.8.1"


# ---- security --------------------------------------------------------------------------------


async def offered(host_address: Multiaddr, protocol: bytes) -> bytes:
    """Return the answer to `protocol` in the first negotiation on a fresh connection."""
    port = int(host_address.value_for_protocol("tcp"))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        for line in (b"/multistream/1.0.0\n", protocol + b"\n"):
            await stream.send_all(bytes([len(line)]) + line)
        answer = b""
        with trio.move_on_after(3):
            while answer.count(b"\n") < 2:
                more = await stream.receive_some(100)
                if not more:
                    break
                answer += more
    return answer.split(b"\n")[1][1:]


async def test_libp2p_0_8_1_speaks_plaintext_by_default_canary() -> None:
    host = new_host()
    async with host.run([Multiaddr(LOOPBACK)]):
        answer = await offered(host.get_addrs()[0], b"/plaintext/2.0.0")
        await host.close()

    assert answer == b"/plaintext/2.0.0"


async def test_our_peers_speak_noise_and_nothing_else() -> None:
    async with ours(hold) as (_, host):
        address = Multiaddr(host.addresses()[0])
        for protocol in (b"/plaintext/2.0.0", b"/secio/1.0.0", b"/tls/1.0.0"):
            assert await offered(address, protocol) == b"na"
        assert await offered(address, b"/noise") == b"/noise"


async def test_our_connections_do_not_wait_for_full_packets() -> None:
    async with ours(echo) as (node, host):
        await node.dial(host.me, host.addresses(), 5)
        for transport in (node, host):
            (connection,) = transport._host.get_network().get_connections()
            raw = fixes.yamux_of(connection).secured_conn
            found = find_socket(raw)
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def find_socket(holder: object, depth: int = 0) -> "trio.socket.SocketType":
    """Return the socket below layers of wrappers."""
    for value in vars(holder).values():
        if isinstance(value, trio.SocketStream):
            return value.socket
        if hasattr(value, "__dict__") and type(value).__module__.startswith("libp2p") and depth < 8:
            with suppress(LookupError):
                return find_socket(value, depth + 1)
    raise LookupError("no socket here")


# ---- life cycle ------------------------------------------------------------------------------


async def test_trap_01_libp2p_0_8_1_dies_of_a_handler_that_raises_canary() -> None:
    async def boom(stream: INetStream) -> None:
        raise ZeroDivisionError

    async def play() -> None:
        async with two() as pair:
            pair.a.set_stream_handler(BOOM, boom)
            await pair.stream(BOOM)
            await trio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as caught:
        await play()
    assert caught.group_contains(ZeroDivisionError)


async def test_trap_01_a_stream_that_negotiates_nonsense_harms_nobody() -> None:
    async with ours(echo) as (node, host):
        link = await node.dial(host.me, host.addresses(), 5)
        (connection,) = node._host.get_network().get_connections()
        for junk in (b"", b"\xff" * 300, b"\x13/multistream/1.0.0\n\x05/bad\n"):
            stream = await fixes.yamux_of(connection).open_stream()
            if junk:
                await stream.write(junk)
            await stream.reset()
        await link.send(b"still here")

        assert await link.receive(10) == b"still here"


async def test_trap_02_libp2p_0_8_1_leaves_connections_open_when_cancelled_canary() -> None:
    fixes.apply()
    a, b = (fixes.make_host(seed, ()) for seed in SEEDS)
    async with a.run([Multiaddr(LOOPBACK)]):
        with trio.CancelScope() as scope:
            async with b.run([]):
                await b.connect(PeerInfo(a.get_id(), a.get_transport_addrs()))
                scope.cancel()
                await trio.sleep_forever()
        await trio.sleep(1)
        still_connected = fixes.is_connected(a, OTHER)
        await fixes.close(a)
        await fixes.close(b)

    assert still_connected


async def test_trap_04_libp2p_0_8_1_refuses_to_dial_again_for_60_s_canary() -> None:
    async with two() as pair:
        ghost = fixes.library_id(Identity(b"g" * 32).peer)
        with pytest.raises(SwarmException):
            await pair.a.connect(PeerInfo(ghost, [Multiaddr(NOBODY)]))
        with pytest.raises(SwarmException, match="negative cache"):
            await pair.a.connect(PeerInfo(ghost, [Multiaddr("/ip4/127.0.0.1/tcp/10")]))


async def test_trap_05_libp2p_0_8_1_connects_to_a_connected_peer_without_dialling_canary() -> None:
    async with two() as pair:
        with trio.fail_after(1):
            await pair.b.connect(PeerInfo(pair.a.get_id(), [Multiaddr(NOBODY)]))


async def test_trap_05_a_dead_connection_is_replaced_by_the_first_dial() -> None:
    async with ours(echo) as (node, host):
        await node.dial(host.me, host.addresses(), 5)
        (connection,) = host._host.get_network().get_connections()
        # The host forgets the connection without closing its socket: to the node it seems alive.
        fixes.yamux_of(connection).event_shutting_down.set()
        fixes.yamux_of(connection).new_stream_send_channel.close()
        link = await node.dial(host.me, host.addresses(), 15)
        await link.send(b"new")

        assert await link.receive(3) == b"new"


def test_trap_06_libp2p_0_8_1_sets_a_log_level_of_its_own_canary() -> None:
    assert logging.getLogger("libp2p.network.auto_connector").level == logging.INFO


def test_trap_06_nothing_the_library_logs_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    fixes.apply()
    logging.getLogger("libp2p.network.auto_connector").warning("a peer's bytes")
    logging.getLogger("libp2p").critical("a peer's bytes")
    source = os.path.join("site-packages", "libp2p", "network", "x.py")
    record = logging.LogRecord("root", logging.ERROR, f"/{source}", 1, "bytes", None, None)

    assert not caplog.records
    assert not logging.getLogger().filter(record)
    assert logging.getLogger().filter(
        logging.LogRecord("root", logging.ERROR, "/ours.py", 1, "ours", None, None)
    )


async def test_trap_24_libp2p_0_8_1_dials_only_the_address_known_longest_canary() -> None:
    async with two() as pair:
        a, b = pair.a, pair.b
        await fixes.disconnect(b, ME)
        b.get_peerstore().clear_addrs(a.get_id())
        b.get_peerstore().add_addrs(a.get_id(), [Multiaddr(NOBODY)], 120)
        with pytest.raises(SwarmException):
            await b.connect(PeerInfo(a.get_id(), a.get_transport_addrs()))


def test_trap_25_libp2p_0_8_1_dials_peers_on_its_own_canary() -> None:
    source = inspect.getsource(AutoConnector.maybe_connect)

    assert "target = int((low_watermark + high_watermark) / 2)" in source


async def test_trap_27_libp2p_0_8_1_lets_two_hosts_listen_on_one_port_canary() -> None:
    async with two() as pair:
        third = fixes.make_host(b"c" * 32, ())
        async with third.run(pair.a.get_transport_addrs()):
            shared = third.get_transport_addrs()
            await fixes.close(third)

        assert shared == pair.a.get_transport_addrs()


async def test_trap_27_a_port_in_use_is_refused_by_name() -> None:
    async with ours(hold) as (_, host):
        late = Libp2pTransport(b"c" * 32, listen=host.addresses())
        with pytest.raises(ResourceError, match="in use"):
            await late.run()


@pytest.mark.parametrize("address", ["", "127.0.0.1:4001", "/ip4/1.2.3.4", "/ip4/x/tcp/1"])
async def test_a_listen_address_that_makes_no_sense_is_refused_by_name(address: str) -> None:
    with pytest.raises(ConfigError, match="listen address"):
        await Libp2pTransport(SEEDS[0], listen=[address]).run()


@pytest.mark.parametrize(
    "address",
    ["/ip4/1.2.3.4/tcp/4001", f"{NOBODY}/p2p/12D3", f"/ip4/1.2.3.4/p2p/{ME}", f"nonsense/p2p/{ME}"],
)
def test_a_bootstrap_address_that_makes_no_sense_is_refused_by_name(address: str) -> None:
    with pytest.raises(ConfigError, match="bootstrap address"):
        parse_bootstrap(address)


# ---- streams ---------------------------------------------------------------------------------


def test_trap_07_window_updates_are_not_sent_for_every_read() -> None:
    fixes.apply()

    assert not yamux._yamux_release_on_read()


async def test_trap_08_libp2p_0_8_1_resets_a_stream_that_is_not_read_for_5_s_canary() -> None:
    async def push(stream: NetStream) -> None:
        while True:
            await stream.write(b"x" * 60_000)

    async with two() as pair:
        stream = await pair.stream()
        began = trio.current_time()
        with pytest.raises(StreamReset):
            await push(stream)

        assert 4.9 < trio.current_time() - began < 15


async def test_trap_09_libp2p_0_8_1_leaves_half_a_frame_when_a_write_is_cancelled_canary() -> None:
    got, go = bytearray(), trio.Event()

    async def sink(stream: INetStream) -> None:
        await go.wait()
        with suppress(BaseLibp2pError):
            while True:
                got.extend(await stream.read(65_536))

    async with two(sink) as pair:
        stream = await pair.stream()
        for number in range(1, 250):
            with trio.move_on_after(0.5) as scope:
                await stream.write(bytes([number]) * 60_000)
            if scope.cancelled_caught:
                break
        go.set()
        await trio.sleep(0.5)

        assert 0 < got.count(bytes([number])) < 60_000


async def test_trap_10_libp2p_0_8_1_does_not_enforce_its_window_canary() -> None:
    async with two() as pair:
        stream = await pair.stream()
        await overfill(stream)
        (connection,) = pair.a.get_network().get_connections()

        assert fixes.unread_bytes(connection) > MAX_UNREAD_BYTES


async def overfill(stream: NetStream) -> None:
    """Send 12 MB as if the peer's window were endless."""
    inner = stream.muxed_stream
    assert isinstance(inner, yamux.YamuxStream)
    inner.send_window = 1 << 40
    for _ in range(200):
        await stream.write(b"x" * 60_000)
    await trio.sleep(0.3)


async def test_trap_10_who_ignores_the_window_is_cut_off_and_banned() -> None:
    async with ours(hold) as (node, host):
        link = await node.dial(host.me, host.addresses(), 5)
        stream = link._stream
        assert isinstance(stream, NetStream)
        with suppress(BaseLibp2pError, trio.ClosedResourceError, trio.BrokenResourceError):
            await overfill(stream)
        with pytest.raises(PeerGone):
            await link.receive(1)
        with pytest.raises(DialFailed):
            await node.dial(host.me, host.addresses(), 5)

        assert host.faults["peer.flood"] == 1


async def test_trap_11_libp2p_0_8_1_waits_for_ever_at_256_open_streams_canary() -> None:
    async with two() as pair:
        with pytest.raises(trio.TooSlowError):
            await open_streams(pair, 300)


async def open_streams(pair: Two, count: int) -> None:
    for _ in range(count):
        with trio.fail_after(2):
            await pair.stream()


async def test_trap_11_libp2p_0_8_1_leaks_a_stream_whose_handler_returns_canary() -> None:
    async def returns(stream: INetStream) -> None:
        await stream.read(1)

    async with two(returns) as pair:
        (connection,) = pair.b.get_network().get_connections()
        before = len(fixes.yamux_of(connection).streams)
        for _ in range(20):
            stream = await pair.stream()
            await stream.write(b"1")
        await trio.sleep(0.5)

        assert len(fixes.yamux_of(connection).streams) - before > 10


async def test_trap_11_our_streams_are_gone_on_both_sides_after_the_handler_returned() -> None:
    async def returns(link: Link) -> None:
        await link.receive(1)

    async with ours(returns) as (node, host):
        for _ in range(20):
            link = await node.dial(host.me, host.addresses(), 5)
            await link.send(b"1")
            with pytest.raises(PeerGone):
                await link.receive(1)
            await link.abort("done")
        await trio.sleep(0.5)

        for transport in (node, host):
            (connection,) = transport._host.get_network().get_connections()
            assert len(fixes.yamux_of(connection).streams) <= 1


async def test_trap_26_libp2p_0_8_1_takes_unread_bytes_back_with_a_reset_canary() -> None:
    seen: list[bytes] = []
    done = trio.Event()

    async def late(stream: INetStream) -> None:
        await trio.sleep(0.5)
        with suppress(BaseLibp2pError):
            seen.append(await stream.read(100))
        done.set()

    async with two(late) as pair:
        stream = await pair.stream()
        await stream.write(b"last words")
        await stream.reset()
        await done.wait()

    assert seen == []


async def test_trap_28_libp2p_0_8_1_does_not_wake_a_reader_of_its_own_reset_canary() -> None:
    async with two() as pair, trio.open_nursery() as nursery:
        stream = await pair.stream()
        woken = trio.Event()

        async def read() -> None:
            with suppress(BaseLibp2pError):
                await stream.read(1)
            woken.set()

        nursery.start_soon(read)
        await trio.sleep(0.2)
        await stream.reset()
        await trio.sleep(0.5)
        is_awake = woken.is_set()
        nursery.cancel_scope.cancel()

    assert not is_awake


async def test_an_abort_closes_the_connection_of_a_peer_that_went_silent() -> None:
    async with ours(hold) as (node, host):
        link = await node.dial(host.me, host.addresses(), 5)
        assert isinstance(link, Libp2pLink)
        link._last_received -= 60.0
        await link.abort("silent")
        await trio.sleep(0.3)

        assert not fixes.is_connected(node._host, host.me)


# ---- DHT -------------------------------------------------------------------------------------


@asynccontextmanager
async def three_plain_dhts() -> AsyncIterator[list[KadDHT]]:
    """Two servers and a client with the library's own DHT, the first in the middle."""
    fixes.apply()
    hosts = [fixes.make_host(bytes([n]) * 32, ()) for n in (1, 2, 3)]
    modes = (DHTMode.SERVER, DHTMode.SERVER, DHTMode.CLIENT)
    dhts = [
        KadDHT(
            host,
            mode,
            validator=NamespacedValidator({"nh": BlankValidator()}),
            validator_changed=True,
            protocol_prefix=TProtocol("/elsewhere"),
        )
        for host, mode in zip(hosts, modes, strict=True)
    ]
    listen = [Multiaddr(LOOPBACK)]
    async with hosts[0].run(listen), hosts[1].run(listen), hosts[2].run(listen):
        async with (
            background_trio_service(dhts[0]),
            background_trio_service(dhts[1]),
            background_trio_service(dhts[2]),
        ):
            middle = PeerInfo(hosts[0].get_id(), hosts[0].get_transport_addrs())
            for host, dht in zip(hosts[1:], dhts[1:], strict=True):
                await host.connect(middle)
                await dht.routing_table.add_peer(middle)
                await dht.refresh_routing_table()
            with trio.fail_after(30):
                yield dhts
        for host in hosts:
            await fixes.close(host)


async def test_traps_14_to_19_libp2p_0_8_1_dht_canary() -> None:
    async with three_plain_dhts() as (middle, server, client):
        assert isinstance(middle.host, BasicHost)
        handlers = middle.host.get_mux().handlers
        assert TProtocol("/elsewhere/kad/1.0.0") not in handlers, "14: the prefix is heeded"
        assert fixes.KAD_PROTOCOL in handlers

        ask = client.peer_routing._query_peer_for_closest
        assert await ask(middle.local_peer_id, record_key(ME).encode()) != []
        assert await ask(middle.local_peer_id, b"/nh/" + b"x" * 60) == [], "15: long keys pass now"

        key = provider_key(b"t" * 32, 0)
        await server.provide(key)
        middle.provider_store.add_provider(
            bytes.fromhex(key), PeerInfo(server.local_peer_id, server.host.get_addrs())
        )
        found = await client.find_providers(key, count=1000)
        assert len(found) == 2, "16: providers come once now"

        short = record_key(ME)
        await server.put_value(short, b"1")
        assert await client.get_value(short) == b"1"
        for dht in (middle, server):
            dht.value_store.store.clear()
            dht.provider_store.providers.clear()
        assert await client.get_value(short) == b"1", "17: values are looked up afresh now"
        assert len(await client.find_providers(key)) > 0, "17: providers are looked up afresh now"

        await server.put_value(short, b"2")
        stored = await server.value_store._store_at_peer(middle.local_peer_id, short.encode(), b"2")
        assert not stored, "18: the same bytes are taken again now"

        table = [info.peer_id for info in middle.routing_table.get_peer_infos()]
        assert client.local_peer_id in table, "19: clients stay out of the routing table now"


def test_trap_15_our_record_keys_are_short_enough_to_be_found() -> None:
    assert len(record_key(ME)) <= 50


def test_trap_20_libp2p_0_8_1_waits_10_s_for_a_dead_peer_canary() -> None:
    assert "QUERY_TIMEOUT = 10\n" in inspect.getsource(common)
    fixes.apply()
    assert peer_routing.QUERY_TIMEOUT == fixes.QUERY_SECONDS


def test_trap_21_libp2p_0_8_1_limits_providers_as_we_think_canary() -> None:
    dht = kad.make_dht(fixes.make_host(SEEDS[0], ()), True)

    assert common.BUCKET_SIZE == 20
    assert dht._provider_rate_max == 10
    assert dht._provider_rate_window == 10.0
    assert dht._inbound_limiter.total_tokens == 12


def test_trap_23_libp2p_0_8_1_has_no_async_service_canary() -> None:
    assert importlib.util.find_spec("libp2p.tools.async_service") is None


def test_a_validator_raises_nothing_but_value_errors() -> None:
    validator = kad.HostRecordValidator()
    with pytest.raises(ValueError, match="record"):
        validator.validate(record_key(ME), b"junk")
    with pytest.raises(ValueError, match="record"):
        validator.select(record_key(ME), [b"junk", b""])
