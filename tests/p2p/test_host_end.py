"""The operator's end of a stream, told by a node that may say anything."""

import struct
from hashlib import sha256

import pytest

from p2p.drafting.conversation import Conversation, Offended, Parted, Refused
from p2p.drafting.host_end import (
    BUSY_RETRY_SECONDS,
    POLICY_RETRY_SECONDS,
    Declined,
    Greeted,
    Guessed,
    HostEnd,
    HostEvent,
    HostTerms,
)
from p2p.errors import (
    BadGuessId,
    BadLength,
    BadPosition,
    BadToken,
    Incompatible,
    MalformedFrame,
    NotInvited,
    PeerBusy,
    PeerError,
    PeerGone,
    SlowPeer,
    UnexpectedFrame,
    UnknownFrame,
)
from p2p.wire.chain import Direction, Signer
from p2p.wire.fingerprint import ladder
from p2p.wire.frame import FrameDecoder, frame
from p2p.wire.identity import Identity
from p2p.wire.messages import (
    LADDER_STEP,
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
    Sampler,
    Vocabulary,
    Welcome,
)
from p2p.wire.schema import packb

SEED = b"h" * 32
NODE = Identity(b"n" * 32)
HOST = Identity(SEED)
ENTRIES = tuple((0, str(token).encode()) for token in range(LADDER_STEP + 10))
TERMS = HostTerms(b"t" * 32, b"m" * 32, ladder(ENTRIES), ENTRIES, 3, (b"record",))
DRAFT = DraftOffer(TERMS.tok_fp, "draft", len(ENTRIES), TERMS.ladder)
HELLO = Hello((1,), b"1" * 32, "nexusnode/0.1.0", (DRAFT,), (1,), 0, 8, 4096, 90)
SAMPLER = Sampler(700, 0, 1000, 0)
KEY = b"k" * 8


class ScriptedNode:
    """A node's half of the conversation that says what it is told to, signed and in order."""

    def __init__(self, terms: HostTerms = TERMS) -> None:
        self.talk = Conversation(NODE, Direction.NODE, HOST.public, 0.0)
        self.host = HostEnd(SEED, NODE.public, terms, b"2" * 32, 0.0)

    def greet(self, hello: Hello = HELLO) -> list[HostEvent]:
        self.hello_payload = self.talk.say(hello)
        events = self.host.receive(self.talk.take(), 0.0)
        for message, payload in self.talk.hear(self.host.outgoing(0.0), 0.0):
            if isinstance(message, Welcome):
                self.welcome = message
                self.talk.restart(self.hello_payload, payload, 5.0)
        return events

    def open(self, sid: int = 1, rows: int = 8, tokens: tuple[int, ...] = (1, 2, 3)) -> None:
        self.host.open(sid, KEY, SAMPLER, tokens, 50, rows, 16)
        self.hear()

    def say(self, *messages: object, now: float = 0.0) -> list[HostEvent]:
        self.talk.say(*messages)
        return self.host.receive(self.talk.take(), now)

    def hear(self, now: float = 0.0) -> list[object]:
        return [message for message, _ in self.talk.hear(self.host.outgoing(now), now)]

    def refused(self, hello: Hello = HELLO) -> tuple[PeerError, list[object]]:
        """Say HELLO, and return what the host raises and what it says."""
        with pytest.raises(PeerError) as caught:
            self.greet(hello)
        return caught.value, self.hear()


@pytest.fixture
def node() -> ScriptedNode:
    """A node behind the handshake, with one open session of three tokens."""
    node = ScriptedNode()
    node.greet()
    node.open()
    return node


def block(
    first: int = 1,
    parents: tuple[int, ...] = (0,),
    pos: int = 3,
    sid: int = 1,
    token: int = 5,
    seen: int = 0,
) -> Block:
    count = len(parents)
    return Block(sid, seen, pos, first, parents, (token,) * count, b"\xff" * count)


# ---- handshake ---------------------------------------------------------------------------------


def test_a_node_with_the_targets_tokenizer_is_welcome() -> None:
    node = ScriptedNode()

    assert node.greet() == [Greeted(HELLO, DRAFT, 3)]
    assert node.welcome == Welcome(
        1,
        b"2" * 32,
        sha256(node.hello_payload).digest(),
        TERMS.tok_fp,
        TERMS.model_fp,
        1,
        0,
        3,
        64,
        256,
        5000,
        (b"record",),
    )


def test_the_first_draft_with_the_targets_tokenizer_is_chosen() -> None:
    other = DraftOffer(b"u" * 32, "other", 10, b"")
    second = DraftOffer(TERMS.tok_fp, "second", len(ENTRIES), b"")
    hello = Hello((7, 1), b"1" * 32, "", (other, DRAFT, second), (9, 1), 0, 8, 4096, 90)
    (event,) = ScriptedNode().greet(hello)

    assert isinstance(event, Greeted)
    assert event.draft == DRAFT


def test_a_node_that_is_not_invited_is_told_so() -> None:
    terms = HostTerms(b"t" * 32, b"m" * 32, b"", ENTRIES, 3, invited=False, busy=True)
    error, said = ScriptedNode(terms).refused()

    assert isinstance(error, NotInvited)
    assert said == [
        Error(11, 0, 0, POLICY_RETRY_SECONDS, str(error)),
        Bye(ByeReason.SHUTDOWN, POLICY_RETRY_SECONDS),
    ]


def test_a_full_host_says_when_to_come_again() -> None:
    terms = HostTerms(b"t" * 32, b"m" * 32, b"", ENTRIES, 3, busy=True)
    error, said = ScriptedNode(terms).refused()

    assert isinstance(error, PeerBusy)
    assert said == [
        Error(12, 0, 0, BUSY_RETRY_SECONDS, str(error)),
        Bye(ByeReason.SHUTDOWN, BUSY_RETRY_SECONDS),
    ]


@pytest.mark.parametrize(("versions", "noise_specs"), [((2,), (1,)), ((1,), (2, 3))])
def test_a_node_of_another_version_or_noise_is_incompatible(
    versions: tuple[int, ...], noise_specs: tuple[int, ...]
) -> None:
    hello = Hello(versions, b"1" * 32, "", (DRAFT,), noise_specs, 0, 8, 4096, 90)
    node = ScriptedNode()
    error, said = node.refused(hello)

    assert isinstance(error, Incompatible)
    assert said == [Error(10, 0, 0, 0, str(error)), Bye(0, 0)]
    assert node.host.counters == {"model.incompatible": 1}


@pytest.mark.parametrize(
    ("changed", "start", "count"),
    [(7, 0, LADDER_STEP), (LADDER_STEP - 1, 0, LADDER_STEP), (LADDER_STEP, LADDER_STEP, 10)],
)
def test_another_tokenizer_is_answered_with_the_block_in_which_it_differs(
    changed: int, start: int, count: int
) -> None:
    theirs = [*ENTRIES]
    theirs[changed] = (0, b"other")
    draft = DraftOffer(b"u" * 32, "draft", len(theirs), ladder(theirs))
    hello = Hello((1,), b"1" * 32, "", (draft,), (1,), 0, 8, 4096, 90)
    error, said = ScriptedNode().refused(hello)

    assert isinstance(error, Incompatible)
    assert said[0] == Error(10, 0, start, 0, str(error))
    assert isinstance(said[1], Vocabulary)
    assert (said[1].start, len(said[1].entries)) == (start, count)
    assert said[2:] == [Bye(0, 0)]


def test_nothing_comes_before_hello() -> None:
    for message in (Draft((block(),)), Ping(1, 1), Bye(0, 0), Error(1, 0, 0, 0, "")):
        node = ScriptedNode()

        with pytest.raises(UnexpectedFrame, match="before HELLO"):
            node.say(message)


def test_a_second_hello_is_refused(node: ScriptedNode) -> None:
    with pytest.raises(UnexpectedFrame):
        node.say(HELLO)


def test_a_hello_after_five_seconds_is_not_waited_for() -> None:
    host = HostEnd(SEED, NODE.public, TERMS, b"2" * 32, 0.0)

    assert host.due() == 5.0
    with pytest.raises(PeerGone, match="HELLO"):
        host.tick(5.0)
    assert host.outgoing(5.0) == b""


# ---- sessions ----------------------------------------------------------------------------------


def test_an_opening_carries_all_a_node_needs() -> None:
    node = ScriptedNode()
    node.greet()
    node.host.open(4, KEY, SAMPLER, [7, 8, 9], 50, 6, 12)

    assert node.hear() == [Open(4, KEY, SAMPLER, 3, 50, 6, 12, struct.pack("<3I", 7, 8, 9))]


@pytest.mark.parametrize(
    ("length", "feeds"), [(4096, []), (4097, [(4096, 1, True)]), (8192, [(4096, 4096, True)])]
)
def test_a_long_prompt_goes_in_pieces_of_4096_tokens(
    length: int, feeds: list[tuple[int, int, bool]]
) -> None:
    node = ScriptedNode()
    node.greet()
    node.host.open(1, KEY, SAMPLER, range(length), 50, 8, 16)
    opening, *rest = node.hear()

    assert isinstance(opening, Open)
    assert (opening.total, len(opening.tokens)) == (length, 4 * min(length, 4096))
    assert [
        (feed.start, len(feed.tokens) // 4, feed.last) for feed in rest if isinstance(feed, Feed)
    ] == feeds


def test_only_the_last_of_several_feeds_is_the_last() -> None:
    node = ScriptedNode()
    node.greet()
    node.host.open(1, KEY, SAMPLER, range(10_000), 50, 8, 16)

    assert [feed.last for feed in node.hear() if isinstance(feed, Feed)] == [False, True]


def test_what_is_committed_before_the_opening_is_sent_goes_with_it() -> None:
    node = ScriptedNode()
    node.greet()
    node.host.open(1, KEY, SAMPLER, [1], 50, 8, 16)
    node.host.commit(1, 1, [2, 3], 0, 0)
    node.host.budget(1, 0, 4)

    assert node.hear() == [Open(1, KEY, SAMPLER, 3, 50, 0, 4, struct.pack("<3I", 1, 2, 3))]
    assert node.hear() == []


def test_a_session_closed_before_it_was_sent_never_was() -> None:
    node = ScriptedNode()
    node.greet()
    node.host.open(1, KEY, SAMPLER, [1], 50, 8, 16)
    node.host.close(1, CloseReason.ABORTED)

    assert node.hear() == []


def test_no_more_sessions_are_opened_than_were_agreed(node: ScriptedNode) -> None:
    node.open(2)
    node.open(3)

    assert node.host.free_sessions == 0
    with pytest.raises(ValueError, match="no more than 3"):
        node.host.open(4, KEY, SAMPLER, [1], 50, 8, 16)
    node.host.close(2, CloseReason.FINISHED)
    assert node.host.free_sessions == 1


def test_no_session_is_opened_before_the_handshake_or_after_a_goodbye(node: ScriptedNode) -> None:
    assert ScriptedNode().host.free_sessions == 0
    assert node.say(Bye(ByeReason.PAUSED, 0)) == [Parted(Bye(1, 0))]
    assert node.host.free_sessions == 0


def test_our_own_goodbye_takes_no_more_sessions(node: ScriptedNode) -> None:
    node.host.bye(ByeReason.SHUTDOWN, 7)

    assert node.host.free_sessions == 0
    assert node.hear() == [Bye(0, 7)]


@pytest.mark.parametrize(("sid", "tokens"), [(1, [1]), (2, [])])
def test_an_opening_that_cannot_be_is_our_own_bug(
    node: ScriptedNode, sid: int, tokens: list[int]
) -> None:
    with pytest.raises(ValueError, match="session"):
        node.host.open(sid, KEY, SAMPLER, tokens, 50, 8, 16)


def test_a_closing_goes_before_an_opening(node: ScriptedNode) -> None:
    node.host.open(2, KEY, SAMPLER, [1], 50, 8, 16)
    node.host.close(1, CloseReason.FINISHED)

    assert [type(message) for message in node.hear()] == [Close, Open]


def test_the_last_commit_goes_before_the_closing(node: ScriptedNode) -> None:
    node.host.commit(1, 3, [4], 0, 1)
    node.host.close(1, CloseReason.FINISHED)
    node.host.close(1, CloseReason.FINISHED)
    node.host.commit(1, 4, [5], 0, 0)

    assert node.hear() == [
        Commits((Commit(1, 1, 3, 0, 1, (4,), 8, 16),)),
        Close((Closing(1, CloseReason.FINISHED),)),
    ]
    assert node.hear() == []


# ---- commits and budgets -----------------------------------------------------------------------


def test_commits_of_a_session_that_wait_become_one(node: ScriptedNode) -> None:
    node.host.commit(1, 3, [4, 5], 2, 2)
    node.host.commit(1, 5, [6], 9, 1)

    assert node.hear() == [Commits((Commit(1, 1, 3, 9, 3, (4, 5, 6), 8, 16),))]
    assert node.hear() == []


def test_credit_is_told_once(node: ScriptedNode) -> None:
    node.host.commit(1, 3, [4], 7, 1)
    node.hear()
    node.host.commit(1, 4, [5], 0, 0)

    assert node.hear() == [Commits((Commit(1, 2, 4, 0, 0, (5,), 8, 16),))]


def test_commits_of_several_sessions_go_in_one_frame(node: ScriptedNode) -> None:
    node.open(2)
    node.host.commit(2, 3, [4], 0, 0)
    node.host.commit(1, 3, [4], 0, 0)

    (commits,) = node.hear()
    assert isinstance(commits, Commits)
    assert [commit.sid for commit in commits.commits] == [2, 1]


@pytest.mark.parametrize(("count", "sizes"), [(256, [256]), (257, [256, 1])])
def test_a_commit_holds_256_tokens_and_its_last_piece_the_tip(
    node: ScriptedNode, count: int, sizes: list[int]
) -> None:
    node.host.commit(1, 3, [4] * count, 9, count)
    (commits,) = node.hear()

    assert isinstance(commits, Commits)
    assert [len(commit.tokens) for commit in commits.commits] == sizes
    assert [commit.pos for commit in commits.commits] == [3, 259][: len(sizes)]
    assert [commit.tip for commit in commits.commits] == [0, 9][-len(sizes) :]
    assert sum(commit.credited for commit in commits.commits) == count


def test_commits_too_long_for_a_frame_go_in_two(node: ScriptedNode) -> None:
    node.host.commit(1, 3, [70_000] * 256 * 41, 0, 0)
    data = node.host.outgoing(0.0)

    assert len(FrameDecoder(65_536, 65).feed(data)) == 2


def test_a_commit_that_does_not_join_is_our_own_bug(node: ScriptedNode) -> None:
    with pytest.raises(ValueError, match="3 tokens"):
        node.host.commit(1, 4, [5], 0, 0)


def test_a_commit_of_nothing_or_for_a_session_that_is_over_is_ignored(node: ScriptedNode) -> None:
    node.host.commit(1, 3, [], 0, 0)
    node.host.commit(9, 3, [4], 0, 0)
    node.host.budget(9, 1, 1)
    node.host.close(9, CloseReason.FINISHED)

    assert node.hear() == []


def test_of_several_budgets_the_latest_is_said(node: ScriptedNode) -> None:
    node.host.budget(1, 4, 4)
    node.host.budget(1, 2, 3)

    assert node.hear() == [Budgets((Budget(1, 2, 3),))]
    node.host.budget(1, 2, 3)
    assert node.hear() == []


def test_a_budget_goes_with_the_commit_that_waits(node: ScriptedNode) -> None:
    node.host.commit(1, 3, [4], 0, 0)
    node.host.budget(0, 2, 3)

    assert node.hear() == [Commits((Commit(1, 1, 3, 0, 0, (4,), 2, 3),))]


def test_a_budget_for_all_reaches_each_session(node: ScriptedNode) -> None:
    node.open(2)
    node.host.budget(0, 0, 0)

    assert node.hear() == [Budgets((Budget(1, 0, 0), Budget(2, 0, 0)))]


def test_a_resting_session_hears_its_commits_once_a_second(node: ScriptedNode) -> None:
    node.host.budget(1, 0, 16)
    node.host.commit(1, 3, [4], 0, 0)
    first = node.hear(1.0)
    node.host.commit(1, 4, [5], 0, 0)
    node.host.commit(1, 5, [6], 0, 0)

    assert first == [Commits((Commit(1, 1, 3, 0, 0, (4,), 0, 16),))]
    assert node.hear(1.99) == []
    assert node.host.due() == 2.0
    node.host.tick(2.0)
    assert node.host.due() > 2.0
    assert node.hear(2.0) == [Commits((Commit(1, 2, 4, 0, 0, (5, 6), 0, 16),))]


def test_a_session_that_wakes_hears_at_once_what_it_missed(node: ScriptedNode) -> None:
    node.host.budget(1, 0, 16)
    node.host.commit(1, 3, [4], 0, 0)
    node.hear(1.0)
    node.host.commit(1, 4, [5], 0, 0)
    node.hear(1.1)
    node.host.budget(1, 8, 16)

    assert node.hear(1.2) == [Commits((Commit(1, 2, 4, 0, 0, (5,), 8, 16),))]


def test_a_node_that_takes_nothing_is_given_up_at_one_mebibyte(node: ScriptedNode) -> None:
    most = (1 << 20) // 5
    node.host.commit(1, 3, [4] * most, 0, 0)
    node.host.tick(0.1)
    node.host.commit(1, 3 + most, [4], 0, 0)

    with pytest.raises(SlowPeer):
        node.host.tick(0.2)
    assert node.host.counters == {"peer.slow": 1}


def test_last_commits_count_as_waiting_until_they_are_said(node: ScriptedNode) -> None:
    most = (1 << 20) // 5
    node.open(2)
    node.host.commit(1, 3, [4] * most, 0, 0)
    node.host.close(1, CloseReason.FINISHED)
    node.hear()
    node.host.commit(2, 3, [4] * most, 0, 0)
    node.host.tick(0.1)
    node.host.close(2, CloseReason.FINISHED)
    node.open(3)
    node.host.commit(3, 3, [4], 0, 0)
    node.host.tick(0.2)

    assert node.host.counters == {}


# ---- guesses -----------------------------------------------------------------------------------


def test_guesses_in_order_are_passed_on(node: ScriptedNode) -> None:
    first, second = block(1, (0, 1, 1)), block(4, (3,))

    assert node.say(Draft((first, second))) == [
        Guessed(1, first, 3, None),
        Guessed(1, second, 3, None),
    ]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (block(3), BadGuessId),  # a gap: 2 is next
        (block(1), BadGuessId),  # used before
        (block(2, (2,)), BadGuessId),  # its own parent
        (block(2, (0, 9)), BadGuessId),  # a parent to come
        (block(2, pos=4), BadPosition),
        (block(2, token=len(ENTRIES)), BadToken),
    ],
)
def test_a_block_that_breaks_a_rule_closes_its_session(
    node: ScriptedNode, bad: Block, error: type[PeerError]
) -> None:
    node.open(2)
    node.say(Draft((block(1),)))
    events = node.say(Draft((bad, block(1, sid=2))))

    assert [type(event) for event in events] == [Offended, Guessed]
    assert isinstance(events[0], Offended)
    assert (events[0].sid, events[0].weight, type(events[0].error)) == (1, 10, error)
    (told,) = node.hear()
    assert isinstance(told, Error)
    assert told.sid == 1
    assert node.host.counters == {error.code: 1}
    assert node.say(Draft((block(2),))) == []  # what crosses the ERROR is stale


@pytest.mark.parametrize("good", [block(2, (1,), pos=0), block(2, token=len(ENTRIES) - 1)])
def test_a_block_at_its_bounds_is_taken(node: ScriptedNode, good: Block) -> None:
    node.say(Draft((block(1),)))

    assert node.say(Draft((good,))) == [Guessed(1, good, 3, None)]


def test_guesses_may_be_as_new_as_the_latest_commit(node: ScriptedNode) -> None:
    node.host.commit(1, 3, [4], 0, 0)
    node.hear()

    assert len(node.say(Draft((block(pos=4),)))) == 1


def test_guesses_for_a_closed_session_are_stale_and_no_offence(node: ScriptedNode) -> None:
    node.host.close(1, CloseReason.FINISHED)

    assert node.say(Draft((block(),))) == []
    assert node.host.counters == {"stale": 1}


def test_guesses_for_a_session_that_never_was_cost_a_point(node: ScriptedNode) -> None:
    node.host.open(2, KEY, SAMPLER, [1], 50, 8, 16)  # not said yet
    offences = node.say(Draft((block(sid=2), block(sid=7))))

    assert [event.weight for event in offences if isinstance(event, Offended)] == [1, 1]


def test_a_block_says_which_commits_the_node_had_and_how_old_the_newest_is(
    node: ScriptedNode,
) -> None:
    node.host.commit(1, 3, [4], 0, 0)
    node.hear(1.0)
    node.host.commit(1, 4, [5, 6], 0, 0)
    node.hear(2.0)

    (before,) = node.say(Draft((block(1, seen=0),)), now=2.1)
    (after,) = node.say(Draft((block(2, seen=2, pos=6),)), now=2.2)
    (again,) = node.say(Draft((block(3, seen=2, pos=6),)), now=2.3)
    assert isinstance(before, Guessed)
    assert isinstance(after, Guessed)
    assert isinstance(again, Guessed)
    assert (before.known, before.lag_seconds) == (3, None)
    assert (after.known, after.lag_seconds) == (6, pytest.approx(0.2))
    assert (again.known, again.lag_seconds) == (6, None)
    assert node.host.known(1) == 6
    assert node.host.known(9) == 0


def test_the_node_declines_a_session_with_any_reason(node: ScriptedNode) -> None:
    assert node.say(Close((Closing(1, 77),))) == [Declined(1, 77)]
    assert node.say(Close((Closing(1, 77),))) == []
    assert node.host.free_sessions == 3


def test_an_error_about_a_session_ends_it(node: ScriptedNode) -> None:
    error = Error(8, 1, 0, 0, "token")

    assert node.say(error) == [Refused(error), Declined(1, CloseReason.ERROR)]


# ---- bytes that are not ours -------------------------------------------------------------------


def test_frames_of_the_hosts_own_direction_are_refused(node: ScriptedNode) -> None:
    with pytest.raises(UnexpectedFrame):
        node.say(Budgets((Budget(0, 1, 1),)))
    assert node.hear() == [Error(5, 0, 0, 0, "Budgets is not expected from a node now")]
    assert node.say(Bye(0, 0)) == []


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"\xc1", MalformedFrame),
        (packb([3, 1, 2]), MalformedFrame),
        (packb([3, [[1, 0, 3, 1, [0, 1], [5], b"\xff"]]]), MalformedFrame),  # lists that differ
        (packb([31]), UnknownFrame),
    ],
)
def test_a_signed_frame_that_is_none_is_refused_with_its_code(
    payload: bytes, error: type[PeerError]
) -> None:
    signer = Signer(NODE, Direction.NODE, HOST.public)
    host = HostEnd(SEED, NODE.public, TERMS, b"2" * 32, 0.0)

    with pytest.raises(error):
        host.receive(frame(signer.sign(payload)), 0.0)
    assert host.counters == {error.code: 1}
    assert host.outgoing(0.0) != b""


@pytest.mark.parametrize("length", [0, 64, 65_537])
def test_a_length_out_of_bounds_ends_the_stream_without_a_word(length: int) -> None:
    host = HostEnd(SEED, NODE.public, TERMS, b"2" * 32, 0.0)

    with pytest.raises(BadLength):
        host.receive(length.to_bytes(4, "big"), 0.0)
    assert host.outgoing(0.0) == b""
    assert host.counters == {"frame.length": 1}


def test_the_host_measures_its_round_trip(node: ScriptedNode) -> None:
    node.talk.beat(0.0)  # answers the first PING
    node.host.receive(node.talk.take(), 0.25)

    assert node.host.rtt_seconds == pytest.approx(0.25)
    assert node.host.pause(0.25) == 0.0
