"""Drafting is kept while it is faster, dropped where it is not, and tried again ever less often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.scheduling.contest import FIRST_WINDOWS, RETRIES, WINDOW, Contest


def play(contest: Contest, steps: int, drafting: float, plain: float, now: float = 0.0) -> float:
    """Step through, a token a step; return the share of steps that were drafted."""
    drafted = 0
    contest.record(1, True, now)
    for _ in range(steps):
        drafted += contest.is_drafting
        now += 1 / (drafting if contest.is_drafting else plain)
        contest.record(1, True, now)
    return drafted / steps


def test_what_is_slower_is_hardly_ever_done() -> None:
    assert play(Contest(), 20_000, drafting=70.0, plain=100.0) < 0.01
    assert play(Contest(), 20_000, drafting=130.0, plain=100.0) > 0.99


@pytest.mark.slow
@given(st.floats(0.3, 3.0))
def test_nothing_is_lost_in_the_long_run(ratio: float) -> None:
    share = play(Contest(), 10_000, drafting=100 * ratio, plain=100.0)

    seconds = share / (100 * ratio) + (1 - share) / 100.0
    assert 1 / seconds >= 0.97 * max(100.0, 100 * ratio)


def test_both_ways_are_tried_at_first() -> None:
    contest, ways, now = Contest(), [], 0.0
    contest.record(1, True, now)
    for _ in range(2 * FIRST_WINDOWS * WINDOW):
        ways.append(contest.is_drafting)
        now += 0.01 if contest.is_drafting else 0.02
        contest.record(1, True, now)

    assert ways == ([True] * WINDOW + [False] * WINDOW) * FIRST_WINDOWS
    assert contest.is_drafting


def test_a_loser_that_has_become_faster_is_found_again() -> None:
    contest = Contest()
    play(contest, 100 * WINDOW, drafting=50.0, plain=100.0)
    assert not contest.is_drafting

    play(contest, 2 * RETRIES[1] * WINDOW, drafting=500.0, plain=100.0)

    assert contest.is_drafting


def test_each_number_of_sessions_has_its_own_contest() -> None:
    contest = Contest()
    contest.look(16)
    play(contest, 100 * WINDOW, drafting=50.0, plain=100.0)
    assert not contest.is_drafting

    contest.look(1)
    assert contest.is_drafting
    contest.look(9)  # the same as 16
    assert not contest.is_drafting


def test_prompts_and_pauses_are_nobodys_time() -> None:
    contest = Contest()
    now = 0.0
    contest.record(1, True, now)
    for step in range(50 * WINDOW):
        is_prompt = step % 3 == 0 and contest.is_drafting
        if step % 5 == 0 and contest.is_drafting:
            contest.rest()
            now += 1000.0
        now += 100.0 if is_prompt else 0.01 if contest.is_drafting else 0.02
        contest.record(1, not is_prompt, now)

    assert contest.is_drafting


def test_a_fixed_one_drafts_whatever_it_costs() -> None:
    assert play(Contest(is_fixed=True), 1000, drafting=1.0, plain=100.0) == 1.0
