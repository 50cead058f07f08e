import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from nexusnode.control.messages import Pause
from nexusnode.daemon.host import Host, hosts_by_tokenizer, offers
from nexusnode.daemon.hosts import MAX_HOSTS
from nexusnode.draft.messages import Growth
from nexusnode.policy.facts import Limits
from nexusnode.states import HostState
from p2p.errors import PeerGone
from p2p.network.memory import MemoryNetwork, MemoryTransport
from p2p.network.weather import Weather
from p2p.wire.identity import Identity
from p2p.wire.messages import ByeReason, CloseReason
from p2p.wire.record import SKEW_SECONDS, HostRecord, Policy, Service, sign_record

NODE = Identity(b"n" * 32).peer


async def test_a_stream_that_breaks_is_opened_again_within_a_second(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            host.open([1, 2, 3])
            await wait_until(lambda: node.drafting.session_count == 1)

            network.break_links(NODE, host.identity.peer)
            await wait_until(lambda: node.drafting.session_count == 0)
            await wait_until(lambda: host.streams == 2, seconds=1.0)
            await wait_until(host.greeted.is_set)

            sid = host.open([4, 5])
            await host.generate(sid, steps=5)
            assert host.credited > 5
        nursery.cancel_scope.cancel()


async def test_a_host_that_is_gone_is_dialled_ever_less_often_and_found_when_it_returns(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with fake_node(network, workers) as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run)
            await wait_until(host.greeted.is_set)
            nursery.cancel_scope.cancel()
        await trio.sleep(100)
        view = node.contributor.snapshot().hosts[0]
        assert view.state in ("waiting", "dialling")
        assert "nobody is there" in view.reason
        assert node.contributor.snapshot().missing == ("no-host",)

        again = make_host(network)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run)
            await wait_until(again.greeted.is_set, seconds=70)
            nursery.cancel_scope.cancel()


async def test_only_allowed_hosts_are_served(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    wanted, other = make_host(network), make_host(network, b"o" * 32)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wanted.run)
        nursery.start_soon(other.run)
        async with fake_node(network, workers, allowed=(str(wanted.identity.peer),)):
            await wait_until(wanted.greeted.is_set)
            await trio.sleep(60)

            assert other.streams == 0
        nursery.cancel_scope.cancel()


async def test_two_hosts_are_served_side_by_side(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    one, two = make_host(network), make_host(network, b"o" * 32)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
        async with fake_node(network, workers) as node:
            await wait_until(one.greeted.is_set)
            await wait_until(two.greeted.is_set)
            await one.generate(one.open([1, 2]), steps=5)
            await two.generate(two.open([3, 4]), steps=5)

            assert min(one.credited, two.credited) > 5
            assert [view.sessions for view in node.contributor.snapshot().hosts] == [1, 1]
        nursery.cancel_scope.cancel()


async def test_another_tokenizer_is_named_by_its_first_differing_token_and_not_tried_again_soon(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    entries = [(0, f"token {number}".encode()) for number in range(512)]
    entries[7] = (0, b"another")
    network = MemoryNetwork()
    host = make_host(network, entries=entries)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(lambda: node.hosts.all and node.hosts.all[0].state.value == "refused")

            reason = node.contributor.snapshot().hosts[0].reason
            assert "token 7 is b'token 7' here and b'another' at the host" in reason
            streams = host.streams
            await trio.sleep(200)
            assert host.streams == streams
        nursery.cancel_scope.cancel()


async def test_a_host_that_does_not_invite_is_left_alone_as_long_as_it_asks(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    host.invited = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(lambda: node.hosts.all and node.hosts.all[0].state.value == "refused")
            await trio.sleep(200)

            assert host.streams == 1
            assert "refused by the host" in node.contributor.snapshot().hosts[0].reason
        nursery.cancel_scope.cancel()


async def test_a_goodbye_of_the_host_ends_the_stream_for_as_long_as_it_says(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)

            host.end.bye(ByeReason.MOVING, 20)
            host.outbox.wake()
            await wait_until(lambda: host.end is None)
            assert "goodbye (moving)" in node.contributor.snapshot().hosts[0].reason
            await trio.sleep(15)
            assert host.streams == 1
            await wait_until(host.greeted.is_set, seconds=10)
        nursery.cancel_scope.cancel()


async def test_a_host_that_never_answers_is_given_up_in_time(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    network.set_weather(host.identity.peer, NODE, Weather(swallow=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(lambda: host.streams == 1)
            await wait_until(
                lambda: node.hosts.all[0].state.value in ("waiting", "refused"), seconds=10
            )
        nursery.cancel_scope.cancel()


async def test_only_so_many_hosts_are_remembered(
    fake_node: Any, workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers) as node:
        find_strangers(node, range(MAX_HOSTS + 3))
        await trio.sleep(1)

        assert len(node.hosts.all) == MAX_HOSTS
        assert len(node.contributor.snapshot().hosts) == MAX_HOSTS


async def test_dead_hosts_make_way_for_a_living_one(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with fake_node(network, workers) as node, trio.open_nursery() as nursery:
        find_strangers(node, range(MAX_HOSTS))
        await wait_until(lambda: all(one.idle_since < math.inf for one in node.hosts.all))

        nursery.start_soon(host.run)
        await wait_until(host.greeted.is_set)

        assert len(node.hosts.all) == MAX_HOSTS
        nursery.cancel_scope.cancel()


async def test_a_flood_of_records_costs_no_host_that_serves_or_served(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            for second in range(10):
                find_strangers(node, range(second * 40, second * 40 + 40))
                if second == 5:
                    network.break_links(NODE, host.identity.peer)
                await trio.sleep(1)

            assert len(node.hosts.all) == MAX_HOSTS
            assert node.hosts.all[0].peer == host.identity.peer
            assert node.hosts.all[0].state is HostState.SERVING
            assert host.streams == 2
            await host.generate(host.open([1, 2]), steps=5)
            assert host.credited > 5
        nursery.cancel_scope.cancel()


async def test_a_host_that_made_way_does_not_come_back_before_the_time_it_asked_for(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    host.invited = False
    peer = host.identity.peer
    async with fake_node(network, workers) as node, trio.open_nursery() as nursery:
        await nursery.start(host.transport.run)
        found = record(host.seed, 1, host.transport.addresses()[0])
        node.hosts.found(found)
        await wait_until(lambda: node.hosts.all[0].state is HostState.REFUSED)
        asked_seconds = node.hosts.all[0].asked_until - trio.current_time()
        find_strangers(node, range(MAX_HOSTS))
        assert peer not in [one.peer for one in node.hosts.all]

        await trio.sleep(asked_seconds - 1)
        node.hosts.found(found)
        assert peer not in [one.peer for one in node.hosts.all]
        await trio.sleep(1)
        node.hosts.found(found)
        await wait_until(lambda: host.streams == 2)
        nursery.cancel_scope.cancel()


async def test_listed_hosts_always_have_a_place(
    fake_node: Any, workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    listed = tuple(str(stranger(number).peer) for number in range(MAX_HOSTS + 8))
    async with fake_node(MemoryNetwork(), workers, allowed=listed) as node:
        find_strangers(node, range(MAX_HOSTS + 20))

        assert {str(one.peer) for one in node.hosts.all} == set(listed)


async def test_a_pause_is_no_fault_of_a_host(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            node.contributor.pause(Pause(None, None))
            await wait_until(lambda: host.end is None)
            find_strangers(node, range(100))

            assert len(node.hosts.all) == MAX_HOSTS
            assert node.hosts.all[0].peer == host.identity.peer
        nursery.cancel_scope.cancel()


async def test_a_newer_record_with_other_addresses_is_dialled_at_once(
    fake_node: Any, workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers) as node:
        node.hosts.found(record(b"h" * 32, seq=5))
        await trio.sleep(100)
        attempts = node.hosts.all[0].attempts

        node.hosts.found(record(b"h" * 32, seq=4, address="/memory/old"))
        assert node.hosts.all[0].addresses == ("/memory/nowhere",)
        node.hosts.found(record(b"h" * 32, seq=6, address="/memory/new"))
        await trio.sleep(0.01)

        assert node.hosts.all[0].addresses == ("/memory/new",)
        assert node.hosts.all[0].attempts < attempts
        assert "/memory/new" in node.hosts.all[0].reason


async def test_news_that_come_while_a_host_is_dialled_count_once(
    fake_node: Any,
    workers: Any,
    wait_until: Any,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    dialled: list[tuple[str, float]] = []

    async def dial(transport: Any, peer: Any, addresses: tuple[str, ...], seconds: float) -> None:
        dialled.append((addresses[0], trio.current_time()))
        if len(dialled) > 20:  # an endless loop shows as a count that is too high
            await trio.sleep_forever()
        await trio.sleep(5)
        raise PeerGone("nobody is there")

    monkeypatch.setattr(MemoryTransport, "dial", dial)
    async with fake_node(MemoryNetwork(), workers) as node:
        node.hosts.found(record(b"h" * 32, seq=5))
        await wait_until(lambda: len(dialled) == 1)
        await trio.sleep(1)

        node.hosts.found(record(b"h" * 32, seq=6, address="/memory/new"))
        await wait_until(lambda: len(dialled) == 2)
        assert dialled[1][0] == "/memory/new"
        assert dialled[1][1] == pytest.approx(dialled[0][1] + 5)

        await trio.sleep(300)
        assert 3 <= len(dialled) < 20


@pytest.mark.parametrize("count", [1, 10])
async def test_guesses_of_several_decodes_share_a_frame(
    count: int,
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            sid = host.open([1, 2, 3], rows=0)
            await wait_until(lambda: node.drafting.session_count == 1)
            stream = next(iter(node.hosts._streams.values()))
            stream.grow(sid, Growth(1, 3, 1, (0,), (9,), b"\xff"))
            await trio.sleep(0.001)
            for number in range(count):
                stream.grow(sid, Growth(1, 3, 2 + number, (1,), (10 + number,), b"\xff"))
            await trio.sleep(0.02)

            blocks = [event.block for event in host.events if hasattr(event, "block")]
            assert [len(block.tokens) for block in blocks] == [1, count]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("parent", "blocks"), [(0, 2), (1, 1)])
async def test_only_the_first_guesses_behind_a_commit_go_at_once(
    parent: int,
    blocks: int,
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            sid = host.open([1, 2, 3], rows=0)
            await wait_until(lambda: node.drafting.session_count == 1)
            stream = next(iter(node.hosts._streams.values()))
            stream.grow(sid, Growth(1, 3, 1, (0,), (9,), b"\xff"))
            await trio.sleep(0.002)

            stream.grow(sid, Growth(1, 3, 2, (parent,), (10,), b"\xff"))
            await trio.sleep(0.002)

            assert len([event for event in host.events if hasattr(event, "block")]) == blocks
        nursery.cancel_scope.cancel()


async def test_a_declined_session_is_told_to_the_host(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            sid = host.open([1, 2, 3])
            await wait_until(lambda: node.drafting.session_count == 1)
            stream = next(iter(node.hosts._streams.values()))

            stream.decline(sid, CloseReason.DECLINED_MEMORY)

            await wait_until(lambda: sid not in host.texts)
            stream.stop(PeerGone("enough"))
            await wait_until(lambda: "enough" in node.contributor.snapshot().hosts[0].reason)
        nursery.cancel_scope.cancel()


async def test_a_host_found_while_paused_is_dialled_when_the_pause_ends(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers, always=False) as node:
            await wait_until(lambda: node.hosts.all)
            await node.hosts.close(ByeReason.PAUSED)

            node.contributor.set_limits(Limits(always=True))

            await wait_until(host.greeted.is_set, seconds=2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("policy", "demand", "streams"), [(Policy.INVITED, 8, 1), (Policy.OPEN, 0, 2)]
)
async def test_a_host_that_refused_is_asked_again_once_it_offers_something_else(
    policy: Policy,
    demand: int,
    streams: int,
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Not when it publishes again what it offered, with another demand."""
    other = [(0, f"other {number}".encode()) for number in range(512)]
    network = MemoryNetwork()
    host = make_host(network, entries=other)
    addresses = tuple(host.transport.addresses())
    async with trio.open_nursery() as nursery:
        await nursery.start(host.transport.run)
        async with fake_node(network, workers) as node:
            first = record(host.seed, 1, addresses[0], Policy.INVITED, demand=8)
            node.hosts.found(first)
            await wait_until(lambda: node.hosts.all[0].state is HostState.REFUSED)

            node.hosts.found(record(host.seed, 2, addresses[0], policy, demand=demand))
            await trio.sleep(10)

            assert host.streams == streams
        nursery.cancel_scope.cancel()


async def test_no_news_of_a_host_bring_a_node_back_before_the_time_it_was_told(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    address = host.transport.addresses()[0]
    async with trio.open_nursery() as nursery:
        await nursery.start(host.transport.run)
        async with fake_node(network, workers) as node:
            node.hosts.found(record(host.seed, 1, address))
            await wait_until(host.greeted.is_set)
            host.end.bye(ByeReason.MOVING, 20)
            host.outbox.wake()
            await wait_until(lambda: host.end is None)

            newer = replace(record(host.seed, 2), addrs=(address, "/memory/another"))
            node.hosts.found(newer)
            await trio.sleep(19)
            assert host.streams == 1
            await wait_until(lambda: host.streams == 2, seconds=2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("expired_seconds", "count"), [(-10, 2), (SKEW_SECONDS - 1, 2), (SKEW_SECONDS + 1, 1)]
)
async def test_a_host_that_another_names_is_known_unless_its_record_has_expired(
    expired_seconds: int,
    count: int,
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        async with fake_node(network, workers) as node:
            expires = int(node.clock().unix_seconds) - expired_seconds
            named = replace(record(b"o" * 32, 1), iat=expires - 900, exp=expires)
            host.others = (b"no record", sign_record(named, Identity(b"o" * 32)))
            nursery.start_soon(host.run)
            await wait_until(host.greeted.is_set)
            await trio.sleep(0.1)

            assert len(node.hosts.all) == count
            told = [event.name for event in node.log.recent()].count("host.hearsay")
            assert told == 3 - count
        nursery.cancel_scope.cancel()


def stranger(number: int) -> Identity:
    return Identity(number.to_bytes(2, "big") * 16)


def find_strangers(node: Any, numbers: Iterable[int]) -> None:
    """Report hosts that nobody reaches."""
    for number in numbers:
        node.hosts.found(record(number.to_bytes(2, "big") * 16, seq=1))


def record(
    seed: bytes,
    seq: int,
    address: str = "/memory/nowhere",
    policy: Policy = Policy.OPEN,
    demand: int = 0,
) -> HostRecord:
    service = Service(bytes(32), bytes(32), "fake", policy, demand)
    public = Identity(seed).public
    return HostRecord(1, public, seq, 0, 900, (address,), (1,), (1,), (service,), ())


def test_hosts_are_counted_by_each_tokenizer_they_serve() -> None:
    def host(*tokenizers: bytes) -> Host:
        services = tuple(Service(one, bytes(32), "m", Policy.OPEN, 1) for one in tokenizers)
        identity = Identity(b"h" * 32)
        record = HostRecord(1, identity.public, 1, 0, 1, (), (1,), (1,), services, ())
        return Host(1, identity.peer, 1, (), offers(record))

    count = hosts_by_tokenizer([host(b"a" * 32, b"b" * 32), host(b"a" * 32)])

    assert (count[b"a" * 32], count[b"b" * 32], count[b"c" * 32]) == (2, 1, 0)
