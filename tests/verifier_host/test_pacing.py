"""When to hold, when drafts are not worth their rows, and how many to ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.messages import Guesses, Sampling, Start
from verifier_host.scheduling.holds import Holds
from verifier_host.scheduling.pacing import (
    HOLD_MISSES,
    HOLD_PAUSE,
    HOLD_SHARE,
    LEAST_BUDGET,
    MAX_TREE_ROWS,
    PAUSES,
    PROBE,
    WINDOW,
    Arrivals,
    Awaited,
    Pace,
    Worth,
    budget,
    hold_seconds,
    worth_waiting,
)
from verifier_host.scheduling.sessions import Session
from verifier_host.scheduling.survival import Survival
from verifier_host.scheduling.times import StepTimes

STEP = 0.05
CURVE = [STEP * (1 + 0.04 * max(0, rows - 1)) for rows in range(65)]
FLAT = [1.0] * 65
STEEP = [max(1, rows) * 1.0 for rows in range(65)]


def near(**changes: float) -> Awaited:
    values = {"first_seconds": 0.005, "each_seconds": 0.003, "alpha": 0.85, "best": 0.7} | changes
    return Awaited(**values)


def test_a_draft_that_is_almost_there_is_waited_for() -> None:
    assert 0.005 <= hold_seconds([near()], 0, 0.0, CURVE) < HOLD_SHARE * STEP


def test_a_draft_that_comes_after_the_step_is_not_waited_for() -> None:
    assert hold_seconds([near(first_seconds=STEP)], 0, 0.0, CURVE) == 0


def test_one_session_does_not_hold_up_many() -> None:
    assert hold_seconds([near()], 12, 12 * 2.5, CURVE) == 0


def test_a_draft_later_than_the_longest_hold_is_not_waited_for() -> None:
    assert hold_seconds([near(first_seconds=HOLD_SHARE * STEP + 1e-6)], 0, 0.0, CURVE) == 0


def test_drafts_that_hardly_ever_hold_are_not_waited_for() -> None:
    assert hold_seconds([near(alpha=0.05, best=0.05)], 0, 0.0, CURVE) == 0


def test_more_is_waited_for_where_guesses_come_faster() -> None:
    slow, fast = near(each_seconds=0.009), near(each_seconds=0.0005)

    assert fast.arrived(0.01) > slow.arrived(0.01)
    assert hold_seconds([fast], 0, 0.0, CURVE) > 0


def test_rows_that_cost_a_step_each_are_not_waited_for() -> None:
    assert hold_seconds([near()], 0, 0.0, STEEP) == 0


def test_the_next_guess_is_worth_its_wait_while_it_brings_more_than_the_time_costs() -> None:
    assert worth_waiting(0.11, each_seconds=0.002, speed=2.5, step=STEP)
    assert not worth_waiting(0.09, each_seconds=0.002, speed=2.5, step=STEP)


awaited = st.builds(
    Awaited,
    first_seconds=st.floats(0, 0.2),
    each_seconds=st.floats(1e-5, 0.2),
    alpha=st.floats(0.05, 0.98),
    best=st.floats(0.05, 0.98),
)


@pytest.mark.slow
@given(
    st.lists(awaited, min_size=1, max_size=6),
    st.integers(0, 20),
    st.floats(1, 17),
    st.floats(1e-4, 1),
    st.floats(0, 1),
)
def test_no_hold_lasts_too_long(
    waiting: list[Awaited], others: int, speed: float, step: float, slope: float
) -> None:
    curve = [step * (1 + slope * max(0, rows - 1)) for rows in range(65)]

    seconds = hold_seconds(waiting, others, others * speed, curve)

    assert 0 <= seconds <= HOLD_SHARE * step * 1.000001


def test_only_holds_teach_how_soon_guesses_come() -> None:
    arrivals = Arrivals(Pace())
    arrivals.commit(10.0)
    arrivals.arrive(1, 10.04)
    assert arrivals.first_seconds(10.0, STEP) == pytest.approx(0.1 * STEP)

    arrivals.is_held = True
    arrivals.arrive(1, 10.003)
    arrivals.arrive(2, 10.007)
    arrivals.arrive(0, 10.008)

    assert arrivals.first_seconds(10.0, STEP) == pytest.approx(0.003)
    assert arrivals.first_seconds(10.5, STEP) == 0
    assert arrivals.each_seconds(STEP) == pytest.approx(0.002)


def test_a_new_session_starts_from_what_others_have_shown() -> None:
    shared = Pace()
    arrivals = Arrivals(shared)
    arrivals.commit(10.0)
    arrivals.is_held = True
    arrivals.arrive(1, 10.004)
    arrivals.arrive(1, 10.006)

    later = Arrivals(shared)
    later.commit(20.0)

    assert later.first_seconds(20.0, STEP) == pytest.approx(0.004)
    assert later.each_seconds(STEP) == pytest.approx(0.002)


def test_three_holds_in_vain_end_them_for_256_steps() -> None:
    arrivals = Arrivals(Pace())
    for _ in range(HOLD_MISSES):
        assert arrivals.first_seconds(0.0, STEP) is not None
        arrivals.is_held = True
        arrivals.commit(0.0)

    pauses = 0
    while arrivals.first_seconds(0.0, STEP) is None:
        arrivals.commit(0.0)
        pauses += 1
    assert pauses == HOLD_PAUSE - 1


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


def holding(sessions: int = 1) -> list[Session]:
    found = []
    for number in range(1, sessions + 1):
        start = Start(number, (1, 2), (), b"12345678", Sampling(), 100, b"")
        session = Session(start, number, 100, 1000, Pace())
        session.tree.add(1, 2, 1, [0], [50], [250])
        session.tree.commit([51], session.tree.arrivals)
        session.record([51], 10.0)
        session.is_fresh = False
        session.speed = 2.5
        found.append(session)
    return found


def send(session: Session, block: Guesses, now: float) -> None:
    added = session.tree.add(
        block.drafter, block.pos, block.first, block.parents, block.tokens, block.scores
    )
    session.arrivals.arrive(added.live, now)


def test_a_hold_never_lasts_its_share_of_a_step() -> None:
    holds, roots = Holds(), holding()

    until = holds.until(roots, Survival(), CURVE, 10.0)

    assert until is not None
    assert 10.0 < until <= 10.0 + HOLD_SHARE * STEP
    assert holds.until(roots, Survival(), CURVE, until) is None
    holds.end(until)
    assert holds.count == 1
    assert holds.seconds == pytest.approx(until - 10.0)


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
    assert holds.until(roots, Survival(), CURVE, 10.001) == until
    assert holds.until(roots[:1], Survival(), CURVE, 10.001) is None  # the other was cancelled


@pytest.mark.parametrize("why", ["fresh", "has a guess", "no drafter", "not worth it", "missed"])
def test_a_session_is_not_held_for_when_it_makes_no_sense(why: str) -> None:
    (session,) = holding()
    match why:
        case "fresh":
            session.is_fresh = True
        case "has a guess":
            send(session, Guesses(1, 1, 3, 2, (0,), (60,), b"\xff"), 10.0)
        case "no drafter":
            session.tree.leave(1)
        case "not worth it":
            for _ in range(WINDOW):
                session.worth.record(8, 1, 1.0)
        case "missed":
            for _ in range(HOLD_MISSES):
                session.arrivals.is_held = True
                session.arrivals.commit(10.0)
    holds = Holds()

    assert holds.until([session], Survival(), CURVE, 10.0) is None
    holds.end(10.0)
    assert holds.count == 0
