"""Who drafts what: placement, and what each node is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from p2p.drafting.node_end import Budgeted, Closed, Committed, Opened
from p2p.wire.messages import CloseReason, Sampler
from verifier_host.front.drafters import (
    DECLINED_SECONDS,
    FIRST_ROWS,
    LEAST_AHEAD,
    MOST_AHEAD,
    ROOM_TOKENS,
    SILENT_SECONDS,
    SILENT_TOKENS,
    Drafters,
    ahead_tokens,
    wire_sampler,
)
from verifier_host.messages import HOST, Credit, Guesses, Leave, Rows, Sampling

NodeOf = Callable[..., Any]


@dataclass
class Session:
    """A session as `Drafters` needs it."""

    number: int
    tokens: list[int] = field(default_factory=lambda: [5, 6, 7])
    left: int = 100
    key: bytes = b"12345678"
    sampling: Sampling = field(default_factory=Sampling)

    def text(self) -> Sequence[int]:
        return self.tokens


@pytest.fixture
def sent() -> list[object]:
    return []


@pytest.fixture
def drafters(sent: list[object]) -> Drafters:
    return Drafters(sent.append)


def opened(node: Any) -> list[Opened]:
    return [event for event in node.events if isinstance(event, Opened)]


def test_a_session_is_opened_at_one_node_with_text_key_and_settings(
    drafters: Drafters, node_of: NodeOf
) -> None:
    nodes = [node_of(drafters, letter) for letter in "ab"]
    drafters.open(Session(9, sampling=Sampling(temperature=0.7, top_p=0.9)), 0.0)

    for node in nodes:
        node.pump()

    (opening,) = opened(nodes[0])
    assert opened(nodes[1]) == []
    assert opening.tokens == (5, 6, 7)
    assert opening.key == b"12345678"
    assert opening.sampler == Sampler(700, 0, 900, 0)
    assert opening.rows == FIRST_ROWS
    assert nodes[0].wakes > 0


def test_two_nodes_draft_when_that_is_configured(sent: list[object], node_of: NodeOf) -> None:
    drafters = Drafters(sent.append, nodes_per_session=2)
    nodes = [node_of(drafters, letter) for letter in "abc"]

    drafters.open(Session(1), 0.0)
    for node in nodes:
        node.pump()

    assert [len(opened(node)) for node in nodes] == [1, 1, 0]


def test_the_node_with_the_least_to_do_is_chosen(drafters: Drafters, node_of: NodeOf) -> None:
    nodes = [node_of(drafters, letter) for letter in "abc"]

    for number in range(1, 7):
        drafters.open(Session(number), 0.0)
    for node in nodes:
        node.pump()

    assert [len(opened(node)) for node in nodes] == [2, 2, 2]


def test_a_node_takes_no_more_sessions_than_it_said(drafters: Drafters, node_of: NodeOf) -> None:
    node = node_of(drafters, "a", max_sessions=2)

    for number in range(1, 5):
        drafters.open(Session(number), 0.0)
    node.pump()
    assert len(opened(node)) == 2

    drafters.close(1, CloseReason.FINISHED)
    drafters.place(1.0)
    node.pump()
    assert len(opened(node)) == 3


def test_a_text_must_fit_the_node_s_context(drafters: Drafters, node_of: NodeOf) -> None:
    node = node_of(drafters, "a", max_context=100)

    drafters.open(Session(1, tokens=[1] * (100 - ROOM_TOKENS + 1)), 0.0)
    node.pump()
    assert opened(node) == []

    drafters.open(Session(2, tokens=[1] * (100 - ROOM_TOKENS)), 0.0)
    node.pump()
    assert len(opened(node)) == 1


def test_a_node_that_joins_late_gets_the_text_so_far(drafters: Drafters, node_of: NodeOf) -> None:
    session = Session(1)
    drafters.open(session, 0.0)
    session.tokens += [8, 9]
    drafters.commit(1, 3, (8, 9), ())

    node = node_of(drafters, "a")
    node.pump()

    assert opened(node)[0].tokens == (5, 6, 7, 8, 9)


def test_a_commit_reaches_the_node_with_its_own_credit(drafters: Drafters, node_of: NodeOf) -> None:
    node = node_of(drafters, "a")
    drafters.open(Session(1), 0.0)
    node.pump()

    drafters.commit(1, 3, (8, 9), [Credit(77, 5, 5), Credit(node.number, 0, 1)])

    (commit,) = [event for event in node.pump() if isinstance(event, Committed)]
    assert (commit.pos, commit.tokens, commit.credited) == (3, (8, 9), 1)


def test_a_block_is_passed_on_with_its_ids(
    drafters: Drafters, node_of: NodeOf, sent: list[object]
) -> None:
    node = node_of(drafters, "a")
    drafters.open(Session(42), 0.0)
    node.pump()

    node.end.grow(opened(node)[0].sid, 3, 1, (0, 1), (8, 9), b"\xff\x80")
    node.pump(1.0)

    assert sent == [Guesses(42, node.number, 3, 1, (0, 1), (8, 9), b"\xff\x80")]


def test_a_block_of_a_session_that_is_over_goes_nowhere(
    drafters: Drafters, node_of: NodeOf, sent: list[object]
) -> None:
    node = node_of(drafters, "a")
    drafters.open(Session(1), 0.0)
    node.pump()
    drafters.close(1, CloseReason.FINISHED)

    node.end.grow(opened(node)[0].sid, 3, 1, (0,), (8,), b"\xff")
    node.pump(1.0)

    assert sent == []


def test_a_node_that_leaves_is_replaced_at_once(
    drafters: Drafters, node_of: NodeOf, sent: list[object]
) -> None:
    nodes = [node_of(drafters, letter) for letter in "ab"]
    drafters.open(Session(1), 0.0)
    for node in nodes:
        node.pump()

    drafters.leave(nodes[0].number, 1.0)
    drafters.leave(nodes[0].number, 1.0)
    nodes[1].pump(1.0)

    assert len(opened(nodes[1])) == 1
    assert sent == [Leave(0, nodes[0].number)]
    assert drafters.count == 1


def test_a_declined_session_goes_to_another_node_and_not_back_for_a_while(
    drafters: Drafters, node_of: NodeOf, sent: list[object]
) -> None:
    nodes = [node_of(drafters, letter) for letter in "ab"]
    drafters.open(Session(1), 0.0)
    for node in nodes:
        node.pump()

    for node in nodes:
        node.end.decline(opened(node)[0].sid, CloseReason.PAUSED)
        for other in (node, *nodes):
            other.pump(1.0)

    assert [len(opened(node)) for node in nodes] == [1, 1]
    assert Leave(1, nodes[0].number) in sent
    drafters.place(DECLINED_SECONDS + 0.9)
    nodes[0].pump(31.0)
    assert len(opened(nodes[0])) == 1
    drafters.place(DECLINED_SECONDS + 1.0)
    nodes[0].pump(31.0)
    assert len(opened(nodes[0])) == 2


def test_a_node_that_says_nothing_while_text_is_committed_is_replaced(
    drafters: Drafters, node_of: NodeOf, sent: list[object]
) -> None:
    nodes = [node_of(drafters, letter) for letter in "ab"]
    drafters.open(Session(1), 0.0)
    nodes[0].pump()

    drafters.commit(1, 3, (1,) * (SILENT_TOKENS - 1), ())
    drafters.tick(SILENT_SECONDS + 1)
    assert sent == []
    drafters.commit(1, 3 + SILENT_TOKENS - 1, (1,), ())
    drafters.tick(SILENT_SECONDS)
    assert sent == []
    drafters.tick(SILENT_SECONDS + 0.1)
    for node in nodes:
        node.pump(6.0)

    assert sent == [Leave(1, nodes[0].number)]
    assert [e.reason for e in nodes[0].events if isinstance(e, Closed)] == [CloseReason.ABORTED]
    assert len(opened(nodes[1])) == 1


def test_a_node_that_was_told_to_rest_is_not_silent(
    drafters: Drafters, node_of: NodeOf, sent: list[object]
) -> None:
    node_of(drafters, "a")
    drafters.open(Session(1), 0.0)
    drafters.budget(Rows(1, 0))
    drafters.commit(1, 3, (1,) * 100, ())

    drafters.tick(1000.0)

    assert sent == []


def test_budgets_go_out_when_they_change_by_a_quarter_or_to_rest(
    drafters: Drafters, node_of: NodeOf
) -> None:
    node = node_of(drafters, "a")
    drafters.open(Session(1), 0.0)
    node.pump()

    told: list[int] = []
    for rows in (9, 10, 11, 0, 1, 1):
        drafters.budget(Rows(1, rows))
        told += [event.rows for event in node.pump() if isinstance(event, Budgeted)]

    assert told == [11, 0, 1]
    drafters.budget(Rows(99, 5))


def test_a_new_engine_knows_no_names_so_sessions_close_and_open_anew(
    drafters: Drafters, node_of: NodeOf
) -> None:
    node = node_of(drafters, "a")
    session = Session(1)
    drafters.open(session, 0.0)
    node.pump()

    drafters.forget_engine()
    drafters.place(0.0)
    late = node_of(drafters, "b")
    assert opened(late) == []
    session.tokens += [8]
    drafters.reopen(1.0)
    node.pump(1.0)

    assert [opening.tokens for opening in opened(node)] == [(5, 6, 7), (5, 6, 7, 8)]
    assert len({opening.sid for opening in opened(node)}) == 2


def test_a_session_with_nothing_left_is_not_placed(drafters: Drafters, node_of: NodeOf) -> None:
    node = node_of(drafters, "a")

    drafters.open(Session(1, left=0), 0.0)
    node.pump()

    assert opened(node) == []


def test_a_node_is_known_by_its_peer_and_its_name_outlives_it(
    drafters: Drafters, node_of: NodeOf
) -> None:
    node = node_of(drafters, "a")

    assert drafters.find(node.identity.peer) == node.number
    drafters.leave(node.number, 0.0)
    assert drafters.find(node.identity.peer) is None
    assert drafters.name(node.number) == node.identity.peer.short
    assert drafters.name(0) == ""
    assert drafters.name(HOST) == "host"


def test_what_is_unknown_is_harmless(drafters: Drafters) -> None:
    drafters.leave(9, 0.0)
    drafters.declined(9, 1, 0.0)
    drafters.close(9, CloseReason.FINISHED)
    drafters.commit(9, 0, (1,), ())
    drafters.tick(0.0)

    assert drafters.count == 0


@pytest.mark.parametrize(
    ("rtt", "step", "rate", "accepted", "expected"),
    [
        (0.0, 0.0, 100, 0.0, LEAST_AHEAD),
        (0.1, 0.1, 50, 3.0, 13),
        (1.0, 0.1, 100, 3.0, MOST_AHEAD),
    ],
)
def test_ahead_covers_the_way_and_a_step(
    rtt: float, step: float, rate: float, accepted: float, expected: int
) -> None:
    assert ahead_tokens(rtt, step, rate, accepted) == expected


def test_sampling_is_told_in_thousandths() -> None:
    assert wire_sampler(Sampling(0.0, 40, 0.95, 0.05)) == Sampler(0, 40, 950, 50)
