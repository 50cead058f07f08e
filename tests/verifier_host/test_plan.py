"""Which rows are computed: the best for their time, parents first, each in a slot of its own."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.drafting.tree import Guess
from verifier_host.messages import Sampling, Start
from verifier_host.scheduling.memory import Memory
from verifier_host.scheduling.pacing import MAX_TREE_ROWS, WINDOW, Pace
from verifier_host.scheduling.plan import Picked, chunks, pack, pick
from verifier_host.scheduling.rows import TILE
from verifier_host.scheduling.sessions import Session
from verifier_host.scheduling.survival import Survival
from verifier_host.scheduling.times import StepTimes

FLAT = [1.0] * 513


def running(number: int = 1, length: int = 10, limit: int = 500) -> Session:
    start = Start(number, tuple(range(length)), (), b"12345678", Sampling(), limit, b"")
    session = Session(start, number, 10_000, limit, Pace())
    assert Memory(64 * TILE, 64).admit(session) is not None
    session.cached = length - 1
    return session


def guess(
    session: Session, parents: list[int], tokens: list[int], scores: list[int] | None = None
) -> None:
    session.tree.add(1, len(session.text), 1, parents, tokens, scores or [200] * len(tokens))


def test_the_likeliest_guesses_come_first_and_parents_before_children() -> None:
    session = running()
    guess(session, [0, 0, 2, 3], [50, 60, 61, 62], [60, 250, 250, 250])

    (picked,) = pick([session], Survival(), FLAT, 3)

    assert [one.token for one in picked.guesses] == [60, 61, 62]
    assert picked.parents == [0, 1, 2]


def test_a_session_has_16_tree_rows_and_no_more() -> None:
    session = running()
    guess(session, [0] * 20, list(range(20)))

    (picked,) = pick([session], Survival(), FLAT, 64)

    assert len(picked.guesses) == MAX_TREE_ROWS


def test_rows_are_shared_by_survival_over_all_sessions() -> None:
    sessions = [running(1), running(2)]
    guess(sessions[0], [0, 0], [50, 51], [100, 90])
    guess(sessions[1], [0, 1, 2], [60, 61, 62], [255, 255, 255])

    picked = pick(sessions, Survival(), FLAT, 4)

    assert [len(one.guesses) for one in picked] == [1, 3]


def test_a_row_that_costs_more_than_it_brings_is_not_computed() -> None:
    session = running()
    guess(session, [0, 1, 2, 3], [50, 51, 52, 53], [250, 250, 60, 60])
    steep = [1.0, 1.0, 1.1, 1.2, 1.5, 1.8, *[2.0 + rows for rows in range(60)]]

    (picked,) = pick([session], Survival(), steep, 60)

    assert [one.token for one in picked.guesses] == [50, 51]


def test_a_step_of_one_time_per_row_has_no_tree_rows() -> None:
    session = running()
    guess(session, [0], [50], [255])

    (picked,) = pick([session], Survival(), [float(max(1, r)) for r in range(65)], 60)

    assert picked.guesses == []


def test_guesses_beyond_the_last_token_are_not_computed() -> None:
    session = running(length=10, limit=12)
    guess(session, [0, 1, 2], [50, 51, 52])

    assert [len(one.guesses) for one in pick([session], Survival(), FLAT, 60)] == [1]
    session = running(length=10, limit=11)
    guess(session, [0], [50])
    assert [len(one.guesses) for one in pick([session], Survival(), FLAT, 60)] == [0]


def test_hopeless_guesses_and_sessions_that_gain_nothing_have_no_rows() -> None:
    hopeless, slower = running(1), running(2)
    guess(hopeless, [0], [50], [5])
    guess(slower, [0], [50], [255])
    for _ in range(WINDOW):
        slower.worth.record(8, 1, 1.0)

    assert [one.guesses for one in pick([hopeless, slower], Survival(), FLAT, 60)] == [[], []]


def test_no_room_means_no_rows() -> None:
    session = running()
    guess(session, [0], [50])

    assert pick([session], Survival(), FLAT, 0)[0].guesses == []
    assert pick([session], Survival(), FLAT, -5)[0].guesses == []
    assert pick([], Survival(), FLAT, 60) == []


@pytest.mark.slow
@given(st.data())
def test_no_other_choice_of_rows_brings_more_tokens_a_second(data: st.DataObject) -> None:
    session = running()
    count = data.draw(st.integers(1, 8))
    guess(
        session,
        [data.draw(st.integers(0, id)) for id in range(count)],
        [data.draw(st.integers(0, 2)) for _ in range(count)],
        [data.draw(st.integers(40, 255)) for _ in range(count)],
    )
    times = StepTimes(64)
    for rows in (1, 2, 4, 8, 16):
        times.record(rows, data.draw(st.floats(0.01, 0.3)))
    survival = Survival()
    chance: dict[Guess, float] = {session.tree.root: 1.0}
    for one in session.tree.guesses():
        assert one.parent is not None
        depth = one.position - len(session.text) + 1
        chance[one] = chance[one.parent] * survival.chance(one, depth)

    (picked,) = pick([session], survival, times.curve, 60)

    def rate(guesses: tuple[Guess, ...]) -> float:
        return (1 + sum(chance[one] for one in guesses)) / times.curve[1 + len(guesses)]

    everything = [one for one in session.tree.guesses() if chance[one] >= 0.01]
    best = max(
        rate(guesses)
        for size in range(len(everything) + 1)
        for guesses in combinations(everything, size)
    )
    assert rate(tuple(picked.guesses)) == pytest.approx(best)


def test_prompts_share_rows_oldest_first() -> None:
    young, old, third = running(3, 100), running(1, 40), running(4, 50)
    for session in (young, old, third):
        session.cached = 0

    assert chunks([young, old, third], 64) == [(old, 40), (young, 24)]
    assert chunks([young], 0) == []


def test_rows_are_laid_out_root_first_and_prompts_as_chains() -> None:
    drafting, prompt, part = running(1, 10), running(2, 5), running(3, 100)
    prompt.cached, part.cached = 2, 0
    guess(drafting, [0, 1, 0], [50, 51, 60])
    (picked,) = pick([drafting], Survival(), FLAT, 60)
    memory = Memory(64 * TILE, 64)

    rows, parts = pack([(drafting, picked)], [(prompt, 3), (part, 4)], memory.scratch)

    assert rows.token.tolist() == [9, 50, 60, 51, 2, 3, 4, 0, 1, 2, 3]
    assert rows.position.tolist() == [9, 10, 10, 11, 2, 3, 4, 0, 1, 2, 3]
    assert rows.parent.tolist() == [-1, 0, 0, 1, -1, 4, 5, -1, 7, 8, 9]
    assert rows.wants.tolist() == [*[True] * 4, False, False, True, *[False] * 4]
    assert [(one.start, one.root, one.stop) for one in parts] == [(0, 0, 4), (4, 6, 7), (7, -1, 11)]
    assert [len(one.prefix) for one in rows.sessions] == [9, 2, 0]


def test_the_best_row_of_a_position_goes_home_and_its_siblings_to_scratch() -> None:
    session = running(1, 10)
    guess(session, [0, 0, 0, 2], [50, 60, 70, 61], [100, 250, 50, 250])
    (picked,) = pick([session], Survival(), FLAT, 60)
    scratch = Memory(64 * TILE, 64).scratch

    rows, _ = pack([(session, picked)], [], scratch)

    assert rows.token.tolist() == [9, 60, 61, 50, 70]
    homes = session.slots[9:12].tolist()
    assert rows.slot.tolist() == [*homes, *scratch[:2].tolist()]


def test_a_plain_root_takes_one_row() -> None:
    rows, (part,) = pack([(running(), Picked([], []))], [], Memory(64 * TILE, 64).scratch)

    assert rows.wants.tolist() == [True]
    assert (part.start, part.root, part.stop) == (0, 0, 1)
