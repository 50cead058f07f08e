"""The few tokens a target may choose, against the slow obvious way over the whole vocabulary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nexusnode.draft.engine import EngineLost, Logits
from nexusnode.draft.sampling import BREADTH, NATS, Ranked, Sampling, rank
from p2p.drafting.coupling import gumbel, row_key
from p2p.wire.messages import Sampler

KEY = b"eightkey"
GREEDY = Sampling(0.0, 0, 1.0, 0.0)

rows = arrays.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-4, 4, width=32, allow_nan=False)
)
samplings = st.builds(
    Sampling,
    st.floats(0.9, 2.0),
    st.integers(0, 70),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.5),
)


def slowly(logits: Logits, sampling: Sampling, position: int) -> list[int]:
    """All tokens by noised score, best first, as docs/protocol.md, 7.4 chooses."""
    z = logits.astype(np.float32) / np.float32(sampling.temperature)
    kept = [True] * len(z)
    if sampling.top_k:
        edge = sorted(z, reverse=True)[min(sampling.top_k, len(z)) - 1]
        kept = [bool(value >= edge) for value in z]
    if 0 < sampling.top_p < 1:
        mass = np.where(kept, np.exp(z.astype(np.float64) - float(z.max())), 0.0)
        above = [sum(mass[j] for j in range(len(z)) if z[j] > z[i]) for i in range(len(z))]
        kept = [k and a < sampling.top_p * mass.sum() for k, a in zip(kept, above, strict=True)]
    if sampling.min_p:
        edge = z.max() + np.float32(np.log(sampling.min_p))
        kept = [k and bool(value >= edge) for k, value in zip(kept, z, strict=True)]
    scores = z + gumbel(np.arange(len(z), dtype=np.uint32), row_key(KEY, position))
    return sorted((i for i in range(len(z)) if kept[i]), key=lambda i: (-scores[i], i))


@given(rows, st.integers(0, 10_000))
def test_candidates_are_the_best_of_all_tokens_by_noised_score(logits: Logits, at: int) -> None:
    sampling = Sampling(1.0, 0, 1.0, 0.0)

    ranked, _ = rank(logits, sampling, KEY, at)

    assert [r.token for r in ranked] == slowly(logits, sampling, at)[:BREADTH]
    assert all(r.margin >= 0 for r in ranked)


@given(rows, samplings)
def test_the_settings_keep_what_they_keep_on_the_host(logits: Logits, sampling: Sampling) -> None:
    distinct = logits + np.arange(len(logits), dtype=np.float32) * np.float32(1e-3)

    ranked, _ = rank(distinct, sampling, KEY, 5)

    assert ranked[0].token == slowly(distinct, sampling, 5)[0]


def test_without_temperature_the_greatest_logit_is_best_and_of_equals_the_lowest_id() -> None:
    logits = np.array([0.0, 3.0, 1.0, 3.0, 2.5, -50.0], np.float32)

    ranked, _ = rank(logits, GREEDY, KEY, 0)

    assert ranked == [Ranked(1, 0.0), Ranked(3, 0.0), Ranked(4, 0.5), Ranked(2, 2.0)]


def test_the_best_tokens_margin_is_its_lead() -> None:
    ranked, _ = rank(np.array([1.0, 4.5, 2.0], np.float32), GREEDY, KEY, 0)

    assert ranked[0] == Ranked(1, 2.5)


def test_a_token_alone_in_reach_leads_by_all_of_it() -> None:
    ranked, _ = rank(np.array([0.0, 40.0], np.float32), GREEDY, KEY, 0)

    assert ranked == [Ranked(1, NATS)]


@pytest.mark.parametrize(("below", "is_in_reach"), [(NATS, True), (NATS + 0.01, False)])
def test_reach_ends_ten_nats_below_the_best(below: float, is_in_reach: bool) -> None:
    ranked, _ = rank(np.array([0.0, -below], np.float32), GREEDY, KEY, 0)

    assert (len(ranked) == 2) == is_in_reach


@pytest.mark.parametrize(("below", "is_in_reach"), [(4.9, True), (5.1, False)])
def test_reach_is_in_units_of_the_temperature(below: float, is_in_reach: bool) -> None:
    half = Sampling(0.5, 0, 1.0, 0.0)

    ranked, _ = rank(np.array([0.0, -below], np.float32), half, KEY, 0)

    assert (len(ranked) == 2) == is_in_reach


def test_the_margin_of_a_proposed_token_is_told_even_past_the_best_ones() -> None:
    logits = np.array([9.0, 8.0, 7.0, 6.0, 5.0, -9.0], np.float32)

    assert rank(logits, GREEDY, KEY, 0, also=4)[1] == 4.0
    assert rank(logits, GREEDY, KEY, 0, also=5)[1] == NATS
    assert rank(logits, GREEDY, KEY, 0)[1] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_no_number_ends_the_engine(bad: float) -> None:
    logits = np.zeros(100, np.float32)
    logits[77] = bad

    with pytest.raises(EngineLost) as caught:
        rank(logits, GREEDY, KEY, 0)

    assert caught.value.kind == "nan"


@pytest.mark.parametrize(
    ("thousandths", "band", "is_greedy"),
    [
        (0, 0, True),
        (9, 0, True),
        (10, 1, False),
        (500, 1, False),
        (501, 2, False),
        (800, 2, False),
        (801, 3, False),
        (2000, 3, False),
    ],
)
def test_temperatures_have_four_bands(thousandths: int, band: int, is_greedy: bool) -> None:
    sampling = Sampling.of(Sampler(thousandths, 40, 900, 50))

    assert (sampling.band, sampling.is_greedy) == (band, is_greedy)
    assert (sampling.top_k, sampling.top_p, sampling.min_p) == (40, 0.9, 0.05)
