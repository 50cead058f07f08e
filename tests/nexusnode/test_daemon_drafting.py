from pathlib import Path
from typing import Any

import pytest
import trio.testing

from nexusnode.control.messages import Pause
from nexusnode.daemon.drafting import OPEN_TOKENS, Drafting, Tally
from nexusnode.daemon.learnt import Learnt
from nexusnode.draft.messages import (
    Bin,
    Budget,
    Calibration,
    Close,
    Closed,
    Commit,
    Feed,
    Grown,
    Growth,
    Host,
    Open,
    Refused,
)
from p2p.drafting import node_end
from p2p.log import quiet_log
from p2p.network.memory import MemoryNetwork
from p2p.wire.messages import ByeReason, CloseReason, Sampler

STEP_SECONDS = 0.05
GREEDY = Sampler(0, 0, 1000, 0)
ONE, OTHER = b"1" * 32, b"2" * 32  # targets
TABLE = (Bin(0, 3, 1, 0, 20.0, 15.0),)


class Stream:
    """Remembers what would be said on a stream."""

    def __init__(self) -> None:
        self.grown: list[tuple[int, Growth]] = []
        self.declined: list[tuple[int, CloseReason]] = []

    def grow(self, sid: int, growth: Growth) -> None:
        self.grown.append((sid, growth))

    def decline(self, sid: int, reason: CloseReason) -> None:
        self.declined.append((sid, reason))


class Desk:
    """A Drafting with what it said, for one host or two."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.learnt = Learnt(Path("nowhere"), "d" * 64, quiet_log())
        self.drafting = Drafting(lambda *messages: self.sent.extend(messages), self.learnt)
        self.streams = {1: Stream(), 2: Stream()}
        self.tallies = {1: Tally(), 2: Tally()}

    def join(self, host: int, target: bytes = ONE) -> Stream:
        self.drafting.join(host, self.streams[host], self.tallies[host], target)
        return self.streams[host]

    def take(self) -> list[Any]:
        sent, self.sent[:] = list(self.sent), []
        return sent


def opened(sid: int, tokens: tuple[int, ...] = (5, 6, 7), rows: int = 8) -> node_end.Opened:
    return node_end.Opened(sid, b"k" * 8, GREEDY, tokens, 100, rows, 16)


def committed(sid: int, seq: int, pos: int, tokens: tuple[int, ...], credited: int = 0) -> Any:
    return node_end.Committed(sid, seq, pos, 0, credited, tokens, 8, 16)


def growth(session: int, pos: int, first: int, count: int) -> Growth:
    return Growth(session, pos, first, (0,) * count, tuple(range(count)), b"\xff" * count)


def test_a_session_is_opened_at_the_worker_after_its_host_was_introduced() -> None:
    desk = Desk()
    desk.join(1)

    desk.drafting.hear(1, opened(9))

    introduction, opening = desk.take()
    assert introduction == Host(1, 1.0, ())
    assert opening == Open(1, 1, b"k" * 8, GREEDY, 100, (5, 6, 7), True, 8, 16, 1)


def test_two_hosts_may_use_the_same_sid() -> None:
    desk = Desk()
    one, two = desk.join(1), desk.join(2)
    desk.drafting.hear(1, opened(9))
    desk.drafting.hear(2, opened(9))

    desk.drafting.worker_said(Grown((growth(1, 3, 1, 2), growth(2, 3, 1, 3))))

    assert [(sid, len(g.tokens)) for sid, g in one.grown] == [(9, 2)]
    assert [(sid, len(g.tokens)) for sid, g in two.grown] == [(9, 3)]
    assert (desk.tallies[1].drafted, desk.tallies[2].drafted) == (2, 3)


def test_commits_reach_the_worker_and_are_counted() -> None:
    desk = Desk()
    desk.join(1)
    desk.drafting.hear(1, opened(9))
    desk.take()

    desk.drafting.hear(1, committed(9, 1, 3, (8, 9), credited=1))

    assert desk.take() == [Commit(1, 3, 0, (8, 9), 8, 16)]
    assert desk.tallies[1] == Tally(drafted=0, credited=1, committed=2)


def test_a_budget_reaches_the_worker_and_says_whether_there_is_work() -> None:
    desk = Desk()
    desk.join(1)
    desk.drafting.hear(1, opened(9))
    desk.take()

    desk.drafting.hear(1, node_end.Budgeted(9, 0, 4))

    assert desk.take() == [Budget(1, 0, 4)]
    assert not desk.drafting.has_budget
    assert desk.drafting.session_count == 1


def test_a_new_worker_gets_prompt_and_commits_and_the_next_id() -> None:
    desk = Desk()
    desk.join(1)
    desk.drafting.hear(1, opened(9))
    desk.drafting.worker_said(Grown((growth(1, 3, 1, 4),)))
    desk.drafting.hear(1, committed(9, 1, 3, (8, 9)))
    desk.take()

    desk.drafting.replay()

    introduction, opening = desk.take()
    assert introduction == Host(1, 1.0, ())
    assert opening == Open(1, 1, b"k" * 8, GREEDY, 98, (5, 6, 7, 8, 9), True, 8, 16, 5)


@pytest.mark.parametrize(
    ("length", "feeds"), [(OPEN_TOKENS, 0), (OPEN_TOKENS + 1, 1), (150_000, 2)]
)
def test_a_long_text_comes_in_pieces_of_which_only_the_last_is_last(
    length: int, feeds: int
) -> None:
    desk = Desk()
    desk.join(1)

    desk.drafting.hear(1, opened(9, tuple(range(length))))

    _, opening, *rest = desk.take()
    assert all(isinstance(message, Feed) for message in rest)
    assert len(rest) == feeds
    assert [opening.last, *(feed.last for feed in rest)] == [False] * feeds + [True]
    assert opening.tokens + sum((feed.tokens for feed in rest), ()) == tuple(range(length))


def test_guesses_of_a_worker_that_was_replaced_are_not_sent_twice() -> None:
    desk = Desk()
    stream = desk.join(1)
    desk.drafting.hear(1, opened(9))

    desk.drafting.worker_said(Grown((growth(1, 3, 1, 2),)))
    desk.drafting.worker_said(Grown((growth(1, 3, 1, 2), growth(1, 3, 9, 2), growth(7, 3, 1, 2))))

    assert len(stream.grown) == 1
    assert desk.tallies[1].drafted == 2


def test_a_gap_opens_the_session_anew_with_gap_free_ids() -> None:
    desk = Desk()
    desk.join(1)
    desk.drafting.hear(1, opened(9))
    desk.drafting.worker_said(Grown((growth(1, 3, 1, 2),)))
    desk.take()

    desk.drafting.worker_said(Closed(1, "gap"))

    (opening,) = desk.take()
    assert (opening.session, opening.next_id) == (1, 3)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Refused(1, CloseReason.DECLINED_BUSY), CloseReason.DECLINED_BUSY),
        (Refused(1, 200), CloseReason.ERROR),
        (Closed(1, "full"), CloseReason.DECLINED_MEMORY),
        (Closed(1, "context"), CloseReason.DECLINED_CONTEXT),
        (Closed(1, "tired"), CloseReason.ERROR),
    ],
)
def test_what_the_worker_will_not_draft_is_declined(message: Any, reason: CloseReason) -> None:
    desk = Desk()
    stream = desk.join(1)
    desk.drafting.hear(1, opened(9))
    desk.take()

    desk.drafting.worker_said(message)
    desk.drafting.worker_said(message)  # it has crossed: no second answer

    assert stream.declined == [(9, reason)]
    assert desk.drafting.session_count == 0
    desk.drafting.hear(1, committed(9, 1, 3, (8,)))
    desk.drafting.hear(1, node_end.Budgeted(9, 4, 4))
    desk.drafting.hear(1, node_end.Closed(9, 0))
    assert desk.take() == []


def test_a_stream_that_ends_closes_its_sessions_and_no_others() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    desk.drafting.hear(1, opened(9))
    desk.drafting.hear(2, opened(9))
    desk.take()

    desk.drafting.leave(1)
    desk.drafting.leave(1)

    assert desk.take() == [Close(1)]
    assert (desk.drafting.sessions_of(1), desk.drafting.sessions_of(2)) == (0, 1)


def test_what_was_learnt_of_a_target_is_said_when_a_host_with_it_comes_again() -> None:
    desk = Desk()
    desk.join(1, ONE)
    desk.take()

    desk.drafting.worker_said(Calibration(1, TABLE))
    desk.drafting.leave(1)
    desk.join(1, OTHER)
    desk.join(2, ONE)

    assert desk.take() == [Host(1, 1.0, ()), Host(2, 1.0, TABLE)]


def test_a_new_worker_gets_what_the_last_one_learnt() -> None:
    desk = Desk()
    desk.join(1)
    desk.drafting.worker_said(Calibration(1, TABLE))
    desk.take()

    desk.drafting.replay()

    assert desk.take() == [Host(1, 1.0, TABLE)]


def test_what_was_learnt_of_a_host_that_left_is_nobodys() -> None:
    desk = Desk()
    desk.join(1)
    desk.drafting.leave(1)

    desk.drafting.worker_said(Calibration(1, TABLE))

    assert desk.learnt.table(ONE) == ()


# The whole node, with the twins of network and worker, in virtual time.


async def test_a_node_finds_a_host_and_its_guesses_are_the_hosts_own_text(
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
            await wait_until(lambda: host.greeted.is_set())
            sid = host.open([11, 12, 13])

            tokens = await host.generate(sid, steps=12)

            await trio.sleep(STEP_SECONDS)
            snapshot = node.contributor.snapshot()
            assert tokens > 3 * 12
            assert snapshot.hosts[0].state == "serving"
            assert snapshot.hosts[0].credited == host.credited > 24
            assert snapshot.hosts[0].committed == tokens
            assert snapshot.worker.state == "drafting"
            host.close(sid)
            await wait_until(lambda: node.drafting.session_count == 0)
            assert node.contributor.snapshot().worker.state == "ready"
        nursery.cancel_scope.cancel()


async def test_a_worker_that_dies_is_replaced_within_a_second_and_drafting_goes_on(
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
            await wait_until(lambda: host.greeted.is_set())
            sid = host.open([11, 12, 13])
            await host.generate(sid, steps=5)
            before = host.credited

            workers.running.die("was ended by SIGKILL")
            await wait_until(lambda: len(workers.started) == 2, seconds=1.0)
            await host.generate(sid, steps=10)

            assert host.credited > before + 10
            assert host.streams == 1
            assert node.worker.restarts == 1
            assert "SIGKILL" in node.log.recent()[-2].line() + node.log.recent()[-1].line()
        nursery.cancel_scope.cancel()


async def test_a_pause_kills_the_worker_tells_the_hosts_and_resume_takes_it_back(
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
            await wait_until(lambda: host.greeted.is_set())
            host.open([11, 12, 13])
            await trio.sleep(0.2)

            node.contributor.pause(Pause(60.0, None))
            await wait_until(lambda: workers.running is None, seconds=0.2)
            await wait_until(lambda: host.end is None, seconds=1.0)

            parted = [e for e in host.events if hasattr(e, "bye")]
            assert parted[-1].bye.reason == ByeReason.PAUSED
            assert node.contributor.snapshot().reason == "snooze"
            await trio.sleep(30)
            assert workers.running is None
            assert host.end is None

            node.contributor.resume()
            await wait_until(lambda: host.greeted.is_set(), seconds=5)
            sid = host.open([21, 22])
            await host.generate(sid, steps=5)
            assert host.credited > 5
        nursery.cancel_scope.cancel()


async def test_what_was_learnt_outlasts_a_pause(
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
            await wait_until(lambda: host.greeted.is_set())
            await host.generate(host.open([11, 12, 13]), steps=12)
            workers.running.say_learnt()
            await trio.sleep(0.1)

            node.contributor.pause(Pause(60.0, None))
            await wait_until(lambda: workers.running is None, seconds=0.2)
            node.contributor.resume()
            await wait_until(lambda: host.greeted.is_set(), seconds=5)
            await trio.sleep(0.1)

            (told,) = [one for one in workers.running.heard if isinstance(one, Host)]
            assert sum(cell.hits for cell in told.calibration) > 5
        nursery.cancel_scope.cancel()


async def test_a_session_without_a_budget_sleeps(
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
            await wait_until(lambda: host.greeted.is_set())
            host.open([11, 12, 13], rows=0)
            await wait_until(lambda: node.drafting.session_count == 1)
            await trio.sleep(1)

            assert node.contributor.snapshot().worker.state == "sleeping"
            assert node.contributor.snapshot().hosts[0].drafted == 0
        nursery.cancel_scope.cancel()
