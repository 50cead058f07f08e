"""Both ends of a stream against each other, and against a network and peers that do their worst."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.drafting.conversation import Measured, Offended
from p2p.drafting.host_end import Declined, Greeted, Guessed, HostEnd, HostEvent, HostTerms
from p2p.drafting.node_end import (
    Budgeted,
    Closed,
    Committed,
    NodeEnd,
    NodeEvent,
    NodeOffer,
    Opened,
)
from p2p.errors import BadSignature, PeerError, PeerGone
from p2p.wire.chain import Direction, Signer
from p2p.wire.frame import FrameDecoder, frame
from p2p.wire.identity import Identity
from p2p.wire.messages import PEER_CODEC, Block, CloseReason, Draft, DraftOffer, Sampler
from p2p.wire.schema import packb

NODE_SEED, HOST_SEED = b"n" * 32, b"h" * 32
NODE, HOST = Identity(NODE_SEED), Identity(HOST_SEED)
VOCABULARY = 50
ENTRIES = tuple((0, bytes([token])) for token in range(VOCABULARY))
TERMS = HostTerms(b"t" * 32, b"m" * 32, b"", ENTRIES, max_sessions=3)
OFFER = NodeOffer("node", (DraftOffer(TERMS.tok_fp, "draft", VOCABULARY, b""),), 3, 9000, 90)
SAMPLER = Sampler(1000, 0, 1000, 0)
KEY = b"k" * 8


def ends(nonce: bytes = b"1" * 32, now: float = 0.0) -> tuple[NodeEnd, HostEnd]:
    node = NodeEnd(NODE_SEED, HOST.public, OFFER, nonce, now)
    return node, HostEnd(HOST_SEED, NODE.public, TERMS, b"2" * 32, now)


def greeted() -> tuple[NodeEnd, HostEnd]:
    """Both ends behind the handshake, with nothing on the way."""
    node, host = ends()
    for _ in range(3):
        host.receive(node.outgoing(0.0), 0.0)
        node.receive(host.outgoing(0.0), 0.0)
    return node, host


@dataclass
class Wire:
    """Bytes on the way in one direction, given out in pieces of any size."""

    data: bytes = b""

    def take(self, count: int) -> bytes:
        piece, self.data = self.data[:count], self.data[count:]
        return piece


@dataclass
class Story:
    """What one end did for a session, and what the other end must have heard of it."""

    text: list[int]
    guesses: list[tuple[int, int, int]] = field(default_factory=list)  # id, parent, token
    next_id: int = 1


class Play:
    """Both ends, two wires with delay, and the naive record of everything said."""

    def __init__(self) -> None:
        self.node, self.host = greeted()
        self.up, self.down = Wire(), Wire()
        self.now = 0.0
        self.told: dict[int, Story] = {}  # by the host
        self.known: dict[int, Story] = {}  # by the node
        self.heard: dict[int, list[tuple[int, int, int]]] = {}  # guesses, at the host
        self.budgets: dict[int, tuple[int, int]] = {}
        self.next_sid = 1

    def flush(self) -> None:
        self.up.data += self.node.outgoing(self.now)
        self.down.data += self.host.outgoing(self.now)

    def to_host(self, count: int) -> None:
        events = self.host.receive(self.up.take(count), self.now)
        for event in events:
            match event:
                case Guessed(sid, block):
                    rows = zip(
                        range(block.first, block.first + len(block.tokens)),
                        block.parents,
                        block.tokens,
                        strict=True,
                    )
                    self.heard[sid] += rows
                    assert block.pos <= len(self.told[sid].text)
                case Declined(sid, _):
                    self.told.pop(sid)
                case _:
                    assert isinstance(event, Measured), event

    def to_node(self, count: int) -> None:
        for event in self.node.receive(self.down.take(count), self.now):
            match event:
                case Opened():
                    self.known[event.sid] = Story([*event.tokens])
                    self.budgets[event.sid] = (event.rows, event.ahead)
                case Committed():
                    text = self.known[event.sid].text
                    assert event.pos == len(text)
                    text += event.tokens
                    self.budgets[event.sid] = (event.rows, event.ahead)
                case Budgeted():
                    self.budgets[event.sid] = (event.rows, event.ahead)
                case Closed():
                    del self.known[event.sid]
                case _:
                    assert isinstance(event, Measured), event

    def act(self, action: int, amount: int) -> None:
        """One thing that either side, the network or time may do; `amount` says how much of it."""
        match action:
            case 0:
                self.to_host(amount * amount)
            case 1:
                self.to_node(amount * amount)
            case 2:
                self.now += amount / 400  # less than a silence in all
                for end in (self.node, self.host):
                    end.tick(self.now)
            case 3 if self.host.free_sessions:
                sid = self.next_sid
                self.next_sid += 1
                text = [(sid + step) % VOCABULARY for step in range(1 + amount * 100)]
                self.host.open(sid, KEY, SAMPLER, text, 100, amount, amount)
                self.told[sid] = Story(text)
                self.heard[sid] = []
            case 4 | 5 if self.told:
                sid = [*self.told][amount % len(self.told)]
                story = self.told[sid]
                tokens = [amount % VOCABULARY] * (1 + amount % 5)
                self.host.commit(sid, len(story.text), tokens, 0, 0)
                story.text += tokens
            case 6:
                self.host.budget(0, amount % 3, amount)
            case 7 if self.told:
                sid = [*self.told][amount % len(self.told)]
                self.host.close(sid, CloseReason.FINISHED)
                del self.told[sid]
            case 8 if self.known:
                sid = [*self.known][amount % len(self.known)]
                self.node.decline(sid, CloseReason.PAUSED)
                del self.known[sid]
            case 9 | 10 | 11 if self.known:
                self.grow([*self.known][amount % len(self.known)], amount)
        self.flush()

    def grow(self, sid: int, amount: int) -> None:
        story = self.known[sid]
        count, first = 1 + amount % 12, story.next_id
        parents = [max(0, first + step - 1 - amount % 4) for step in range(count)]
        tokens = [(amount + step) % VOCABULARY for step in range(count)]
        pos = len(story.text) - amount % 2
        self.node.grow(sid, pos, first, parents, tokens, bytes(count))
        story.guesses += zip(range(first, first + count), parents, tokens, strict=True)
        story.next_id += count


actions = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 60)), max_size=80)


@pytest.mark.slow
@given(actions)
@settings(max_examples=150, deadline=None)
def test_whatever_the_order_and_the_cuts_each_end_hears_exactly_what_the_other_said(
    script: list[tuple[int, int]],
) -> None:
    play = Play()
    for action, amount in script:
        play.act(action, amount)
    # Let everything arrive: some rounds, as answers make answers, past what rests for a second.
    play.host.budget(0, 5, 5)
    for _ in range(4):
        play.now += 1.01
        play.flush()
        play.to_host(1 << 20)
        play.to_node(1 << 20)

    assert set(play.told) == set(play.known)
    for sid, story in play.known.items():
        assert story.text == play.told[sid].text
        assert play.heard[sid] == story.guesses
        assert play.budgets[sid] == (5, 5)
    assert set(play.node.counters) | set(play.host.counters) <= {"stale"}


def outcome(
    end: NodeEnd | HostEnd, data: bytes
) -> tuple[list[NodeEvent] | list[HostEvent], PeerError | None]:
    """Return the events of `data`, or the typed refusal: any other exception is a bug."""
    try:
        return end.receive(data, 0.0), None
    except PeerError as error:
        return [], error


# ---- a network that changes what it carries ----------------------------------------------------


def three_frames() -> tuple[HostEnd, list[bytes]]:
    """A host with one open session, and three signed DRAFT frames on their way to it."""
    node, host = greeted()
    host.open(1, KEY, SAMPLER, [1, 2, 3], 100, 8, 8)
    node.receive(host.outgoing(0.0), 0.0)
    frames = []
    for first in (1, 2, 3):
        node.grow(1, 3, first, [first - 1], [first], b"\xff")
        frames.append(node.outgoing(0.0))
    return host, frames


def test_frames_in_order_are_taken() -> None:
    host, frames = three_frames()

    assert len(host.receive(b"".join(frames), 0.0)) == 3


@pytest.mark.parametrize(
    ("order", "good"),
    [
        ((1, 0, 2), 0),  # swapped
        ((0, 2), 1),  # dropped
        ((0, 0, 1), 1),  # repeated at once
        ((0, 1, 2, 0), 3),  # repeated later
    ],
)
def test_frames_that_are_swapped_dropped_or_repeated_never_verify(
    order: tuple[int, ...], good: int
) -> None:
    host, frames = three_frames()
    for place in order[:good]:
        host.receive(frames[place], 0.0)

    with pytest.raises(BadSignature):
        host.receive(frames[order[good]], 0.0)
    assert host.outgoing(0.0) == b""


def test_a_frame_of_another_stream_between_the_same_peers_never_verifies() -> None:
    _, frames = three_frames()
    node, host = ends(nonce=b"9" * 32)
    host.receive(node.outgoing(0.0), 0.0)
    node.receive(host.outgoing(0.0), 0.0)

    with pytest.raises(BadSignature):
        host.receive(frames[0], 0.0)


def test_a_frame_of_the_other_direction_never_verifies() -> None:
    node, host = greeted()
    host.open(1, KEY, SAMPLER, [1], 10, 1, 1)

    with pytest.raises(BadSignature):
        host.receive(host.outgoing(0.0), 0.0)
    assert node.counters == {}


def test_a_hello_meant_for_another_host_never_verifies() -> None:
    node = NodeEnd(NODE_SEED, Identity(b"o" * 32).public, OFFER, b"1" * 32, 0.0)
    _, host = ends()

    with pytest.raises(BadSignature):
        host.receive(node.outgoing(0.0), 0.0)


def test_a_handshake_that_is_replayed_ends_at_the_first_frame_after_it() -> None:
    node, host = ends()
    hello = node.outgoing(0.0)
    host.receive(hello, 0.0)
    node.receive(host.outgoing(0.0), 0.0)
    later = node.outgoing(0.0)
    again = HostEnd(HOST_SEED, NODE.public, TERMS, b"3" * 32, 0.0)  # a fresh nonce

    assert isinstance(again.receive(hello, 0.0)[0], Greeted)
    with pytest.raises(BadSignature):
        again.receive(later, 0.0)


@pytest.mark.slow
@given(bit=st.integers(0, 10**6))
def test_any_flipped_bit_of_a_frame_is_refused_or_waits_for_more(bit: int) -> None:
    host, frames = three_frames()
    place = bit % (8 * len(frames[0]))
    broken = bytearray(frames[0])
    broken[place // 8] ^= 1 << (place % 8)

    events, error = outcome(host, bytes(broken))
    assert events == []  # refused, or a greater length: the rest of the frame is waited for
    assert host.counters == ({error.code: 1} if error else {})


def test_a_frame_cut_anywhere_says_nothing_until_it_is_whole() -> None:
    _, frames = three_frames()
    for cut in range(len(frames[0])):
        host, frames = three_frames()

        assert host.receive(frames[0][:cut], 0.0) == []
        assert len(host.receive(frames[0][cut:], 0.0)) == 1


# ---- peers that do their worst -----------------------------------------------------------------

junk_values = st.sampled_from(
    [None, True, -1, 0, 1, 2, 64, 2**16, 2**32, 2**63, 0.5, b"", bytes(8), bytes(32), "text", [1]]
) | st.lists(st.integers(0, 9) | st.just([1, 0, 1, 1, [0], [1], b"1"]), max_size=7)
junk_payloads = st.binary(min_size=1, max_size=60) | st.tuples(
    st.integers(0, 31), st.lists(junk_values, max_size=13)
).map(lambda parts: packb([parts[0], *parts[1]]))


def signed_stream(payloads: list[bytes], is_node: bool) -> tuple[NodeEnd | HostEnd, bytes]:
    """An end behind its handshake, and `payloads` as its peer would sign them."""
    node, host = ends()
    hello = node.outgoing(0.0)
    host.receive(hello, 0.0)
    welcome = host.outgoing(0.0)
    hello_payload = FrameDecoder().feed(hello)[0][64:]
    welcome_payload = FrameDecoder().feed(welcome)[0][64:]
    direction = Direction.NODE if is_node else Direction.HOST
    identity, receiver = (NODE, HOST.public) if is_node else (HOST, NODE.public)
    signer = Signer(identity, direction, receiver)
    signer.restart(hello_payload, welcome_payload)
    if not is_node:
        for body in FrameDecoder().feed(welcome)[1:]:
            signer.sign(body[64:])
    node.receive(welcome, 0.0)
    host.open(1, KEY, SAMPLER, [1], 10, 1, 1)
    if is_node:
        host.outgoing(0.0)
    data = b"".join(frame(signer.sign(payload)) for payload in payloads)
    return (host if is_node else node), data


@pytest.mark.slow
@given(st.lists(junk_payloads, min_size=1, max_size=6), st.booleans())
@settings(max_examples=100, deadline=None)
def test_signed_junk_brings_a_typed_refusal_and_nothing_else(
    payloads: list[bytes], is_node: bool
) -> None:
    end, data = signed_stream(payloads, is_node)

    _, error = outcome(end, data)
    if error is not None:
        assert end.counters[error.code] == 1
        assert end.receive(data, 0.0) == []
    end.outgoing(0.0)


@pytest.mark.slow
@given(data=st.binary(max_size=300), is_node=st.booleans())
def test_bytes_of_no_one_bring_a_typed_refusal_or_wait(data: bytes, is_node: bool) -> None:
    end, _ = signed_stream([], is_node)

    events, error = outcome(end, data)

    assert events == []
    assert end.counters == ({error.code: 1} if error else {})


blocks = st.builds(
    lambda seen, pos, first, rows: Block(
        1,
        seen,
        pos,
        first,
        tuple(parent for parent, _ in rows),
        tuple(token for _, token in rows),
        bytes(len(rows)),
    ),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, VOCABULARY + 1)), min_size=1, max_size=4),
)


@pytest.mark.slow
@given(st.lists(blocks, max_size=6))
def test_no_block_changes_what_the_host_has_committed(sent: list[Block]) -> None:
    end, data = signed_stream([PEER_CODEC.pack(Draft((block,))) for block in sent], is_node=True)
    assert isinstance(end, HostEnd)
    next_id, is_open = 1, True

    events: list[HostEvent] = end.receive(data, 0.0)
    for block, event in zip(sent, events, strict=False):
        is_good = (
            block.first == next_id
            and all(parent < block.first + row for row, parent in enumerate(block.parents))
            and block.pos <= 1
            and max(block.tokens) < VOCABULARY
        )
        assert isinstance(event, Guessed if is_good else Offended)
        next_id += len(block.tokens)
        is_open = is_open and is_good
        if not is_open:
            break
    end.commit(1, 1, [5], 0, 0)
    assert (end.free_sessions < TERMS.max_sessions) == is_open


# ---- time ---------------------------------------------------------------------------------------


def idle(node: NodeEnd, host: HostEnd, until: float) -> list[NodeEvent | HostEvent]:
    """Let both ends live with each other until `until`, each called when it is due."""
    events: list[NodeEvent | HostEvent] = []
    now = 0.0
    while now < until:
        now = max(now, min(node.due(), host.due()))
        events += node.tick(now) + host.tick(now)
        for _ in range(2):
            events += host.receive(node.outgoing(now), now)
            events += node.receive(host.outgoing(now), now)
    return events


def test_idle_ends_keep_each_other_alive_with_a_ping_each_five_seconds() -> None:
    events = idle(*greeted(), until=60.0)

    assert len(events) == 24
    assert {type(event) for event in events} == {Measured}


@pytest.mark.slow
def test_a_node_that_drafts_a_thousand_times_a_second_is_no_flood() -> None:
    node, host = greeted()
    host.open(1, KEY, SAMPLER, [1], 10_000, 8, 8)
    node.receive(host.outgoing(0.0), 0.0)
    frames = guesses = 0
    for step in range(1, 5001):
        now = step / 1000
        node.grow(1, 1, step, [0], [2], b"\xff")
        data = node.outgoing(now)
        frames += len(FrameDecoder().feed(data))
        events = host.receive(data, now)
        guesses += sum(len(e.block.tokens) for e in events if isinstance(e, Guessed))
        assert host.pause(now) == 0.0
        if not data:
            assert now < node.due() <= now + 0.006

    assert guesses >= 4990
    assert frames < 5 * 200 + 200


def test_a_host_that_is_stopped_is_noticed_after_fifteen_seconds() -> None:
    node, host = greeted()
    idle(node, host, until=10.0)

    for now in (15.0, 20.0, 24.99):
        node.tick(now)
        node.outgoing(now)
    with pytest.raises(PeerGone):
        node.tick(25.0)
