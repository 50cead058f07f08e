"""When to hold, when drafts are not worth their rows, and how many to ask for."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.messages import Guesses, Sampling, Start
from verifier_host.scheduling.holds import Holds
from verifier_host.scheduling.pacing import (
    HOLD_MISSES,
    HOLD_PAUSES,
    HOLD_SHARE,
    LEAST_BUDGET,
    MAX_TREE_ROWS,
    PAUSES,
    PROBE,
    WINDOW,
    Arrivals,
    Coming,
    Pace,
    Rate,
    Worth,
    budget,
    is_worth_waiting,
)
from verifier_host.scheduling.sessions import Session
from verifier_host.scheduling.survival import Survival
from verifier_host.scheduling.times import StepTimes

STEP = 0.05
CURVE = [STEP * (1 + 0.04 * max(0, rows - 1)) for rows in range(65)]
FLAT = [1.0] * 65
STEEP = [max(1, rows) * 1.0 for rows in range(65)]


RATE = 1.5 / STEP  # tokens a second
CHANCES = (0.8, 0.55, 0.4, 0.3, 0.2, 0.15)


def near(
    next_seconds: float = 0.005,
    each_seconds: float = 0.003,
    chances: Sequence[float] = CHANCES,
) -> Coming:
    return Coming(next_seconds, each_seconds, next_seconds + 0.002, chances)


def is_worth(
    *coming: Coming,
    rows: int = 1,
    rate: float = RATE,
    curve: Sequence[float] = CURVE,
    longest: float = HOLD_SHARE * STEP,
) -> bool:
    return is_worth_waiting(coming, rows, rate, curve, longest)


def test_a_draft_that_is_almost_there_is_waited_for() -> None:
    assert is_worth(near())


def test_one_session_does_not_hold_up_many() -> None:
    assert not is_worth(near(), rows=13, rate=13 * RATE)


def test_drafts_that_hardly_ever_hold_are_not_waited_for() -> None:
    assert not is_worth(near(chances=(0.05,) * 6))


def test_what_comes_after_the_longest_hold_is_not_waited_for() -> None:
    sure = near(next_seconds=0.03, each_seconds=0.0, chances=(1.0,) * 6)

    assert is_worth(sure, longest=0.03)
    assert not is_worth(sure, longest=0.0299)


def test_a_late_first_guess_is_waited_for_if_more_follow_soon() -> None:
    assert is_worth(near(next_seconds=0.03, each_seconds=0.0005))
    assert not is_worth(near(next_seconds=0.03, each_seconds=0.02))


def test_rows_that_cost_a_step_each_are_not_waited_for() -> None:
    assert not is_worth(near(), rate=1.5, curve=STEEP)


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            near,
            next_seconds=st.floats(0, 0.2),
            each_seconds=st.floats(1e-5, 0.2),
            chances=st.lists(st.floats(0, 1), max_size=6),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 80),
    st.floats(1, 1000),
    st.floats(1e-4, 1),
    st.floats(0, 1),
)
def test_nothing_is_waited_for_that_costs_more_than_all_that_may_come(
    coming: list[Coming], rows: int, rate: float, step: float, slope: float
) -> None:
    curve = [step * (1 + slope * max(0, rows - 1)) for rows in range(65)]
    first = min(one.next_seconds for one in coming)

    if is_worth_waiting(coming, rows, rate, curve, 1.0):
        assert rate * first <= sum(sum(one.chances) for one in coming)


def test_a_rate_is_of_late_steps_and_not_of_rests() -> None:
    rate = Rate()
    assert rate.or_else(7.0) == 7.0

    for at in range(100):
        rate.record(2, at * 0.1)
    rate.rest()
    rate.record(2, 1000.0)
    assert rate.or_else(7.0) == pytest.approx(20.0)

    for at in range(100):
        rate.record(1, 1000.0 + at * 0.1)
    assert rate.or_else(7.0) == pytest.approx(10.0, rel=0.01)


def expected(arrivals: Arrivals, now: float) -> tuple[float, float]:
    """Seconds to the next guess and from one to the next; both 0 if none is to be waited for."""
    coming = arrivals.coming(now, STEP, CHANCES)
    return (coming.next_seconds, coming.each_seconds) if coming else (0.0, 0.0)


def test_only_holds_teach_how_soon_guesses_come() -> None:
    arrivals = Arrivals(Pace())
    arrivals.commit(10.0)
    arrivals.arrive(1, 10.04)
    arrivals.commit(20.0)
    assert expected(arrivals, 20.0) == pytest.approx((0.3 * STEP, 0.1 * STEP))

    arrivals.is_held = True
    arrivals.arrive(1, 20.003)
    arrivals.arrive(2, 20.007)
    arrivals.arrive(0, 20.008)
    assert expected(arrivals, 20.008) == pytest.approx((0.003, 0.004))

    arrivals.commit(30.0)
    assert expected(arrivals, 30.0) == pytest.approx((0.003, 0.004))


def test_what_is_late_is_given_up_and_expected_later_the_next_time() -> None:
    arrivals = Arrivals(Pace(0.004, 0.002))
    arrivals.commit(10.0)
    arrivals.is_held = True

    coming = arrivals.coming(10.001, STEP, CHANCES)
    assert coming is not None
    assert coming.next_seconds == pytest.approx(0.003)
    assert coming.late_seconds == pytest.approx(1.25 * 0.004 + 0.001 - 0.001)
    assert arrivals.coming(10.0061, STEP, CHANCES) is None

    arrivals.commit(20.0)
    assert expected(arrivals, 20.0) == pytest.approx((0.006, 0.002))


def test_a_new_session_starts_from_what_others_have_shown() -> None:
    shared = Pace()
    arrivals = Arrivals(shared)
    arrivals.commit(10.0)
    arrivals.is_held = True
    arrivals.arrive(1, 10.004)
    arrivals.arrive(1, 10.006)

    later = Arrivals(shared)
    later.commit(20.0)

    assert expected(later, 20.0) == pytest.approx((0.004, 0.002))


def miss(arrivals: Arrivals) -> None:
    """Hold in vain, until the guess is given up."""
    coming = arrivals.coming(arrivals.committed, STEP, CHANCES)
    assert coming is not None
    arrivals.is_held = True
    late = arrivals.committed + coming.late_seconds + 1e-6
    assert arrivals.coming(late, STEP, CHANCES) is None
    arrivals.commit(0.0)


def test_a_hold_that_another_ended_is_no_miss() -> None:
    arrivals = Arrivals(Pace(0.004, 0.002))
    for _ in range(HOLD_MISSES + 1):
        assert expected(arrivals, 0.0) == pytest.approx((0.004, 0.002))
        arrivals.is_held = True
        arrivals.commit(0.0)


def test_after_a_pause_a_session_expects_what_others_have_shown() -> None:
    shared = Pace(0.004, 0.002)
    arrivals = Arrivals(shared)
    for _ in range(HOLD_MISSES):
        miss(arrivals)
    while arrivals.coming(0.0, STEP, CHANCES) is None:
        arrivals.commit(0.0)

    assert expected(arrivals, 0.0) == pytest.approx((0.004, 0.002))


def test_three_holds_in_vain_end_them_for_longer_and_longer() -> None:
    arrivals = Arrivals(Pace())
    pauses = []
    for _ in range(8):
        for _ in range(HOLD_MISSES):
            miss(arrivals)
        pauses.append(1)
        while arrivals.coming(0.0, STEP, CHANCES) is None:
            arrivals.commit(0.0)
            pauses[-1] += 1

    assert pauses == [16, 32, 64, 128, 256, 512, 1024, 1024]
    assert (pauses[0], pauses[-1]) == HOLD_PAUSES


def test_drafts_that_bring_nothing_get_no_rows_for_longer_and_longer() -> None:
    worth = Worth()
    pauses = []
    for window in (WINDOW, *[PROBE] * 8):
        for _ in range(window):
            assert worth.is_drafting
            worth.record(8, tokens=1, cost=1.0)
        pause = 0
        while not worth.is_drafting:
            worth.record(0, tokens=1, cost=1.0)
            pause += 1
        pauses.append(pause)

    assert pauses == [16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
    assert (pauses[0], pauses[-1]) == PAUSES


def test_a_probe_that_pays_ends_the_pauses() -> None:
    worth = Worth()
    for _ in range(WINDOW + PAUSES[0]):
        worth.record(8, tokens=1, cost=1.0)
    for _ in range(PROBE + WINDOW - 1):
        worth.record(8, tokens=2, cost=1.1)

    for _ in range(1 + WINDOW):
        worth.record(8, tokens=1, cost=1.0)
    assert not worth.is_drafting
    for _ in range(PAUSES[0]):
        worth.record(0, tokens=1, cost=1.0)
    assert worth.is_drafting


def test_rows_that_cost_as_much_as_they_bring_are_not_worth_it() -> None:
    worth = Worth()
    for _ in range(WINDOW):
        worth.record(8, tokens=2, cost=2.0)

    assert not worth.is_drafting


def test_steps_without_tree_rows_say_nothing_of_drafts() -> None:
    worth = Worth()
    for _ in range(10 * WINDOW):
        worth.record(0, tokens=1, cost=1.0)

    assert worth.is_drafting


def test_rows_for_nothing_are_asked_for_in_full() -> None:
    assert budget(1, 0.8, FLAT) == MAX_TREE_ROWS


def test_guesses_that_are_hardly_ever_reached_are_not_asked_for() -> None:
    assert budget(1, 0.05, FLAT) == LEAST_BUDGET
    assert LEAST_BUDGET < budget(1, 0.5, FLAT) < MAX_TREE_ROWS


def test_rows_that_cost_a_step_each_are_not_asked_for() -> None:
    assert budget(1, 0.9, STEEP) == 0


def test_more_sessions_share_the_rows() -> None:
    curve = StepTimes(64).curve

    budgets = [budget(sessions, 0.7, curve) for sessions in (1, 2, 4, 8, 16, 32, 33)]

    assert budgets == sorted(budgets, reverse=True)
    assert budgets[0] > 12
    assert budgets[-1] == 0
    assert all(rows == 0 or rows >= LEAST_BUDGET for rows in budgets)


def holding(sessions: int = 1, pace: Pace | None = None) -> list[Session]:
    found = []
    for number in range(1, sessions + 1):
        start = Start(number, (1, 2), (), b"12345678", Sampling(), 100, b"")
        session = Session(start, number, 100, 1000, pace or Pace(0.004, 0.002))
        session.tree.add(1, 2, 1, [0], [50], [250])
        session.tree.commit([51], session.tree.arrivals)
        session.record([51], 10.0)
        session.is_fresh = False
        found.append(session)
    return found


def send(session: Session, block: Guesses, now: float) -> None:
    added = session.tree.add(
        block.drafter, block.pos, block.first, block.parents, block.tokens, block.scores
    )
    session.arrivals.arrive(added.live, now)


def test_a_hold_lasts_no_longer_than_its_share_of_a_step() -> None:
    holds, roots = Holds(), holding(pace=Pace(0.03, 0.0005))  # late at 38.5 ms, after the longest
    longest = 10.0 + HOLD_SHARE * STEP

    until = holds.until(roots, Survival(), CURVE, 10.0)

    assert until == pytest.approx(longest)
    assert holds.until(roots, Survival(), CURVE, longest) is None
    holds.end(longest)
    assert holds.count == 1
    assert holds.seconds == pytest.approx(longest - 10.0)


def test_a_hold_ends_when_no_further_guess_is_worth_it() -> None:
    holds, roots = Holds(), holding()
    holds.until(roots, Survival(), CURVE, 10.0)

    send(roots[0], Guesses(1, 1, 3, 2, (0,), (60,), b"\xff"), 10.002)
    more = holds.until(roots, Survival(), CURVE, 10.002)
    send(roots[0], Guesses(1, 1, 3, 3, (2,), (61,), b"\x10"), 10.003)

    assert more is not None
    assert holds.until(roots, Survival(), CURVE, 10.003) is None


def test_a_hold_goes_on_while_one_of_two_has_nothing() -> None:
    holds, roots = Holds(), holding(2)
    until = holds.until(roots, Survival(), CURVE, 10.0)
    assert until is not None

    send(roots[0], Guesses(1, 1, 3, 2, (0,), (60,), b"\x01"), 10.001)
    more = holds.until(roots, Survival(), CURVE, 10.001)
    assert more is not None
    assert more > 10.001
    assert holds.until(roots[:1], Survival(), CURVE, 10.001) is None  # the other was cancelled


@pytest.mark.parametrize(
    "why", ["fresh", "has a poor guess", "no drafter", "not worth it", "missed"]
)
def test_a_session_is_not_held_for_when_it_makes_no_sense(why: str) -> None:
    (session,) = holding()
    match why:
        case "fresh":
            session.is_fresh = True
        case "has a poor guess":
            send(session, Guesses(1, 1, 3, 2, (0,), (60,), b"\x10"), 10.0)
        case "no drafter":
            session.tree.leave(1)
        case "not worth it":
            for _ in range(WINDOW):
                session.worth.record(8, 1, 1.0)
        case "missed":
            for _ in range(HOLD_MISSES):
                miss(session.arrivals)
            session.arrivals.committed = 10.0
    holds = Holds()

    assert holds.until([session], Survival(), CURVE, 10.0) is None
    holds.end(10.0)
    assert holds.count == 0
