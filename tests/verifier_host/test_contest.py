"""Drafting is kept while it is faster, dropped where it is not, and tried again ever less often."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.scheduling.contest import BEGIN, KEEP, RETRIES, TRIAL, WINDOW, Contest


def play(contest: Contest, steps: int, drafting: float, plain: float, noise: float = 0.0) -> float:
    """Step through, a token a step; return the share of steps that were drafted."""
    drafted, now, seeded = 0, 0.0, random.Random(0)
    contest.rest()
    contest.record(1, True, now)
    for _ in range(steps):
        drafted += contest.is_drafting
        rate = drafting if contest.is_drafting else plain
        now += seeded.uniform(1 - noise, 1 + noise) / rate
        contest.record(1, True, now)
    return drafted / steps


@pytest.mark.parametrize("noise", [0.0, 0.9])
def test_what_is_slower_is_hardly_ever_done(noise: float) -> None:
    assert play(Contest(), 20_000, 70.0, 100.0, noise) < 0.05
    assert play(Contest(), 20_000, 130.0, 100.0, noise) > 0.95


@pytest.mark.slow
@given(st.floats(0.3, 3.0))
def test_nothing_is_lost_in_the_long_run(ratio: float) -> None:
    share = play(Contest(), 20_000, drafting=100 * ratio, plain=100.0)

    seconds = share / (100 * ratio) + (1 - share) / 100.0
    assert 1 / seconds >= KEEP * 0.98 * max(100.0, 100 * ratio)


def test_both_ways_are_tried_at_first() -> None:
    contest, ways, now = Contest(), [], 0.0
    contest.record(1, True, now)
    for _ in range((BEGIN + 2) * WINDOW):
        ways.append(contest.is_drafting)
        now += 0.01 if contest.is_drafting else 0.02
        contest.record(1, True, now)

    assert ways == [True] * BEGIN * WINDOW + [False] * WINDOW + [True] * WINDOW


def test_a_loser_that_has_become_a_little_faster_wins_its_next_trial() -> None:
    contest = Contest()
    play(contest, 3000 * WINDOW, drafting=50.0, plain=100.0)
    assert not contest.is_drafting

    play(contest, (RETRIES[2] + TRIAL[True] + 1) * WINDOW, drafting=130.0, plain=100.0)

    assert contest.is_drafting


def test_a_change_of_drafters_brings_a_trial_soon() -> None:
    contest = Contest()
    play(contest, 3000 * WINDOW, drafting=50.0, plain=100.0)

    contest.drafters_changed()
    play(contest, (2 * RETRIES[0] + 2 * TRIAL[True]) * WINDOW, drafting=130.0, plain=100.0)
    assert contest.is_drafting


def test_drafters_that_come_and_go_all_the_time_cannot_make_it_draft() -> None:
    contest, drafted, now = Contest(), 0, 0.0
    contest.record(1, True, now)
    for _ in range(20_000):
        contest.drafters_changed()
        drafted += contest.is_drafting
        now += 0.02 if contest.is_drafting else 0.01
        contest.record(1, True, now)

    assert drafted / 20_000 < 0.25


def test_each_number_of_sessions_and_each_kind_of_sampling_has_its_own() -> None:
    contest = Contest()
    contest.look(16, 0.0)
    play(contest, 100 * WINDOW, drafting=50.0, plain=100.0)
    assert not contest.is_drafting

    for sessions, temperature, is_drafting in [
        (1, 0.0, True), (9, 0.0, False), (16, 0.7, True), (16, 1.0, True), (16, 0.0, False)
    ]:  # fmt: skip
        contest.look(sessions, temperature)
        assert contest.is_drafting is is_drafting


def test_windows_end_though_the_number_of_sessions_changes_all_the_time() -> None:
    contest, now, ways = Contest(), 0.0, set()
    for step in range(20 * WINDOW):
        contest.look(1 + step % 2, 0.0)
        ways.add(contest.is_drafting)
        now += 0.01
        contest.record(1, True, now)

    assert ways == {True, False}


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
