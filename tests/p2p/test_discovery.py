"""Hosts publish, nodes find them: the loops in virtual time over the twin, then over real DHTs."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from p2p.network import discovery, kad
from p2p.network.discovery import Description, Found, discover, look, pause_seconds, publish
from p2p.network.memory import MemoryNetwork, MemoryTransport
from p2p.network.peer import Libp2pTransport
from p2p.network.transport import Transport
from p2p.wire.identity import Identity, PeerId
from p2p.wire.record import (
    LIFE_SECONDS,
    SKEW_SECONDS,
    HostRecord,
    Policy,
    Service,
    Signed,
    provider_key,
    read_record,
    record_key,
    shard_of,
    sign_record,
)

TOK, MODEL = b"t" * 32, b"m" * 32
SERVICE = Service(TOK, MODEL, "tiny", Policy.OPEN, 8)
HOST = Identity(b"h" * 32)
NODE_SEED = b"n" * 32


def record_of(identity: Identity, seq: int, address: str, issued: int | None = None) -> HostRecord:
    now = int(time.time()) if issued is None else issued
    life = now + LIFE_SECONDS
    return HostRecord(1, identity.public, seq, now, life, (address,), (1,), (1,), (SERVICE,), ())


class Watch:
    """What a node found, and when."""

    def __init__(self) -> None:
        self.found: list[tuple[float, Found]] = []
        self.has_host = False

    def report(self, found: Found) -> None:
        self.found.append((trio.current_time(), found))

    async def until(self, is_it: Callable[[Found], bool], timeout: float) -> Found:
        with trio.fail_after(timeout):
            while True:
                for _, found in self.found:
                    if is_it(found):
                        return found
                await trio.sleep(0.02)


@asynccontextmanager
async def running(*transports: Transport) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        for transport in transports:
            await nursery.start(transport.run)
        yield nursery
        nursery.cancel_scope.cancel()


# ---- the loops, over the twin, in virtual time -----------------------------------------------


def describing(transport: Transport) -> Callable[[], Description]:
    return lambda: Description(tuple(transport.addresses()), (SERVICE,))


@asynccontextmanager
async def watching(network: MemoryNetwork) -> AsyncIterator[Watch]:
    node = network.transport(NODE_SEED)
    watch = Watch()
    async with running(node) as nursery:

        async def search() -> None:
            await discover(node.directory, [TOK], watch.report, has_host=lambda: watch.has_host)

        nursery.start_soon(search)
        yield watch


@asynccontextmanager
async def hosting(network: MemoryNetwork, generation: int = 0) -> AsyncIterator[MemoryTransport]:
    host = network.transport(b"h" * 32, generation)
    async with running(host) as nursery:

        async def tell() -> None:
            await publish(host.directory, HOST, describing(host), unix=trio.current_time)

        nursery.start_soon(tell)
        yield host


def network_in_virtual_time() -> MemoryNetwork:
    return MemoryNetwork(unix=trio.current_time)


@pytest.mark.parametrize("delay", [0.0, 0.3, 3.0, 59.0, 61.0, 600.0])
async def test_a_host_that_comes_up_later_is_found_within_5_s(
    autojump_clock: trio.testing.MockClock, delay: float
) -> None:
    network = network_in_virtual_time()
    async with watching(network) as watch:
        await trio.sleep(delay)
        async with hosting(network) as host:
            began = trio.current_time()
            found = await watch.until(lambda found: True, 5)

            assert found.peer == host.me
            assert list(found.addresses) == host.addresses()
            assert trio.current_time() - began < 5


async def test_a_host_that_restarts_on_another_port_is_found_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = network_in_virtual_time()
    async with watching(network) as watch:
        async with hosting(network, 1) as host:
            old = tuple(host.addresses())
            await watch.until(lambda found: found.addresses == old, 5)
            watch.has_host = True
            await trio.sleep(1000)
        watch.has_host = False
        await trio.sleep(10)
        async with hosting(network, 2) as host:
            new = tuple(host.addresses())
            await watch.until(lambda found: found.addresses == new, 6)


async def test_a_node_with_a_host_looks_rarely(autojump_clock: trio.testing.MockClock) -> None:
    network = network_in_virtual_time()
    async with hosting(network), watching(network) as watch:
        await watch.until(lambda found: True, 5)
        watch.has_host = True
        await trio.sleep(5)
        watch.found.clear()
        await trio.sleep(1200)

        assert 1200 / 144 - 1 <= len(watch.found) <= 1200 / 96 + 1


async def test_a_directory_that_lost_everything_is_told_again_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = network_in_virtual_time()
    async with hosting(network) as host:
        await trio.sleep(1)
        network.set_directory_up(False)
        await trio.sleep(100)
        network.set_directory_up(True)
        await trio.sleep(1)

        assert await read(host, host.me, 1) is not None


async def test_a_record_is_renewed_before_it_expires_and_its_seq_rises(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = network_in_virtual_time()
    async with hosting(network) as host:
        seqs = []
        for _ in range(10):
            await trio.sleep(LIFE_SECONDS / 3 + 1)
            record = await read(host, host.me, 1)
            assert record is not None
            seqs.append(record.seq)

        assert seqs == sorted(set(seqs))


async def test_a_host_of_another_tokenizer_is_not_reported(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = network_in_virtual_time()
    async with hosting(network) as host:
        await trio.sleep(1)

        assert await look(host.directory, [b"x" * 32]) == []
        assert len(await look(host.directory, [TOK])) == 1
        # Named under our key, but its record does not serve it.
        foreign = replace(SERVICE, tok_fp=b"x" * 32)
        record = replace(record_of(HOST, 2**60, "/memory/x", 0), serves=(foreign,))
        key = provider_key(TOK, shard_of(HOST.peer))
        await host.directory.publish(sign_record(record, HOST), [key])
        assert await look(host.directory, [TOK]) == []


async def test_a_report_may_be_awaited(autojump_clock: trio.testing.MockClock) -> None:
    network = network_in_virtual_time()
    seen: list[Found] = []

    async def report(found: Found) -> None:
        await trio.sleep(0.1)
        seen.append(found)

    async with hosting(network) as host, trio.open_nursery() as nursery:

        async def search() -> None:
            await discover(host.directory, [TOK], report)

        nursery.start_soon(search)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()

    assert seen


def test_pauses_follow_how_urgent_a_host_is() -> None:
    assert pause_seconds(1, 0.0, 0) == 0.5
    assert pause_seconds(2, 0.5, 0) == 1.0
    assert pause_seconds(3, 1.5, 100) == 2.0
    assert pause_seconds(30, 59.9, 100) == 2.0
    assert pause_seconds(31, 60.0, 8) == 4.0
    assert pause_seconds(31, 60.0, 9) == 15.0
    assert pause_seconds(1, None, 0) == 120.0


def test_a_host_names_itself_once_under_each_fingerprint_in_its_own_shard() -> None:
    twin = replace(SERVICE, model_fp=b"o" * 32)
    shard = shard_of(HOST.peer)

    keys = discovery.provider_keys(HOST.peer, (SERVICE, twin))

    assert keys == [provider_key(fp, shard) for fp in (TOK, MODEL, b"o" * 32)]


# ---- real DHTs, in one process over loopback --------------------------------------------------


def server(seed: int, *bootstrap: Libp2pTransport) -> Libp2pTransport:
    return Libp2pTransport(
        bytes([seed]) * 32,
        listen=["/ip4/127.0.0.1/tcp/0"],
        bootstrap=[way_to(each) for each in bootstrap],
        server=True,
    )


def client(*bootstrap: Libp2pTransport) -> Libp2pTransport:
    return Libp2pTransport(NODE_SEED, bootstrap=[way_to(each) for each in bootstrap])


def way_to(transport: Libp2pTransport) -> str:
    return f"{transport.addresses()[0]}/p2p/{transport.me}"


@asynccontextmanager
async def deployed(servers: int) -> AsyncIterator[tuple[list[Libp2pTransport], Libp2pTransport]]:
    """A bootstrap peer, more servers, the last of them the publishing host, and a node."""
    async with trio.open_nursery() as nursery:
        peers = [server(1)]
        await nursery.start(peers[0].run)
        for number in range(2, servers + 1):
            peers.append(server(number, peers[0]))
            await nursery.start(peers[-1].run)
        node = client(peers[0])
        await nursery.start(node.run)
        for peer in (*peers[1:], node):
            await joined(peer)
        yield peers, node
        nursery.cancel_scope.cancel()


async def joined(peer: Libp2pTransport) -> None:
    with trio.fail_after(10):
        while not peer.directory.servers:
            await trio.sleep(0.02)


async def told(host: Libp2pTransport, seq: int, issued: int | None = None) -> HostRecord:
    identity = Identity(bytes([seq_of(host)]) * 32)
    record = record_of(identity, seq, host.addresses()[0], issued)
    keys = discovery.provider_keys(host.me, (SERVICE,))
    assert await host.directory.publish(sign_record(record, identity), keys) > 0
    return record


async def read(who: Any, peer: PeerId, timeout: float) -> HostRecord | None:
    """Return what the directory, as `who` sees it, holds of a host."""
    signed: Signed | None = await who.directory.record(peer, timeout)
    return None if signed is None else signed.record


def seq_of(host: Libp2pTransport) -> int:
    """Return the seed byte of a server made by `server`."""
    return next(n for n in range(1, 50) if Identity(bytes([n]) * 32).peer == host.me)


@pytest.mark.slow
@pytest.mark.parametrize("servers", [2, 6])
async def test_a_host_is_found_through_the_dht_with_its_newest_record(servers: int) -> None:
    async with deployed(servers) as (peers, node):
        host = peers[-1]
        first = await told(host, 1)
        assert await read(node, host.me, 5) == first
        second = await told(host, 2)
        found = await look(node.directory, [TOK])

        assert found == [Found(host.me, tuple(host.addresses()), second, found[0].value)]
        assert read_record(found[0].value) == second


@pytest.mark.slow
async def test_the_same_record_twice_is_refused_so_publications_rise() -> None:
    async with deployed(2) as (peers, _):
        await told(peers[1], 5)
        identity = Identity(bytes([2]) * 32)
        again = sign_record(record_of(identity, 5, peers[1].addresses()[0], 1000), identity)

        assert await peers[1].directory.publish(again, []) == 0


@pytest.mark.slow
async def test_expired_forged_and_foreign_records_are_never_believed() -> None:
    async with deployed(3) as (peers, node):
        boot, host, liar = peers
        record = await told(host, 1)
        now = int(time.time())
        mine, theirs = Identity(bytes([2]) * 32), Identity(bytes([3]) * 32)
        key = record_key(host.me)
        expired = record_of(mine, 9, "/memory/x", now - LIFE_SECONDS - SKEW_SECONDS - 5)
        future = record_of(mine, 9, "/memory/x", now + SKEW_SECONDS + 60)
        values = [
            sign_record(expired, mine),
            sign_record(future, mine),
            sign_record(record_of(theirs, 9, "/memory/x"), theirs),  # of another host
            sign_record(record, mine)[:-1] + b"\0",  # a signature that is wrong
            b"junk",
        ]
        for value in values:
            assert await kad.store(liar._dht, key, value) == 0
        # A server that keeps them nevertheless is not believed either.
        for value in values:
            boot._dht.value_store.put(key.encode(), value)
            assert await read(node, host.me, 5) in (None, record)


@pytest.mark.slow
async def test_what_is_known_is_forgotten_when_no_server_knows_it_any_more() -> None:
    async with deployed(2) as (peers, node):
        boot, host = peers
        record = await told(host, 1)
        assert await read(node, host.me, 5) == record
        key = provider_key(TOK, shard_of(host.me))
        assert [peer for peer, _ in await node.directory.find(key, 5)] == [host.me]
        for each in (boot, host):
            each._dht.value_store.store.clear()
            each._dht.provider_store.providers.clear()

        assert await read(node, host.me, 5) is None
        assert await node.directory.find(key, 5) == []


@pytest.mark.slow
async def test_a_server_that_looks_up_keeps_what_others_told_it() -> None:
    async with deployed(2) as (peers, node):
        boot, host = peers
        record = await told(host, 1)
        key = provider_key(TOK, shard_of(host.me))
        await read(boot, host.me, 5)
        await boot.directory.find(key, 5)
        await boot.directory.find(provider_key(TOK, 3 - shard_of(host.me)), 5)

        assert await read(node, host.me, 5) == record
        assert [peer for peer, _ in await node.directory.find(key, 5)] == [host.me]


@pytest.mark.slow
async def test_nodes_that_ask_never_enter_a_servers_routing_table() -> None:
    async with deployed(3) as (peers, node):
        for _ in range(3):
            await read(node, peers[1].me, 5)

        for peer in peers:
            assert node.me.public not in [
                each.to_bytes()[-32:] for each in kad.reached_servers(peer._dht)
            ]
        assert peers[0].directory.servers == 2


@pytest.mark.slow
async def test_a_node_finds_a_host_though_it_started_before_bootstrap_and_host() -> None:
    port_holder = server(1)
    async with running(port_holder):
        where = port_holder.addresses()[0]
    boot = Libp2pTransport(b"\1" * 32, listen=[where], server=True)
    way = f"{where}/p2p/{boot.me}"
    node = Libp2pTransport(NODE_SEED, bootstrap=[way])
    host = Libp2pTransport(
        b"\2" * 32, listen=["/ip4/127.0.0.1/tcp/0"], bootstrap=[way], server=True
    )
    watch = Watch()

    async def search() -> None:
        await discover(node.directory, [TOK], watch.report)

    async def tell() -> None:
        await publish(host.directory, Identity(b"\2" * 32), describing(host))

    async with running(node, host) as nursery:
        nursery.start_soon(search)
        nursery.start_soon(tell)
        await trio.sleep(1)
        await nursery.start(boot.run)
        found = await watch.until(lambda found: True, 5)

        assert found.peer == host.me


@pytest.mark.slow
async def test_a_killed_bootstrap_peer_stops_nothing() -> None:
    async def hold(link: object) -> None:
        await trio.sleep_forever()

    boot = server(1)
    async with trio.open_nursery() as nursery:
        async with running(boot):
            host = server(2, boot)
            host.serve(hold)
            node = client(boot)
            await nursery.start(host.run)
            await nursery.start(node.run)
            await joined(host)
            record = await told(host, 1)
            link = await node.dial(host.me, host.addresses(), 5)
        await link.send(b"still here")
        # The host is a server too, and the node is connected to it.
        assert await read(node, host.me, 8) == record
        await link.send(b"still here")
        nursery.cancel_scope.cancel()
