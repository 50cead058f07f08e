"""What every `Transport` promises, on the twin in memory and on libp2p over loopback alike."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
import trio.testing

from p2p.errors import DialFailed, Flood, PeerGone
from p2p.network.memory import MemoryNetwork
from p2p.network.peer import Libp2pTransport
from p2p.network.transport import Handler, Link, Startup, Transport

pytestmark = pytest.mark.slow

NODE, HOST, OTHER = b"\1" * 32, b"\2" * 32, b"\3" * 32


@dataclass
class Box:
    """What a handler of the tests saw."""

    links: list[Link] = field(default_factory=list)
    arrived: trio.Event = field(default_factory=trio.Event)

    async def keep(self, link: Link) -> None:
        """Hold the link open until the test ends."""
        self.links.append(link)
        self.arrived.set()
        await trio.sleep_forever()


async def echo(link: Link) -> None:
    while True:
        await link.send(await link.receive(65_536))


Make = Callable[[bytes], Transport]


@pytest.fixture(params=["memory", "libp2p"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "memory":
        return MemoryNetwork(seed=1).transport
    return lambda seed: Libp2pTransport(seed, listen=["/ip4/127.0.0.1/tcp/0"])


@asynccontextmanager
async def running(*transports: Transport) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for transport in transports:
            await nursery.start(transport.run)
        with trio.fail_after(20):
            yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair(make: Make, handler: Handler) -> AsyncIterator[tuple[Transport, Transport, Link]]:
    node, host = make(NODE), make(HOST)
    host.serve(handler)
    async with running(node, host):
        yield node, host, await node.dial(host.me, host.addresses(), 5)


async def receive_exactly(link: Link, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await link.receive(size - len(data))
    return data


async def receive_until_gone(link: Link) -> bytes:
    data = b""
    while True:
        try:
            data += await link.receive(65_536)
        except PeerGone:
            return data


async def test_both_ends_know_who_the_other_is(make: Make) -> None:
    box = Box()
    async with pair(make, box.keep) as (node, host, link):
        await link.send(b"x")
        await box.arrived.wait()

        assert link.peer == host.me
        assert box.links[0].peer == node.me
        assert box.links[0].address == "127.0.0.1"
        assert not link.relayed


async def test_bytes_arrive_in_order_and_whole_however_large(make: Make) -> None:
    sent = bytes(range(256)) * 4000
    async with pair(make, echo) as (_, _, link), trio.open_nursery() as nursery:
        nursery.start_soon(link.send, sent)

        assert await receive_exactly(link, len(sent)) == sent


async def test_a_read_returns_no_more_than_asked(make: Make) -> None:
    async with pair(make, echo) as (_, _, link):
        await link.send(b"abcdef")

        assert await link.receive(1) == b"a"
        assert await receive_exactly(link, 5) == b"bcdef"


async def test_what_was_sent_before_an_abort_still_arrives(make: Make) -> None:
    box = Box()
    async with pair(make, box.keep) as (_, _, link):
        await link.send(b"why it ends")
        await link.abort("enough")
        await box.arrived.wait()

        assert await receive_until_gone(box.links[0]) == b"why it ends"


async def test_an_aborted_link_wakes_its_own_reader(make: Make) -> None:
    async def read() -> None:
        with pytest.raises(PeerGone, match="enough"):
            await link.receive(1)

    async with pair(make, echo) as (_, _, link), trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await link.abort("enough")
        await link.abort("twice is no error")


async def test_an_aborted_link_neither_sends_nor_receives(make: Make) -> None:
    async with pair(make, echo) as (_, _, link):
        await link.abort("enough")

        with pytest.raises(PeerGone):
            await link.send(b"x")
        with pytest.raises(PeerGone):
            await link.receive(1)


async def test_an_abort_wakes_a_send_that_the_peer_does_not_take(make: Make) -> None:
    async def push() -> None:
        while True:
            await link.send(b"x" * 60_000)

    async def push_until_gone() -> None:
        with pytest.raises(PeerGone):
            await push()

    box = Box()
    async with pair(make, box.keep) as (_, _, link), trio.open_nursery() as nursery:
        nursery.start_soon(push_until_gone)
        await trio.sleep(0.5)
        with trio.fail_after(2):
            await link.abort("slow")


async def test_a_link_whose_handler_returned_is_gone(make: Make) -> None:
    async def once(link: Link) -> None:
        await link.send(await link.receive(10))

    async with pair(make, once) as (_, _, link):
        await link.send(b"last")

        assert await receive_until_gone(link) == b"last"


@pytest.mark.parametrize("error", [ZeroDivisionError(), Flood("test"), PeerGone("test")])
async def test_a_handler_that_raises_is_counted_and_harms_nobody(
    make: Make, error: Exception
) -> None:
    async def fails(link: Link) -> None:
        if await link.receive(1) == b"!":
            raise error
        await echo(link)

    name = getattr(error, "code", type(error).__name__)
    async with pair(make, fails) as (node, host, link):
        neighbour = await node.dial(host.me, host.addresses(), 5)
        await neighbour.send(b".hello")
        await link.send(b"!")
        await receive_until_gone(link)

        assert await receive_exactly(neighbour, 5) == b"hello"
        assert dict(host.faults) == {name: 1}


@pytest.mark.parametrize(("error", "is_bug"), [(ZeroDivisionError(), True), (Flood("x"), False)])
async def test_a_bug_of_a_handler_is_told_to_its_owner_and_an_error_of_ours_is_not(
    make: Make, error: Exception, is_bug: bool
) -> None:
    async def fails(link: Link) -> None:
        raise error

    bugs: list[Exception] = []
    node, host = make(NODE), make(HOST)
    host.serve(fails, bugs.append)
    async with running(node, host):
        await receive_until_gone(await node.dial(host.me, host.addresses(), 5))

    assert bugs == ([error] if is_bug else [])


async def test_a_peer_that_leaves_is_gone_at_once(make: Make) -> None:
    node, host = make(NODE), make(HOST)
    host.serve(echo)
    async with running(node):
        async with running(host):
            link = await node.dial(host.me, host.addresses(), 5)
        with trio.fail_after(2):
            await receive_until_gone(link)


async def test_dropping_a_peer_ends_its_links(make: Make) -> None:
    box = Box()
    async with pair(make, box.keep) as (node, host, link):
        await link.send(b"x")
        await box.arrived.wait()
        await host.drop(node.me)

        await receive_until_gone(link)


async def test_a_peer_that_comes_back_is_reached_at_the_first_try(make: Make) -> None:
    node = make(NODE)
    async with running(node):
        for _ in range(3):
            host = make(HOST)
            host.serve(echo)
            async with running(host):
                link = await node.dial(host.me, host.addresses(), 5)
                await link.send(b"again")
                assert await receive_exactly(link, 5) == b"again"
            with pytest.raises(DialFailed):
                await node.dial(host.me, host.addresses() or ["/ip4/127.0.0.1/tcp/9"], 5)


async def test_dialling_nobody_says_which_address_failed(make: Make) -> None:
    node, host = make(NODE), make(HOST)
    async with running(node):
        with pytest.raises(DialFailed, match="tcp/9"):
            await node.dial(host.me, ["/ip4/127.0.0.1/tcp/9"], 5)
        with pytest.raises(DialFailed, match="no address"):
            await node.dial(host.me, [], 5)


async def test_the_second_address_is_tried_when_the_first_is_dead(make: Make) -> None:
    node, host = make(NODE), make(HOST)
    host.serve(echo)
    async with running(node, host):
        link = await node.dial(host.me, ["/ip4/127.0.0.1/tcp/9", *host.addresses()], 10)

        assert link.peer == host.me


async def test_another_peer_at_the_address_is_no_substitute(make: Make) -> None:
    node, host, other = make(NODE), make(HOST), make(OTHER)
    other.serve(echo)
    async with running(node, other):
        with pytest.raises(DialFailed):
            await node.dial(host.me, other.addresses(), 5)


async def test_a_peer_that_serves_nothing_refuses_streams(make: Make) -> None:
    node, host = make(NODE), make(HOST)
    async with running(node, host):
        with pytest.raises(DialFailed):
            await node.dial(host.me, host.addresses(), 5)


async def test_a_banned_peer_is_refused_until_its_time_is_over(make: Make) -> None:
    node, host = make(NODE), make(HOST)
    host.serve(echo)
    async with running(node, host):
        host.ban(node.me, 0.5)
        with pytest.raises(DialFailed):
            await node.dial(host.me, host.addresses(), 5)
        await trio.sleep(0.6)
        link = await node.dial(host.me, host.addresses(), 5)

        assert link.peer == host.me


async def test_a_start_can_be_waited_for_beside_the_task(make: Make) -> None:
    node, startup = make(NODE), Startup()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(node.run, task_status=startup))
        with trio.fail_after(5):
            await startup.wait()
        nursery.cancel_scope.cancel()


async def test_many_links_opened_and_ended_leave_nothing_behind(make: Make) -> None:
    async with pair(make, echo) as (node, host, _):
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(100):
            link = await node.dial(host.me, host.addresses(), 5)
            await link.send(b"x")
            await link.receive(1)
            await link.abort("done")
        await trio.sleep(0.2)

        assert trio.lowlevel.current_statistics().tasks_living <= before
