"""Which tokens a decode computes: fair shares, one prompt at a time, runs that pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusnode.draft.frontier import (
    DRAFT_ROWS,
    PROMPT_ROWS,
    RUN_ROWS,
    Turn,
    Want,
    decode_cost,
    prompt_rows,
    run_rows,
)

COSTS = (1.0, 1.6, 2.8, 4.5)

wants_of_any_kind = st.lists(
    st.builds(
        Want,
        session=st.integers(1, 50),
        host=st.integers(0, 3),
        survival=st.floats(0.02, 1),
        rows=st.integers(1, RUN_ROWS),
        is_prompt=st.booleans(),
    ),
    max_size=40,
    unique_by=lambda want: want.session,
)


def one_each(hosts: int, sessions: int) -> list[Want]:
    return [
        Want(host * 100 + number, host, 0.5, 1)
        for host in range(hosts)
        for number in range(sessions)
    ]


def test_everything_is_decoded_when_there_is_room() -> None:
    wants = one_each(2, 8)

    assert Turn().choose(wants, {}) == wants


def test_nothing_is_decoded_when_nobody_wants() -> None:
    assert Turn().choose([], {}) == []


@given(wants_of_any_kind)
def test_a_decode_holds_few_guesses_and_one_prompt(wants: list[Want]) -> None:
    chosen = Turn().choose(wants, {})

    guesses = [want for want in chosen if not want.is_prompt]
    prompts = [want for want in chosen if want.is_prompt]
    assert sum(want.rows for want in guesses) <= DRAFT_ROWS
    assert len(prompts) == min(1, sum(want.is_prompt for want in wants))
    assert set(chosen) <= set(wants)
    assert len(set(chosen)) == len(chosen)
    assert bool(guesses) == any(not want.is_prompt for want in wants)


def test_inside_a_host_the_likeliest_guesses_come_first() -> None:
    wants = [Want(number, 1, 1 / (number + 1), 1) for number in range(1, DRAFT_ROWS + 5)]

    chosen = Turn().choose(wants[::-1], {})

    assert {want.session for want in chosen} == set(range(1, DRAFT_ROWS + 1))


def test_no_host_starves_beside_others_that_want_more() -> None:
    turn = Turn()
    served = dict.fromkeys(range(3), 0)
    wants = one_each(1, 1) + [want for want in one_each(3, 40) if want.host]

    for _ in range(50):
        for want in turn.choose(wants, {}):
            served[want.host] += want.rows

    assert served[0] == 50
    assert served[1] == pytest.approx(served[2], abs=8)


def test_a_host_of_twice_the_weight_gets_twice_the_rows() -> None:
    turn = Turn()
    served = {0: 0, 1: 0}

    for _ in range(60):
        for want in turn.choose(one_each(2, 40), {0: 2.0, 1: 1.0}):
            served[want.host] += want.rows

    assert served[0] / served[1] == pytest.approx(2.0, rel=0.1)


def test_a_host_of_no_weight_is_served_by_what_others_leave() -> None:
    chosen = Turn().choose(one_each(2, 10), {0: 1.0, 1: 0.0})

    assert sum(want.host == 0 for want in chosen) == 10


def test_prompts_take_turns() -> None:
    turn = Turn()
    prompts = [Want(number, 0, 1.0, 64, is_prompt=True) for number in (3, 1, 2)]

    order = [turn.choose(prompts, {})[0].session for _ in range(4)]

    assert order == [1, 2, 3, 1]


def test_a_prompt_takes_half_of_the_rows_while_others_draft() -> None:
    assert prompt_rows(is_drafting=False) == PROMPT_ROWS
    assert prompt_rows(is_drafting=True) == PROMPT_ROWS // 2


@pytest.mark.parametrize(
    ("rows", "cost"), [(1, 1.0), (2, 1.6), (3, 2.2), (4, 2.8), (6, 3.65), (8, 4.5)]
)
def test_the_cost_of_a_decode_is_read_between_the_measured_ones(rows: int, cost: float) -> None:
    assert decode_cost(rows, COSTS) == pytest.approx(cost)


def test_a_run_is_decoded_as_long_as_it_is_sure_and_not_at_all_when_it_is_not() -> None:
    assert run_rows([1.0] * 20, COSTS) == RUN_ROWS
    assert run_rows([0.0] * 20, COSTS) == 1
    assert run_rows([], COSTS) == 1


@given(st.lists(st.floats(0, 1), max_size=12))
def test_the_chosen_run_has_the_best_rate_of_all(chances: list[float]) -> None:
    def rate(rows: int) -> float:
        gain = reach = 1.0
        for chance in chances[: rows - 1]:
            reach *= chance
            gain += reach
        return gain / decode_cost(rows, COSTS)

    rows = run_rows(chances, COSTS)

    assert rate(rows) == max(rate(n) for n in range(1, min(RUN_ROWS, len(chances) + 1) + 1))
