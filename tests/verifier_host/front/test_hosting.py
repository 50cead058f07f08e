"""A host and its nodes over the network's twin: real ends, real streams, virtual time."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2p.drafting.conversation import Parted
from p2p.drafting.node_end import Closed, Committed, NodeEnd, NodeOffer, Opened, Welcomed
from p2p.errors import DialFailed, NexusError, PeerGone
from p2p.log import Log, quiet_log
from p2p.network.discovery import look
from p2p.network.memory import MemoryNetwork
from p2p.network.stream import Outbox, drive
from p2p.network.weather import Weather
from p2p.wire.fingerprint import Entry, ladder, tok_fp
from p2p.wire.identity import Identity, PeerId
from p2p.wire.messages import ByeReason, CloseReason, DraftOffer
from p2p.wire.record import Policy
from verifier_host.api.backend import Ask
from verifier_host.engine.fake import continuation
from verifier_host.front.hosting import PART_SECONDS, Hosting, Served
from verifier_host.messages import Sampling

HOST_SEED = b"h" * 32
HOST = Identity(HOST_SEED).peer
ASK = Ask(
    prompts=((10, 11, 12),),
    choices=1,
    sampling=Sampling(temperature=1.0),
    max_tokens=40,
    stop=(),
    seed=5,
    draft=True,
    exact=False,
    namespace=b"",
)


class Node:
    """A contributor that guesses the target's own words, or tokens that do not exist."""

    def __init__(
        self, world: "World", letter: str, entries: list[Entry], ip: str = "127.0.0.1"
    ) -> None:
        self.seed = letter.encode() * 32
        self.peer = Identity(self.seed).peer
        self.transport = world.network.transport(self.seed, ip=ip)
        self.addresses = world.transport.addresses()
        self.outbox = Outbox()
        self.events: list[Any] = []
        self.ended: NexusError | None = None
        self.is_foul = False
        self._entries = entries
        self._texts: dict[int, list[int]] = {}
        self._keys: dict[int, bytes] = {}
        self._ids: dict[int, int] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.transport.run)
            await trio.testing.wait_all_tasks_blocked()
            await self.serve_once()
            nursery.cancel_scope.cancel()

    async def serve_once(self) -> None:
        link = await self.transport.dial(HOST, self.addresses, 5)
        draft = DraftOffer(tok_fp(self._entries), "d", len(self._entries), ladder(self._entries))
        offer = NodeOffer("test", (draft,), 4, 4096, 100)
        self.end = NodeEnd(self.seed, HOST.public, offer, b"n" * 32, trio.current_time())
        try:
            await drive(link, self.end, self._deliver, self.outbox)
        except NexusError as error:
            self.ended = error

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def _deliver(self, events: list[Any]) -> None:
        self.events += events
        for event in events:
            match event:
                case Opened():
                    self._texts[event.sid] = list(event.tokens)
                    self._keys[event.sid] = event.key
                    self._ids[event.sid] = 1
                    self._guess(event.sid)
                case Committed():
                    self._texts[event.sid] += event.tokens
                    self._guess(event.sid)

    def _guess(self, sid: int) -> None:
        text = self._texts[sid]
        # `continuation` of a longer text under the same key is what the target says next.
        tokens = continuation(text, self._keys[sid], ASK.sampling, 3)
        if self.is_foul:
            tokens = [len(self._entries)] * 3  # no such token
        first = self._ids[sid]
        self._ids[sid] += len(tokens)
        self.end.grow(sid, len(text), first, (0, first, first + 1), tokens, b"\xff" * 3)
        self.outbox.wake()


class World:
    """A host, its nodes, and the engine's steps, in one nursery."""

    def __init__(self, front: Any, nursery: trio.Nursery, **settings: Any) -> None:
        self.front = front
        self.nursery = nursery
        self.network = MemoryNetwork()
        self.log: Log = quiet_log()
        vocabulary = front.generations._text._vocabulary
        self.entries = list(vocabulary.entries)
        served = Served("m", vocabulary, tok_fp(self.entries), b"f" * 32)
        values: dict[str, Any] = {"allowed": None, "max_nodes": 4, "max_nodes_per_address": 8}
        self.transport = self.network.transport(HOST_SEED)
        self.hosting = Hosting(
            HOST_SEED,
            self.transport,
            front.drafters,
            served,
            front.metrics,
            self.log,
            **(values | settings),
        )

    async def start(self) -> None:
        listening = trio.Event()
        self.nursery.start_soon(partial(self.hosting.run, listening.set))
        self.nursery.start_soon(self.front.generations.speak)
        await listening.wait()

    async def join(
        self, letter: str, entries: list[Entry] | None = None, ip: str = "127.0.0.1"
    ) -> Node:
        node = Node(self, letter, self.entries if entries is None else entries, ip)
        self.nursery.start_soon(node.run)
        await until(lambda: node.of(Welcomed) or node.ended)
        await trio.sleep(0.05)
        return node

    async def answer(self, ask: Ask = ASK) -> tuple[str, list[str], Any]:
        """Generate with 50 ms steps; return text, the nodes of its tokens, and the tally."""
        request = await self.front.generations.start(ask)
        text, nodes = "", []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._step)
            async for piece in request.pieces():
                text += piece.text
                nodes += [token.node for token in piece.tokens]
            nursery.cancel_scope.cancel()
        return text, nodes, request.tally()

    async def _step(self) -> None:
        while True:
            await trio.sleep(0.05)
            self.front.engine.step(self.front.generations)

    def nodes(self) -> float:
        found: float = self.front.metrics.registry.get_sample_value("nexus_nodes")
        return found

    def refused(self, code: str) -> float | None:
        found: float | None = self.front.metrics.registry.get_sample_value(
            "nexus_refused_total", {"code": code}
        )
        return found


async def until(is_true: Callable[[], object], seconds: float = 30.0) -> None:
    with trio.fail_after(seconds):
        while not is_true():
            await trio.sleep(0.01)


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


async def in_world(front: Any, body: Callable[[World], Any], **settings: Any) -> None:
    async with trio.open_nursery() as nursery:
        world = World(front, nursery, **settings)
        await world.start()
        await body(world)
        nursery.cancel_scope.cancel()


async def test_nodes_speed_a_text_up_and_change_nothing(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        plain, _, before = await world.answer()
        node = await world.join("a")
        drafted, nodes, after = await world.answer()

        assert drafted == plain
        assert after.steps < before.steps / 2
        assert node.peer.short in nodes
        assert after.accepted == sum(name == node.peer.short for name in nodes)
        assert world.nodes() == 1

    await in_world(front, body)


async def test_a_request_that_forbids_drafting_sends_nothing_to_a_node(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        node = await world.join("a")
        await world.answer(replace(ASK, draft=False))

        assert node.of(Opened) == node.of(Committed) == node.of(Closed) == []

    await in_world(front, body)


async def test_a_node_that_goes_in_the_middle_is_replaced_and_costs_no_token(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        plain, _, _ = await world.answer()
        nodes = [await world.join(letter) for letter in "ab"]

        async def cut() -> None:
            await trio.sleep(0.2)
            first = next(node for node in nodes if node.of(Opened))
            world.network.break_links(HOST, first.peer)

        world.nursery.start_soon(cut)
        text, _, _ = await world.answer()

        assert text == plain
        assert all(node.of(Opened) for node in nodes)
        assert world.nodes() == 1

    await in_world(front, body)


async def test_an_engine_that_dies_has_its_sessions_opened_anew(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        plain, _, _ = await world.answer()
        node = await world.join("a")

        async def kill() -> None:
            await trio.sleep(0.25)
            front.engine.die(front.generations)
            await trio.sleep(1.0)
            front.engine.start(front.generations)

        world.nursery.start_soon(kill)
        front.engine.step = partial(_step_if_up, front.engine.step, front.engine)
        text, _, _ = await world.answer()
        await trio.sleep(1.0)

        assert text == plain
        assert len(node.of(Opened)) == 2
        assert [event.reason for event in node.of(Closed)] == [
            CloseReason.ABORTED,
            CloseReason.FINISHED,
        ]

    await in_world(front, body)


def _step_if_up(step: Callable[[Any], bool], engine: Any, listener: Any) -> bool:
    return bool(engine.loaded) and step(listener)


async def test_a_second_stream_of_a_peer_replaces_the_first(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        node = await world.join("a")
        first = front.drafters.find(node.peer)
        world.nursery.start_soon(node.serve_once)
        await until(lambda: front.drafters.find(node.peer) not in (None, first))

        assert world.nodes() == 1
        assert front.drafters.count == 1

    await in_world(front, body)


async def test_a_node_that_is_not_listed_is_refused_and_told(front: Any, clock: MockClock) -> None:
    listed = Identity(b"a" * 32).peer

    async def body(world: World) -> None:
        node, stranger = await world.join("a"), await world.join("x")
        await until(lambda: stranger.ended)

        assert node.of(Welcomed)
        assert not stranger.of(Welcomed)
        assert world.refused("peer.policy") == 1
        assert world.nodes() == 1

    await in_world(front, body, allowed=frozenset({listed}))


async def test_a_full_host_takes_nobody_else(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        await world.join("a")
        late = await world.join("b")
        await until(lambda: late.ended)

        assert not late.of(Welcomed)
        assert world.refused("peer.busy") == 1

    await in_world(front, body, max_nodes=1)


async def test_one_address_has_so_many_nodes_and_others_are_not_concerned(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        first, second = [await world.join(letter, ip="192.0.2.1") for letter in "ab"]
        third = await world.join("c", ip="192.0.2.1")
        await until(lambda: third.ended)

        assert not third.of(Welcomed)
        assert world.refused("peer.busy") == 1
        assert (await world.join("d", ip="192.0.2.2")).of(Welcomed)
        world.network.break_links(HOST, first.peer)
        await until(lambda: first.ended)
        assert (await world.join("e", ip="192.0.2.1")).of(Welcomed)
        assert not second.ended

    await in_world(front, body, max_nodes=10, max_nodes_per_address=2)


async def test_this_machines_own_nodes_are_not_counted(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        nodes = [await world.join(letter) for letter in "abc"]

        assert all(node.of(Welcomed) for node in nodes)

    await in_world(front, body, max_nodes_per_address=1)


async def test_a_node_of_a_full_address_may_come_back_before_its_old_stream_is_gone(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        node = Node(world, "a", world.entries, "192.0.2.1")
        world.nursery.start_soon(node.transport.run)
        await trio.testing.wait_all_tasks_blocked()
        world.nursery.start_soon(node.serve_once)
        await until(lambda: node.of(Welcomed))

        world.nursery.start_soon(node.serve_once)

        await until(lambda: len(node.of(Welcomed)) == 2)

    await in_world(front, body, max_nodes_per_address=1)


async def test_streams_that_never_greet_are_bounded_by_address(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        node = Node(world, "a", world.entries, "2001:db8::1")
        near = Node(world, "b", world.entries, "2001:db8::2")
        for each in (node, near):
            world.nursery.start_soon(each.transport.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(4):
            await node.transport.dial(HOST, node.addresses, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert world.refused("peer.busy") is None

        link = await near.transport.dial(HOST, near.addresses, 5)
        with pytest.raises(PeerGone):
            await link.receive(100)

        assert world.refused("peer.busy") == 1

    await in_world(front, body, max_nodes_per_address=2)


async def test_a_foreign_tokenizer_is_refused(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        other = await world.join("a", [(0, b"%d" % id) for id in range(5_000)])
        await until(lambda: other.ended)

        assert not other.of(Welcomed)
        assert world.refused("model.incompatible") == 1

    await in_world(front, body)


async def test_a_node_that_breaks_a_rule_loses_that_session_only(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        plain, _, _ = await world.answer()
        node = await world.join("a")
        node.is_foul = True
        text, _, _ = await world.answer()

        assert text == plain
        assert world.refused("session.token")
        assert world.nodes() == 1

    await in_world(front, body)


async def test_a_peer_that_sends_rubbish_is_cut_off_and_kept_away(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        node = Node(world, "r", world.entries)
        world.nursery.start_soon(node.transport.run)
        await trio.testing.wait_all_tasks_blocked()
        link = await node.transport.dial(HOST, node.addresses, 5)
        await link.send(b"\xff" * 100)
        await until(lambda: world.refused("frame.length") == 1)

        # Whether the dial fails or the stream ends at once is the transport's affair.
        with pytest.raises(NexusError):
            await _dial_and_hear(node)

    await in_world(front, body)


async def _dial_and_hear(node: Node) -> bytes:
    link = await node.transport.dial(HOST, node.addresses, 5)
    return await link.receive(100)


async def test_a_node_that_parts_is_gone_at_once(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        node = await world.join("a")
        node.end.bye(ByeReason.PAUSED)
        node.outbox.wake()

        await until(lambda: world.nodes() == 0, seconds=1)
        await until(lambda: node.ended, seconds=0.1)

    await in_world(front, body)


async def test_a_host_that_stops_says_goodbye(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        node = await world.join("a")
        await world.hosting.part()
        await trio.sleep(0.1)

        assert [event.bye.reason for event in node.of(Parted)] == [ByeReason.SHUTDOWN]

    await in_world(front, body)


async def test_a_node_that_stays_after_the_hosts_goodbye_is_cut_off(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        node = await world.join("a")
        await world.hosting.part()

        await until(lambda: node.ended, seconds=PART_SECONDS + 0.1)
        assert world.nodes() == front.drafters.count == 0

    await in_world(front, body)


async def test_a_node_that_takes_no_goodbye_is_cut_off_too(front: Any, clock: MockClock) -> None:
    async def body(world: World) -> None:
        node = await world.join("a")
        world.network.set_weather(HOST, node.peer, Weather(window_bytes=0))
        world.nursery.start_soon(world.hosting.part)

        await until(lambda: world.nodes() == front.drafters.count == 0, PART_SECONDS + 0.1)

    await in_world(front, body)


async def test_a_replaced_stream_ends_and_the_newer_one_goes_on(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        node = Node(world, "a", world.entries)
        world.nursery.start_soon(node.transport.run)
        await trio.testing.wait_all_tasks_blocked()
        world.nursery.start_soon(node.serve_once)
        await until(lambda: world.nodes() == 1)
        first = front.drafters.find(node.peer)

        world.nursery.start_soon(node.serve_once)
        await until(lambda: front.drafters.find(node.peer) not in (None, first))
        await until(lambda: node.ended, seconds=PART_SECONDS + 0.1)

        assert world.nodes() == front.drafters.count == 1

    await in_world(front, body)


async def test_a_node_that_breaks_rules_again_and_again_is_banned(
    front: Any, clock: MockClock
) -> None:
    async def body(world: World) -> None:
        node = await world.join("a")
        node.is_foul = True
        with trio.fail_after(600):
            while not node.of(Parted):
                await world.answer()
        await until(lambda: node.ended, seconds=PART_SECONDS + 0.1)

        assert [event.bye.reason for event in node.of(Parted)] == [ByeReason.BANNED]
        assert world.nodes() == front.drafters.count == 0
        again = Node(world, "a", world.entries)
        world.nursery.start_soon(again.transport.run)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(DialFailed, match="refuses"):
            await again.serve_once()

    await in_world(front, body)


async def test_the_record_says_who_may_draft_and_where(front: Any, clock: MockClock) -> None:
    listed = frozenset({PeerId(bytes(32))})

    async def body(world: World) -> None:
        node = world.network.transport(b"z" * 32)
        world.nursery.start_soon(node.run)
        fingerprint = tok_fp(world.entries)
        found: list[Any] = []

        async def search() -> None:
            while not found:
                await trio.sleep(0.5)
                found.extend(await look(node.directory, [fingerprint]))

        with trio.fail_after(30):
            await search()

        (service,) = found[0].record.serves
        assert found[0].peer == HOST
        assert service.policy is Policy.INVITED
        assert service.name == "m"
        assert world.hosting.addresses[0].endswith(f"/p2p/{HOST}")

    await in_world(front, body, allowed=listed)
