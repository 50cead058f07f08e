"""The contributor's end of a stream, told by a host that may say anything."""

import struct
from hashlib import sha256

import pytest

from p2p.drafting.conversation import Conversation, Offended, Parted, Refused
from p2p.drafting.node_end import (
    Budgeted,
    Closed,
    Committed,
    Mismatched,
    NodeEnd,
    NodeEvent,
    NodeOffer,
    Opened,
    Welcomed,
)
from p2p.errors import (
    BadSignature,
    BadToken,
    Incompatible,
    MalformedFrame,
    PeerError,
    PeerGone,
    SlowPeer,
    UnexpectedFrame,
)
from p2p.wire.chain import Direction
from p2p.wire.frame import FrameDecoder
from p2p.wire.identity import Identity
from p2p.wire.messages import (
    PEER_CODEC,
    Block,
    Budget,
    Budgets,
    Bye,
    ByeReason,
    Close,
    CloseReason,
    Closing,
    Commit,
    Commits,
    Draft,
    DraftOffer,
    Error,
    Feed,
    Hello,
    Open,
    Ping,
    Receipt,
    Sampler,
    Vocabulary,
    VocabularyEntry,
    Welcome,
)

NODE_SEED = b"n" * 32
NODE = Identity(NODE_SEED)
HOST = Identity(b"h" * 32)
DRAFT = DraftOffer(b"t" * 32, "draft", 100, b"")
OFFER = NodeOffer("nexusnode/0.1.0", (DRAFT,), 4, 1000, 90)
SAMPLER = Sampler(700, 0, 1000, 0)
ENTRIES = (VocabularyEntry(0, b"a"), VocabularyEntry(0, b"b"))


def packed(*tokens: int) -> bytes:
    return struct.pack(f"<{len(tokens)}I", *tokens)


def opening(sid: int = 1, tokens: tuple[int, ...] = (1, 2, 3), total: int = 0) -> Open:
    return Open(sid, b"k" * 8, SAMPLER, total or len(tokens), 50, 8, 16, packed(*tokens))


def commit(seq: int, pos: int, tokens: tuple[int, ...], sid: int = 1) -> Commit:
    return Commit(sid, seq, pos, 0, 0, tokens, 8, 16)


class ScriptedHost:
    """A host's half of the conversation that says what it is told to, signed and in order."""

    def __init__(self, offer: NodeOffer = OFFER) -> None:
        self.talk = Conversation(HOST, Direction.HOST, NODE.public, 0.0)
        self.node = NodeEnd(NODE_SEED, HOST.public, offer, b"1" * 32, 0.0)
        ((self.hello, self.hello_payload),) = self.talk.hear(self.node.outgoing(0.0), 0.0)

    def welcome(self, **changes: object) -> list[NodeEvent]:
        fields: dict[str, object] = {
            "version": 1,
            "nonce": b"2" * 32,
            "hello_digest": sha256(self.hello_payload).digest(),
            "tok_fp": DRAFT.tok_fp,
            "model_fp": b"m" * 32,
            "noise_spec": 1,
            "caps": 0,
            "max_sessions": 3,
            "max_guesses": 64,
            "max_live": 256,
            "heartbeat_ms": 5000,
            "others": (),
        }
        payload = self.talk.say(Welcome(**(fields | changes)))
        self.talk.restart(self.hello_payload, payload, 5.0)
        return self.node.receive(self.talk.take(), 0.0)

    def say(self, *messages: object, now: float = 0.0) -> list[NodeEvent]:
        self.talk.say(*messages)
        return self.node.receive(self.talk.take(), now)

    def hear(self, now: float = 0.0) -> list[object]:
        return [message for message, _ in self.talk.hear(self.node.outgoing(now), now)]


@pytest.fixture
def host() -> ScriptedHost:
    """A host behind the handshake, with one open session of three tokens."""
    host = ScriptedHost()
    host.welcome()
    host.say(opening())
    host.hear()
    return host


# ---- handshake ---------------------------------------------------------------------------------


def test_hello_carries_the_offer_and_a_nonce() -> None:
    host = ScriptedHost()

    assert host.hello == Hello((1,), b"1" * 32, OFFER.agent, (DRAFT,), (1,), 0, 4, 1000, 90)


def test_a_welcome_names_the_draft_that_is_wanted() -> None:
    events = ScriptedHost().welcome()

    assert isinstance(events[0], Welcomed)
    assert events[0].draft == DRAFT


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"hello_digest": b"x" * 32}, MalformedFrame),
        ({"version": 2}, Incompatible),
        ({"noise_spec": 2}, Incompatible),
        ({"tok_fp": b"u" * 32}, Incompatible),
    ],
)
def test_a_welcome_to_something_else_is_refused(
    changes: dict[str, object], error: type[PeerError]
) -> None:
    host = ScriptedHost()

    with pytest.raises(error):
        host.welcome(**changes)
    assert host.node.counters == {error.code: 1}


def test_nothing_but_a_refusal_is_taken_before_welcome() -> None:
    for message in (opening(), Ping(1, 1), Budgets((Budget(0, 1, 1),)), Vocabulary(0, ENTRIES)):
        host = ScriptedHost()

        with pytest.raises(UnexpectedFrame, match="before WELCOME"):
            host.say(message)


def test_an_incompatible_host_shows_its_tokens_and_says_goodbye() -> None:
    host = ScriptedHost()
    error, bye = Error(10, 0, 2048, 0, "no common tokenizer"), Bye(0, 0)
    shown = Vocabulary(2048, ENTRIES)

    events = host.say(error, shown, bye)
    assert events == [Refused(error), Mismatched(shown), Parted(bye)]


def test_tokens_are_not_shown_after_another_refusal() -> None:
    host = ScriptedHost()
    host.say(Error(12, 0, 0, 30, "busy"))

    with pytest.raises(UnexpectedFrame):
        host.say(Vocabulary(0, ENTRIES))


@pytest.mark.parametrize(("heartbeat_ms", "silent_at"), [(100, 3.0), (2000, 6.0), (60_000, 15.0)])
def test_the_hosts_heartbeat_counts_between_one_and_five_seconds(
    heartbeat_ms: int, silent_at: float
) -> None:
    host = ScriptedHost()
    host.welcome(heartbeat_ms=heartbeat_ms)
    host.node.outgoing(0.0)
    host.node.tick(silent_at - 0.01)

    with pytest.raises(PeerGone):
        host.node.tick(silent_at)


def test_a_second_welcome_is_refused(host: ScriptedHost) -> None:
    with pytest.raises(UnexpectedFrame):
        host.welcome()


def test_a_welcome_after_five_seconds_is_not_waited_for() -> None:
    node = NodeEnd(NODE_SEED, HOST.public, OFFER, b"1" * 32, 0.0)

    assert node.due() == 5.0
    assert node.tick(4.99) == []
    with pytest.raises(PeerGone):
        node.tick(5.0)


# ---- sessions ----------------------------------------------------------------------------------


def test_a_session_opens_with_all_its_tokens() -> None:
    host = ScriptedHost()
    host.welcome()

    assert host.say(opening()) == [Opened(1, b"k" * 8, SAMPLER, (1, 2, 3), 50, 8, 16)]


def test_a_long_prompt_comes_in_feeds_and_opens_after_the_last() -> None:
    host = ScriptedHost()
    host.welcome()

    assert host.say(opening(tokens=(1, 2), total=5)) == []
    assert host.say(Feed(1, 2, packed(3, 4), False)) == []
    (event,) = host.say(Feed(1, 4, packed(5), True))
    assert isinstance(event, Opened)
    assert event.tokens == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "feed",
    [
        Feed(1, 3, packed(3, 4, 5), True),  # a gap
        Feed(1, 1, packed(3, 4, 5), True),  # a repeat
        Feed(1, 2, packed(3, 4), True),  # too short to be the last
        Feed(1, 2, packed(3, 4, 5), False),  # whole, but not the last
        Feed(1, 2, packed(3, 4, 5, 6), True),  # more than announced
        Feed(1, 2, packed(3, 4, 5, 6), False),
    ],
)
def test_a_feed_that_does_not_join_closes_the_session_as_desync(feed: Feed) -> None:
    host = ScriptedHost()
    host.welcome()
    host.say(opening(tokens=(1, 2), total=5))
    host.hear()

    assert host.say(feed) == []
    assert host.hear() == [Close((Closing(1, CloseReason.DESYNC),))]
    assert host.node.counters == {"session.desync": 1}


def test_a_feed_for_a_session_that_is_whole_closes_it(host: ScriptedHost) -> None:
    assert host.say(Feed(1, 3, packed(4), True)) == [Closed(1, CloseReason.DESYNC)]


def test_a_feed_of_broken_tokens_is_malformed() -> None:
    host = ScriptedHost()
    host.welcome()
    host.say(opening(tokens=(1, 2), total=5))

    with pytest.raises(MalformedFrame, match=r"Feed\.tokens"):
        host.say(Feed(1, 2, b"12345", True))


def test_a_session_id_is_used_once_and_rises(host: ScriptedHost) -> None:
    host.say(Close((Closing(1, 0),)))

    with pytest.raises(UnexpectedFrame, match="session 1"):
        host.say(opening(1))


@pytest.mark.parametrize(
    "bad",
    [
        Open(2, b"k" * 8, SAMPLER, 0, 50, 8, 16, b""),
        Open(2, b"k" * 8, SAMPLER, 1, 50, 8, 16, packed(1, 2)),
        Open(2, b"k" * 8, SAMPLER, 2, 50, 8, 16, packed(1) + b"x"),
    ],
)
def test_an_open_whose_tokens_cannot_be_is_malformed(host: ScriptedHost, bad: Open) -> None:
    with pytest.raises(MalformedFrame):
        host.say(bad)
    assert isinstance(host.hear()[-1], Error)


def test_sessions_up_to_the_agreed_number_open_and_the_next_is_declined() -> None:
    host = ScriptedHost()
    host.welcome(max_sessions=2)
    host.hear()

    assert len(host.say(opening(1), opening(2), opening(3))) == 2
    assert host.hear() == [Close((Closing(3, CloseReason.DECLINED_BUSY),))]


def test_the_nodes_own_limit_counts_when_the_host_welcomes_more() -> None:
    host = ScriptedHost()
    host.welcome(max_sessions=60_000)

    assert len(host.say(*(opening(sid) for sid in range(1, 6)))) == OFFER.max_sessions


@pytest.mark.parametrize(("total", "is_declined"), [(1000, False), (1001, True)])
def test_a_prompt_longer_than_the_context_is_declined(total: int, is_declined: bool) -> None:
    host = ScriptedHost()
    host.welcome()
    host.hear()
    host.say(opening(1, total=total))

    declined = [Close((Closing(1, CloseReason.DECLINED_CONTEXT),))]
    assert host.hear() == (declined if is_declined else [])


def test_feeds_of_a_declined_session_are_stale_and_no_offence() -> None:
    host = ScriptedHost()
    host.welcome()

    assert host.say(opening(1, total=1001), Feed(1, 3, packed(1), False)) == []
    assert host.node.counters == {"stale": 1}


@pytest.mark.parametrize(("token", "is_offence"), [(99, False), (100, True)])
def test_a_token_past_the_vocabulary_closes_its_session(token: int, is_offence: bool) -> None:
    for messages in (
        [opening(1, (1, token))],
        [opening(1, (1,), total=2), Feed(1, 1, packed(token), True)],
        [opening(1, (1,)), Commits((Commit(1, 1, 1, 0, 0, (token,), 8, 8),))],
    ):
        host = ScriptedHost()
        host.welcome()
        host.hear()
        events = host.say(*messages)

        offences = [event for event in events if isinstance(event, Offended)]
        errors = [message for message in host.hear() if isinstance(message, Error)]
        assert [(o.sid, o.weight) for o in offences] == ([(1, 10)] if is_offence else [])
        assert [(e.code, e.sid) for e in errors] == ([(8, 1)] if is_offence else [])
        assert host.node.counters[BadToken.code] == int(is_offence)


def test_an_offence_in_one_session_leaves_the_others_open(host: ScriptedHost) -> None:
    host.say(opening(2))
    events = host.say(Commits((commit(1, 3, (500,)), commit(1, 3, (4,), sid=2))))

    assert [type(event) for event in events] == [Offended, Closed, Commit]
    assert host.node.tick(0.1) == []


def test_commits_that_join_are_passed_on(host: ScriptedHost) -> None:
    first, second = commit(1, 3, (4, 5)), commit(4, 5, (6,))

    assert host.say(Commits((first, second))) == [first, second]
    assert Committed is Commit


@pytest.mark.parametrize(
    "bad", [commit(2, 4, (6,)), commit(2, 6, (6,)), commit(1, 5, (6,)), commit(0, 5, (6,))]
)
def test_a_commit_that_does_not_join_closes_the_session_as_desync(
    host: ScriptedHost, bad: Commit
) -> None:
    host.say(Commits((commit(1, 3, (4, 5)),)))

    assert host.say(Commits((bad,))) == [Closed(1, CloseReason.DESYNC)]
    assert host.hear() == [Close((Closing(1, CloseReason.DESYNC),))]


def test_a_commit_before_the_prompt_is_whole_is_a_desync() -> None:
    host = ScriptedHost()
    host.welcome()

    assert host.say(opening(total=9), Commits((commit(1, 3, (4,)),))) == []
    assert host.node.counters == {"session.desync": 1}


def test_a_commit_after_the_node_declined_is_stale(host: ScriptedHost) -> None:
    host.node.decline(1, CloseReason.PAUSED)

    assert host.say(Commits((commit(1, 3, (4,)),))) == []
    assert host.node.counters == {"stale": 1}


def test_a_commit_for_a_session_that_never_was_costs_a_point(host: ScriptedHost) -> None:
    (event,) = host.say(Commits((commit(1, 3, (4,), sid=9),)))

    assert isinstance(event, Offended)
    assert event.weight == 1


def test_a_budget_for_all_is_told_to_each_open_session(host: ScriptedHost) -> None:
    host.say(opening(2), opening(3, total=5))

    assert host.say(Budgets((Budget(0, 0, 4),))) == [Budgeted(1, 0, 4), Budgeted(2, 0, 4)]


def test_a_budget_while_the_prompt_comes_is_that_of_the_opening() -> None:
    host = ScriptedHost()
    host.welcome()
    host.say(opening(total=4), Budgets((Budget(1, 2, 3),)))
    (event,) = host.say(Feed(1, 3, packed(4), True))

    assert isinstance(event, Opened)
    assert (event.rows, event.ahead) == (2, 3)


def test_a_budget_of_a_closed_session_is_stale(host: ScriptedHost) -> None:
    host.say(Close((Closing(1, 0),)))

    assert host.say(Budgets((Budget(1, 2, 3),))) == []


def test_the_host_closes_a_session_with_any_reason(host: ScriptedHost) -> None:
    assert host.say(Close((Closing(1, 200),))) == [Closed(1, 200)]
    assert host.say(Close((Closing(1, 200),))) == []


def test_an_error_about_a_session_closes_it(host: ScriptedHost) -> None:
    error = Error(6, 1, 0, 0, "ids")

    assert host.say(error) == [Refused(error), Closed(1, CloseReason.ERROR)]


def test_goodbye_and_receipts_are_taken_any_time(host: ScriptedHost) -> None:
    assert host.say(Receipt(b"r"), Bye(ByeReason.MOVING, 9)) == [Parted(Bye(3, 9))]


def test_frames_of_the_nodes_own_direction_are_refused(host: ScriptedHost) -> None:
    with pytest.raises(UnexpectedFrame):
        host.say(Draft((Block(1, 0, 3, 1, (0,), (5,), b"\xff"),)))
    assert host.hear() == [Error(5, 0, 0, 0, "Draft is not expected from a host now")]


# ---- guesses -----------------------------------------------------------------------------------


def test_guesses_of_one_position_go_in_one_block(host: ScriptedHost) -> None:
    host.node.grow(1, 3, 1, [0, 1], [5, 6], b"\x01\x02")
    host.node.grow(1, 3, 3, [2], [7], b"\x03")

    assert host.hear() == [
        Draft((Block(1, 0, 3, 1, (0, 1, 2), (5, 6, 7), b"\x01\x02\x03"),)),
    ]
    assert host.hear() == []


def test_a_new_position_begins_a_new_block_in_the_same_frame(host: ScriptedHost) -> None:
    host.node.grow(1, 3, 1, [0], [5], b"\x01")
    host.say(Commits((commit(6, 3, (5,)),)))
    host.node.grow(1, 4, 2, [1], [6], b"\x02")

    assert host.hear() == [
        Draft(
            (Block(1, 0, 3, 1, (0,), (5,), b"\x01"), Block(1, 6, 4, 2, (1,), (6,), b"\x02")),
        )
    ]


def test_a_block_holds_64_guesses_and_the_65th_begins_another(host: ScriptedHost) -> None:
    host.node.grow(1, 3, 1, [0] * 60, [5] * 60, bytes(60))
    host.node.grow(1, 3, 61, [0] * 4, [5] * 4, bytes(4))
    host.node.grow(1, 3, 65, [0], [5], bytes(1))

    (draft,) = host.hear()
    assert isinstance(draft, Draft)
    assert [(block.first, len(block.tokens)) for block in draft.blocks] == [(1, 64), (65, 1)]


def test_more_than_64_blocks_go_in_several_frames_of_one_write(host: ScriptedHost) -> None:
    for first in range(1, 66):
        host.node.grow(1, first % 2, first, [0], [5], b"\x01")
    data = host.node.outgoing(0.0)

    assert len(FrameDecoder().feed(data)) == 2


@pytest.mark.parametrize(
    ("pos", "first", "count"), [(3, 2, 1), (3, 0, 1), (4, 1, 1), (3, 1, 0), (3, 1, 65)]
)
def test_a_block_that_would_be_an_offence_is_our_own_bug(
    host: ScriptedHost, pos: int, first: int, count: int
) -> None:
    with pytest.raises(ValueError, match="block"):
        host.node.grow(1, pos, first, [0] * count, [5] * count, bytes(count))


def test_guesses_for_a_session_that_is_over_are_dropped(host: ScriptedHost) -> None:
    host.node.grow(1, 3, 1, [0], [5], b"\x01")
    host.say(Close((Closing(1, 0),)))
    host.node.grow(1, 3, 2, [0], [6], b"\x01")

    assert host.hear() == []


def test_a_declined_session_says_nothing_but_its_reason(host: ScriptedHost) -> None:
    host.node.grow(1, 3, 1, [0], [5], b"\x01")
    host.node.decline(1, CloseReason.PAUSED)
    host.node.decline(1, CloseReason.PAUSED)

    assert host.hear() == [Close((Closing(1, CloseReason.PAUSED),))]


def test_goodbye_is_the_last_thing_said(host: ScriptedHost) -> None:
    host.node.bye(ByeReason.PAUSED)
    host.node.grow(1, 3, 1, [0], [5], b"\x01")
    host.node.decline(1, CloseReason.PAUSED)

    assert host.hear() == [Close((Closing(1, CloseReason.PAUSED),)), Bye(ByeReason.PAUSED, 0)]


def test_a_host_that_takes_nothing_is_given_up_at_one_mebibyte(host: ScriptedHost) -> None:
    first = 1
    while 11 * (first + 63) <= 1 << 20:
        host.node.grow(1, 3, first, [0] * 64, [5] * 64, bytes(64))
        first += 64
    host.node.tick(0.1)
    host.node.grow(1, 3, first, [0] * 64, [5] * 64, bytes(64))

    with pytest.raises(SlowPeer):
        host.node.tick(0.2)
    assert host.node.outgoing(0.2) == b""


def test_guesses_of_a_session_that_is_over_wait_no_more(host: ScriptedHost) -> None:
    for sid in (1, 2, 3):
        for first in range(1, 64 * 700, 64):
            host.node.grow(sid, 1, first, [0] * 64, [5] * 64, bytes(64))
        host.node.decline(sid, CloseReason.PAUSED)
        host.say(opening(sid + 1))

    host.node.tick(0.1)
    assert host.node.counters == {}


def test_a_frame_signed_by_another_key_ends_the_stream_without_a_word(
    host: ScriptedHost,
) -> None:
    stranger = Conversation(Identity(b"x" * 32), Direction.HOST, NODE.public, 0.0)
    stranger.say(Bye(0, 0))

    with pytest.raises(BadSignature):
        host.node.receive(stranger.take(), 0.0)
    assert host.node.outgoing(0.0) == b""
    assert host.node.counters == {"chain.signature": 1}
    assert host.say(Bye(0, 0)) == []  # nothing is heard any more


def test_the_node_measures_its_round_trip(host: ScriptedHost) -> None:
    host.talk.beat(0.0)  # answers the first PING
    host.node.receive(host.talk.take(), 0.03)

    assert host.node.rtt_seconds == pytest.approx(0.03)
    assert host.node.pause(0.03) == 0.0


def test_every_frame_said_is_within_its_own_bounds(host: ScriptedHost) -> None:
    host.node.grow(1, 3, 1, [0] * 64, [99] * 64, bytes(64))
    bodies = FrameDecoder(65_536, 65).feed(host.node.outgoing(0.0))

    assert [type(PEER_CODEC.unpack(body[64:])) for body in bodies] == [Draft]
