"""p̂: from the prior to what a host's commits say."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nexusnode.models
from nexusnode.draft.calibration import (
    BANDS,
    CHANCE_CAP,
    MARGIN_EDGES,
    MARGINS,
    MODEL,
    NGRAM,
    RANKS,
    SOURCES,
    Calibration,
    Cell,
    margin_bin,
    plain_prior,
    score_byte,
)
from nexusnode.draft.worker import read_prior
from p2p.errors import ModelError

BUNDLED = Path(nexusnode.models.__path__[0]) / "bundled" / "smollm2-draft-50m-q4_0.gguf"
CELL = Cell(0, 5, 2, MODEL)

cells = st.builds(
    Cell,
    st.integers(0, RANKS - 1),
    st.integers(0, MARGINS - 1),
    st.integers(0, BANDS - 1),
    st.integers(0, SOURCES - 1),
)


def test_margins_are_binned_at_their_edges() -> None:
    assert margin_bin(0.0) == 0
    assert [margin_bin(edge) for edge in MARGIN_EDGES] == list(range(1, MARGINS))
    assert margin_bin(1e9) == MARGINS - 1


@given(cells)
def test_every_prior_is_a_chance(cell: Cell) -> None:
    assert 0 < plain_prior(cell) <= CHANCE_CAP


def test_the_plain_prior_falls_with_rank_and_rises_with_a_lead() -> None:
    chances = [plain_prior(Cell(rank, 6, 0, MODEL)) for rank in range(RANKS)]
    leads = [plain_prior(Cell(0, margin, 0, MODEL)) for margin in range(MARGINS)]

    assert chances == sorted(chances, reverse=True)
    assert leads == sorted(leads)


def test_a_repetition_is_likelier_than_the_same_candidate_without() -> None:
    assert plain_prior(Cell(1, 8, 0, NGRAM)) > plain_prior(Cell(1, 8, 0, MODEL))


def test_a_measured_prior_stands_until_something_is_counted() -> None:
    calibration = Calibration({CELL: 0.42})

    assert calibration.chance(CELL) == pytest.approx(0.42)
    assert calibration.table() == []
    assert not calibration.is_changed


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_chance_goes_to_the_counted_hit_rate(share: float) -> None:
    calibration = Calibration()

    for number in range(3000):
        calibration.learn([(CELL, number % 10 < 10 * share)])

    assert calibration.chance(CELL) == pytest.approx(share, abs=0.04)
    assert calibration.is_changed


def test_old_counts_fade() -> None:
    calibration = Calibration()
    for _ in range(3000):
        calibration.learn([(CELL, True)])
    for _ in range(3000):
        calibration.learn([(CELL, False)])

    assert calibration.chance(CELL) < 0.1


def test_even_a_sure_guess_is_not_certain() -> None:
    calibration = Calibration({CELL: 1.0})
    for _ in range(2000):
        calibration.learn([(CELL, True)])

    assert calibration.chance(CELL) == CHANCE_CAP


@given(st.lists(st.tuples(cells, st.booleans()), max_size=60))
def test_a_table_that_was_stored_gives_the_same_chances_again(
    outcomes: list[tuple[Cell, bool]],
) -> None:
    learnt, restored = Calibration(), Calibration()
    for outcome in outcomes:
        learnt.learn([outcome])

    restored.restore(learnt.table())

    assert all(restored.chance(cell) == pytest.approx(learnt.chance(cell)) for cell, _ in outcomes)


@pytest.mark.parametrize(
    "row",
    [
        (Cell(RANKS, 0, 0, 0), 10.0, 1.0),
        (Cell(0, MARGINS, 0, 0), 10.0, 1.0),
        (Cell(0, 0, BANDS, 0), 10.0, 1.0),
        (Cell(0, 0, 0, SOURCES), 10.0, 1.0),
        (CELL, 10.0, 11.0),
        (CELL, 10.0, -1.0),
        (CELL, float("nan"), 1.0),
        (CELL, float("inf"), 1.0),
    ],
)
def test_a_row_that_cannot_be_is_left_out(row: tuple[Cell, float, float]) -> None:
    calibration = Calibration()

    calibration.restore([row])

    assert calibration.table() == []


@pytest.mark.parametrize(
    ("chance", "score"),
    [(0.0, 0), (0.02, 36), (0.25, 128), (0.6, 198), (CHANCE_CAP, 254), (1, 255)],
)
def test_the_score_is_the_root_of_the_chance_in_a_byte(chance: float, score: int) -> None:
    assert score_byte(chance) == score


def test_the_bundled_draft_comes_with_a_measured_prior() -> None:
    prior = read_prior(BUNDLED)

    surest = prior[Cell(0, MARGINS - 1, 0, MODEL)]
    closest = prior[Cell(0, 0, 0, MODEL)]
    assert closest < surest
    assert all(0 <= chance <= 1 for chance in prior.values())


def test_a_model_without_a_prior_has_an_empty_one(tmp_path: Path) -> None:
    assert read_prior(tmp_path / "model.gguf") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"chances": 3}',
        '{"chances": [[1, 2]]}',
        '{"chances": [[0, 0, 0, 0, 1.5]]}',
    ],
)
def test_a_broken_prior_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.prior.json").write_text(text)

    with pytest.raises(ModelError, match=r"model\.prior\.json"):
        read_prior(tmp_path / "model.gguf")


def test_the_prior_file_says_where_it_comes_from() -> None:
    body = json.loads(BUNDLED.with_suffix(".prior.json").read_text("utf-8"))

    assert "benchmarks/prior.py" in body["about"]
