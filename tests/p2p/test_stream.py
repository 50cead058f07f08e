"""Both real ends over a link in memory, under every weather; time is virtual."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from p2p.drafting.conversation import Conversation
from p2p.drafting.host_end import Greeted, Guessed, HostEnd, HostTerms
from p2p.drafting.node_end import Committed, NodeEnd, NodeOffer, Opened, Welcomed
from p2p.errors import BadLength, Flood, Incompatible, NexusError, PeerGone
from p2p.network.memory import MemoryNetwork, MemoryTransport
from p2p.network.stream import Outbox, drive
from p2p.network.transport import Link
from p2p.network.weather import Weather
from p2p.wire.chain import Direction
from p2p.wire.identity import Identity
from p2p.wire.messages import ByeReason, DraftOffer, Hello, Ping, Sampler, TokenKind, Welcome

NODE_SEED, HOST_SEED = b"n" * 32, b"h" * 32
DRAFT = DraftOffer(b"t" * 32, "draft", 1000, b"")
OFFER = NodeOffer("nexusnode/test", (DRAFT,), 4, 1000, 90)
WORDS = [(TokenKind.NORMAL, b"w")] * 1000
TERMS = HostTerms(DRAFT.tok_fp, b"m" * 32, b"", WORDS, 4)
SAMPLER = Sampler(0, 0, 1000, 0)
BRIEFLY = 0.001


@dataclass
class Side:
    """One end while it is driven: its events, and what ended it when."""

    end: NodeEnd | HostEnd
    outbox: Outbox = field(default_factory=Outbox)
    events: list[object] = field(default_factory=list)
    ended: NexusError | None = None
    ended_at: float = 0.0
    over: trio.Event = field(default_factory=trio.Event)

    async def drive(self, link: Link) -> None:
        try:
            await drive(link, self.end, self.events.extend, self.outbox)
        except NexusError as error:
            self.ended, self.ended_at = error, trio.current_time()
            self.over.set()

    async def until_it_ends(self) -> NexusError:
        with trio.fail_after(60):
            await self.over.wait()
        assert self.ended is not None
        return self.ended

    async def until_it_hears(self, kind: type) -> object:
        with trio.fail_after(60):
            while not (heard := [event for event in self.events if isinstance(event, kind)]):
                assert self.ended is None, self.ended
                await trio.sleep(BRIEFLY)
        return heard[-1]


class Stage:
    """A node and a host in one memory network, with a stream between them."""

    def __init__(self, offer: NodeOffer = OFFER) -> None:
        self.network = MemoryNetwork(seed=7)
        self.node_peer = self.network.transport(NODE_SEED)
        self.host_peer = self.network.transport(HOST_SEED)
        self.node = Side(
            NodeEnd(NODE_SEED, self.host_peer.me.public, offer, b"1" * 32, trio.current_time())
        )
        self.host = Side(
            HostEnd(HOST_SEED, self.node_peer.me.public, TERMS, b"2" * 32, trio.current_time())
        )

    @property
    def node_end(self) -> NodeEnd:
        assert isinstance(self.node.end, NodeEnd)
        return self.node.end

    @property
    def host_end(self) -> HostEnd:
        assert isinstance(self.host.end, HostEnd)
        return self.host.end

    def upstream(self, weather: Weather) -> None:
        self.network.set_weather(self.node_peer.me, self.host_peer.me, weather)

    def downstream(self, weather: Weather) -> None:
        self.network.set_weather(self.host_peer.me, self.node_peer.me, weather)

    @asynccontextmanager
    async def dialled(self) -> AsyncIterator[Link]:
        self.host_peer.serve(self.host.drive)
        async with running(self.node_peer, self.host_peer):
            yield await self.node_peer.dial(self.host_peer.me, self.host_peer.addresses(), 5)

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        async with self.dialled() as link, trio.open_nursery() as nursery:
            nursery.start_soon(self.node.drive, link)
            yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def with_session(self) -> AsyncIterator[None]:
        async with self.playing():
            await self.host.until_it_hears(Greeted)
            self.host_end.open(1, b"k" * 8, SAMPLER, (1, 2, 3), 50, 8, 16)
            self.host.outbox.wake()
            await self.node.until_it_hears(Opened)
            yield


async def flood(link: Link, talk: Conversation) -> None:
    for number in range(10_000):
        talk.say(Ping(number, 0))
        await link.send(talk.take())
        await trio.sleep(0.001)


@asynccontextmanager
async def running(*peers: MemoryTransport) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for peer in peers:
            await nursery.start(peer.run)
        yield
        nursery.cancel_scope.cancel()


async def test_guesses_go_up_and_commits_come_down(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.with_session():
        stage.node_end.grow(1, 3, 1, (0, 1), (7, 8), b"\xff\xff")
        stage.node.outbox.wake()
        guessed = await stage.host.until_it_hears(Guessed)
        stage.host_end.commit(1, 3, (7, 9), 0, 1)
        stage.host.outbox.wake()
        committed = await stage.node.until_it_hears(Committed)

        assert isinstance(guessed, Guessed)
        assert guessed.block.tokens == (7, 8)
        assert isinstance(committed, Committed)
        assert committed.tokens == (7, 9)


@pytest.mark.slow
async def test_a_conversation_survives_bytes_that_come_one_by_one_late_and_unevenly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    bad = Weather(latency_seconds=0.08, jitter_seconds=0.01, piece_bytes=1)
    stage.upstream(bad)
    stage.downstream(bad)
    async with stage.with_session():
        for number in range(20):
            stage.host_end.commit(1, 3 + number, (number,), 0, 0)
            stage.host.outbox.wake()
            await trio.sleep(0.01)
        await trio.sleep(1)

        tokens = [
            token
            for event in stage.node.events
            if isinstance(event, Committed)
            for token in event.tokens
        ]
        assert tokens == list(range(20))


async def test_what_is_ready_together_goes_in_one_write(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.with_session():
        for number in range(50):
            stage.host_end.commit(1, 3 + number, (number,), 0, 0)
            stage.host.outbox.wake()
        await trio.sleep(0.1)

        commits = [event for event in stage.node.events if isinstance(event, Committed)]
        assert [len(commit.tokens) for commit in commits] == [50]


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 68, 69, 200, 400])
@pytest.mark.parametrize("way", ["upstream", "downstream"])
async def test_a_link_cut_at_any_byte_ends_both_ends_at_once(
    autojump_clock: trio.testing.MockClock, cut: int, way: str
) -> None:
    stage = Stage()
    getattr(stage, way)(Weather(cut_after_bytes=cut))
    async with stage.playing():
        began = trio.current_time()
        errors = [await stage.node.until_it_ends(), await stage.host.until_it_ends()]

        assert all(isinstance(error, PeerGone) for error in errors)
        # A frame that is cut off is noticed at once; PINGs of 5 s bring a stream to its 400th byte.
        assert trio.current_time() - began <= 10.1


async def test_a_peer_that_falls_silent_is_gone_within_15_s(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.with_session():
        await trio.sleep(2)
        silent_since = trio.current_time()
        stage.upstream(Weather(swallow=True))
        stage.downstream(Weather(swallow=True))
        for side in (stage.host, stage.node):
            assert isinstance(await side.until_it_ends(), PeerGone)
            assert 9.9 <= side.ended_at - silent_since <= 15.1


@pytest.mark.slow
async def test_an_idle_stream_stays_open(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with stage.playing():
        await trio.sleep(600)

        assert stage.node.ended is None
        assert stage.host.ended is None


async def test_a_peer_that_says_nothing_at_all_is_gone_after_5_s(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.dialled():
        error = await stage.host.until_it_ends()

        assert isinstance(error, PeerGone)
        assert stage.host.ended_at == pytest.approx(5.0, abs=0.1)


async def test_a_peer_that_does_not_read_is_closed_after_3_s(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.with_session():
        stage.downstream(Weather(window_bytes=0))
        stage.host_end.commit(1, 3, (7,), 0, 0)
        stage.host.outbox.wake()
        since = trio.current_time()
        error = await stage.host.until_it_ends()

        assert isinstance(error, PeerGone)
        assert "slow" in str(error)
        assert stage.host.ended_at - since == pytest.approx(3.0, abs=0.05)
        assert isinstance(await stage.node.until_it_ends(), PeerGone)


async def test_a_write_that_takes_just_under_3_s_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.with_session():
        stage.downstream(Weather(window_bytes=0))
        stage.host_end.commit(1, 3, (7,), 0, 0)
        stage.host.outbox.wake()
        await trio.sleep(2.9)
        stage.downstream(Weather())
        await stage.node.until_it_hears(Committed)

        assert stage.host.ended is None


async def test_an_offence_ends_the_stream_and_the_offender_is_told_why(
    autojump_clock: trio.testing.MockClock,
) -> None:
    foreign = DraftOffer(b"x" * 32, "foreign", 1000, b"")
    stage = Stage(NodeOffer("nexusnode/test", (foreign,), 4, 1000, 90))
    async with stage.playing():
        assert isinstance(await stage.host.until_it_ends(), Incompatible)
        await stage.node.until_it_ends()

        assert "Refused" in [type(event).__name__ for event in stage.node.events]


async def test_bytes_that_are_no_frame_end_the_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.dialled() as link:
        await link.send(b"\xff" * 100)

        assert isinstance(await stage.host.until_it_ends(), BadLength)
        with pytest.raises(PeerGone):
            await link.receive(1)


async def test_a_goodbye_is_written_before_the_stream_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.playing():
        await stage.host.until_it_hears(Greeted)
        await stage.node.until_it_hears(Welcomed)
        stage.node_end.bye(ByeReason.PAUSED)
        stage.node.outbox.wake()
        with trio.fail_after(1):
            await stage.node.outbox.flushed()
    # The node's driver is cancelled now, and its peer gone.
    assert "Parted" in [type(event).__name__ for event in stage.host.events]


async def test_a_bug_in_the_owner_comes_out_as_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def fails(events: list[object]) -> None:
        raise ZeroDivisionError

    stage = Stage()
    async with stage.dialled() as link:
        with pytest.raises(ExceptionGroup) as caught:
            await drive(link, stage.node_end, fails, stage.node.outbox)
        assert caught.group_contains(ZeroDivisionError)
        with pytest.raises(PeerGone):
            await link.send(b"x")


@pytest.mark.slow
async def test_a_flood_of_frames_is_paused_and_then_cut_off(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.dialled() as link:
        talk = Conversation(Identity(NODE_SEED), Direction.NODE, stage.host_peer.me.public, 0.0)
        hello = talk.say(Hello((1,), b"1" * 32, "flood", (DRAFT,), (1,), 0, 4, 1000, 90))
        await link.send(talk.take())
        for message, payload in talk.hear(await link.receive(65_536), 0.0):
            if isinstance(message, Welcome):
                talk.restart(hello, payload, 5.0)
        with pytest.raises(PeerGone):
            await flood(link, talk)

        assert isinstance(await stage.host.until_it_ends(), Flood)
        assert stage.host.ended_at < 5
