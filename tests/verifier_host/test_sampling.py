"""`choose`: docs/protocol.md, 7.4 by rule, its two forms, and the distribution it draws from."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.drafting.coupling import coupling_key, row_key
from p2p.drafting.coupling import gumbel as numpy_gumbel
from verifier_host.engine.coupling import gumbel
from verifier_host.engine.sampling import UNUSABLE, UNWANTED, Ask, Chooser, Kept, asks, logprob
from verifier_host.messages import Sampling
from verifier_host.scheduling.rows import Rows, SessionRows

Float32 = npt.NDArray[np.float32]
GREEDY = Sampling(temperature=0.0)
NOISE = row_key(bytes(8), 7)
VOCABULARY = 64
CHOOSER = Chooser(VOCABULARY, end_ids=(2,))


def noise_of(key: tuple[int, int, int, int], size: int = VOCABULARY) -> Float32:
    noise: Float32 = gumbel(torch.arange(size, dtype=torch.int32), key).numpy()
    return noise


def kept_by_the_book(z: Float32, sampling: Sampling) -> set[int]:
    """The kept set by sorting, in plain Python: the reference."""
    order = sorted(range(len(z)), key=lambda token: -float(z[token]))
    kept = set(order)
    if sampling.top_k:
        edge = z[order[min(sampling.top_k, len(order)) - 1]]
        kept = {token for token in kept if z[token] >= edge}
    if sampling.top_p < 1:
        mass = {token: math.exp(float(z[token]) - float(z.max())) for token in kept}
        total = math.fsum(mass.values())
        above = {t: math.fsum(mass[u] for u in kept if z[u] > z[t]) / total for t in kept}
        kept = {t for t in kept if above[t] < sampling.top_p or z[t] == z.max()}
    if sampling.min_p:
        floor = float(z.max()) + math.log(sampling.min_p)
        kept = {t for t in kept if float(z[t]) >= floor - 1e-6 or z[t] == z.max()}
    return kept


SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.25, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 63, 64, 1000]),
    top_p=st.sampled_from([0.0, 0.11, 0.53, 0.93, 1.0]),
    min_p=st.sampled_from([0.0, 0.013, 0.31, 1.0]),
)


@st.composite
def logits_with_ties(draw: st.DrawFn) -> Float32:
    seeded = np.random.default_rng(draw(st.integers(0, 2**32)))
    z = np.round(seeded.normal(0, draw(st.sampled_from([0.3, 2.0, 8.0])), VOCABULARY) * 4) / 4
    masked = seeded.random(VOCABULARY) < draw(st.sampled_from([0.0, 0.5]))
    masked[0] = False
    return np.where(masked, -np.inf, z).astype(np.float32)


@given(logits_with_ties(), SETTINGS, st.integers(0, 2**40))
@settings(max_examples=300, deadline=None)
def test_the_search_and_the_book_give_one_token(
    z: Float32, sampling: Sampling, position: int
) -> None:
    ask = Ask(sampling, row_key(bytes(8), position))
    scaled = z / np.float32(sampling.temperature)
    kept = kept_by_the_book(scaled, sampling)
    score = scaled + noise_of(ask.noise)
    expected = max(sorted(kept), key=lambda token: score[token])

    assert CHOOSER.choose(z, ask) == expected


def test_a_token_behind_dozens_that_are_not_kept_is_still_found() -> None:
    z = np.zeros(VOCABULARY, np.float32)
    z[40] = 0.01  # top-k 1 keeps it alone, though noise puts dozens before it
    ask = Ask(Sampling(temperature=1.0, top_k=1), NOISE)

    assert CHOOSER.choose(z, ask) == 40


def test_the_best_of_a_whole_vocabulary_is_found_by_computing_few() -> None:
    size = 49_151  # no whole number of vectors
    seeded, ids = np.random.default_rng(4), np.arange(49_151, dtype=np.uint32)
    chooser = Chooser(size, ())
    for position in range(40):
        z = seeded.normal(0, (0.1, 1, 4)[position % 3], size).astype(np.float32)
        key = row_key(b"12345678", position)

        token = chooser.choose(z, Ask(Sampling(temperature=1.0), key))

        assert token == int((z + numpy_gumbel(ids, key)).argmax())


def test_ties_go_to_the_lowest_id() -> None:
    z = np.zeros(VOCABULARY, np.float32)
    z[[9, 33, 60]] = 4.0

    assert CHOOSER.choose(z, Ask(GREEDY, NOISE)) == 9


def test_all_ties_at_the_edge_of_top_k_are_kept() -> None:
    z = np.arange(VOCABULARY, dtype=np.float32)
    z[60:63] = 62.0

    kept = Kept(z, Sampling(top_k=2))

    assert [kept.keeps(value) for value in np.array([63, 62, 59], np.float32)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("temperature", [0.0, 0.009])
def test_a_temperature_below_a_hundredth_is_zero_and_filters_have_no_effect(
    temperature: float,
) -> None:
    z = np.linspace(0, 1, VOCABULARY, dtype=np.float32)
    sampling = Sampling(temperature=temperature, top_k=3, top_p=0.1, min_p=0.9)

    assert CHOOSER.choose(z, Ask(sampling, NOISE)) == VOCABULARY - 1


def test_a_hundredth_is_a_temperature() -> None:
    z = np.zeros(VOCABULARY, np.float32)

    assert CHOOSER.choose(z, Ask(Sampling(temperature=0.01), NOISE)) == int(
        noise_of(NOISE).argmax()
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_row_with_a_number_that_is_none_is_unusable(broken: float) -> None:
    z = np.zeros(VOCABULARY, np.float32)
    z[5] = broken

    for sampling in (GREEDY, Sampling(), Sampling(top_p=0.5)):
        assert CHOOSER.choose(z, Ask(sampling, NOISE)) == UNUSABLE


def test_a_row_of_nothing_but_minus_infinity_is_unusable() -> None:
    z = np.full(VOCABULARY, -np.inf, np.float32)

    assert CHOOSER.choose(z, Ask(GREEDY, NOISE)) == UNUSABLE


def test_bias_moves_a_choice_and_beyond_the_vocabulary_does_nothing() -> None:
    z = np.zeros(VOCABULARY, np.float32)
    sampling = replace(GREEDY, logit_bias=((7, 1.0), (8, 1.5), (3, -100.0), (VOCABULARY, 100.0)))

    assert CHOOSER.choose(z, Ask(sampling, NOISE)) == 8


def test_penalties_are_by_count_and_by_presence() -> None:
    z = np.zeros(VOCABULARY, np.float32)
    z[10:13] = [3.0, 2.9, 2.0]
    counts = {10: 3, 11: 1, VOCABULARY: 5}

    by_count = replace(GREEDY, frequency_penalty=0.5)
    assert CHOOSER.choose(z, Ask(by_count, NOISE, counts)) == 11  # 1.5, 2.4, 2.0
    by_presence = replace(GREEDY, presence_penalty=1.0)
    assert CHOOSER.choose(z, Ask(by_presence, NOISE, counts)) == 10  # 2.0, 1.9, 2.0
    assert CHOOSER.choose(z, Ask(GREEDY, NOISE, counts)) == 10


def test_a_penalty_does_not_change_the_logits_it_was_given() -> None:
    z = np.ones(VOCABULARY, np.float32)
    sampling = replace(GREEDY, presence_penalty=1.0, logit_bias=((1, 5.0),), min_tokens=3)

    CHOOSER.choose(z, Ask(sampling, NOISE, {1: 1}))

    assert (z == 1).all()


@pytest.mark.parametrize(("generated", "expected"), [(2, 5), (3, 2)])
def test_the_end_cannot_be_chosen_before_min_tokens(generated: int, expected: int) -> None:
    z = np.zeros(VOCABULARY, np.float32)
    z[2], z[5] = 9.0, 8.0

    token = CHOOSER.choose(z, Ask(replace(GREEDY, min_tokens=3), NOISE, {}, generated))

    assert token == expected


def step(
    tokens: Sequence[int],
    parents: Sequence[int],
    position: Sequence[int],
    wants: Sequence[bool],
    sampling: Sampling,
    counts: Mapping[int, int],
    generated: int,
) -> Rows:
    count = len(tokens)
    prefix = np.arange(position[0], dtype=np.int32)
    session = SessionRows(1, 0, count, prefix, bytes(8), sampling, dict(counts), generated)
    arrays = [np.array(x, np.int32) for x in (tokens, position, position, parents)]
    return Rows(*arrays, np.array(wants), (session,))


def test_a_guess_counts_for_itself_and_its_descendants_and_for_no_sibling() -> None:
    sampling = replace(GREEDY, presence_penalty=1.0)
    rows = step(
        [9, 4, 5, 4, 6],
        [-1, 0, 0, 1, 2],
        [7, 8, 8, 9, 9],
        [True] * 5,
        sampling,
        {9: 1},
        generated=1,
    )

    found = dict(asks(rows, rows.sessions[0]))

    assert [dict(found[row].counts) for row in range(5)] == [
        {9: 1}, {9: 1, 4: 1}, {9: 1, 5: 1}, {9: 1, 4: 2}, {9: 1, 5: 1, 6: 1}
    ]  # fmt: skip
    assert [found[row].generated for row in range(5)] == [1, 2, 2, 3, 3]
    assert found[3].noise == row_key(bytes(8), 10)


def test_rows_of_a_prompt_are_not_counted_as_guesses() -> None:
    sampling = replace(GREEDY, presence_penalty=1.0)
    rows = step([3, 4, 5], [-1, 0, 1], [0, 1, 2], [False, False, True], sampling, {}, generated=0)

    ((row, ask),) = asks(rows, rows.sessions[0])

    assert (row, dict(ask.counts), ask.generated) == (2, {}, 0)


def test_a_step_answers_wanted_rows_alone_and_a_broken_row_breaks_no_other() -> None:
    sampling = replace(GREEDY, logprobs=2)
    rows = step([1, 2, 3], [-1, 0, 1], [4, 5, 6], [False, True, True], sampling, {}, generated=0)
    logits = torch.zeros(2, VOCABULARY)
    logits[0, 3] = torch.nan
    logits[1, [8, 6]] = 2.0

    chosen = CHOOSER.rows(rows, logits)

    assert chosen.tokens.tolist() == [UNWANTED, UNUSABLE, 6]
    assert chosen.logprobs[:2] == (None, None)
    said = chosen.logprobs[2]
    assert said is not None
    assert [token for token, _ in said.top] == [6, 8]
    assert said.logprob == said.top[0][1]


def test_a_step_that_wants_nothing_is_answered() -> None:
    rows = step([1, 2], [-1, 0], [0, 1], [False, False], GREEDY, {}, generated=0)

    chosen = CHOOSER.rows(rows, torch.empty(0, VOCABULARY))

    assert chosen.tokens.tolist() == [UNWANTED, UNWANTED]


def test_logprobs_are_of_the_models_own_distribution() -> None:
    z = np.random.default_rng(0).normal(0, 3, VOCABULARY).astype(np.float32)
    expected = torch.log_softmax(torch.from_numpy(z).double(), 0)
    best = expected.topk(3)

    found = logprob(z, 11, 3)

    assert found.logprob == pytest.approx(expected[11].item(), abs=1e-12)
    assert [token for token, _ in found.top] == best.indices.tolist()
    assert [value for _, value in found.top] == pytest.approx(best.values.tolist(), abs=1e-12)


def test_logprobs_name_no_masked_token_and_may_name_none() -> None:
    z = np.full(VOCABULARY, -np.inf, np.float32)
    z[[3, 4]] = 0.0

    assert [token for token, _ in logprob(z, 3, 20).top] == [3, 4]
    assert logprob(z, 4, 0).top == ()
    assert logprob(z, 4, 0).logprob == pytest.approx(-math.log(2))


def critical(freedom: int) -> float:
    """The chi-square value passed by chance once in a thousand (Wilson and Hilferty, 1931)."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + 3.0902 * math.sqrt(spread)) ** 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7, top_p=0.8),
        Sampling(temperature=1.0, top_k=5, presence_penalty=0.8),
        Sampling(temperature=1.5, min_p=0.2, frequency_penalty=1.0),
    ],
    ids=lambda s: f"T{s.temperature}-k{s.top_k}-p{s.top_p}-m{s.min_p}",
)
def test_three_positions_together_follow_the_exact_distribution(sampling: Sampling) -> None:
    """A chain of tables over 6 tokens, 50,000 seeds, against exact enumeration of 216 texts."""
    seeds, size = 50_000, 6
    tables = np.random.default_rng(3).normal(0, 1, (size + 1, size)).astype(np.float32)
    chooser = Chooser(size, ())
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(seeds):
        key = coupling_key(seed, 0, [1])
        text: list[int] = []
        for position in range(3):
            before = text[-1] if text else size
            ask = Ask(sampling, row_key(key, 1 + position), Counter(text), position)
            text.append(chooser.choose(tables[before], ask))
        seen[tuple(text)] += 1

    expected = {(): 1.0}
    for _ in range(3):
        expected = {
            (*text, token): chance * step_chance
            for text, chance in expected.items()
            for token, step_chance in exact(tables[text[-1] if text else size], sampling, text)
        }
    assert set(seen) <= set(expected)
    rare = [text for text, chance in expected.items() if chance * seeds < 5]
    cells = [([text], chance) for text, chance in expected.items() if text not in set(rare)]
    if rare:
        cells.append((rare, sum(expected[text] for text in rare)))
    total = sum(
        (sum(seen[text] for text in texts) - chance * seeds) ** 2 / (chance * seeds)
        for texts, chance in cells
    )
    assert total < critical(len(cells) - 1)


def exact(z: Float32, sampling: Sampling, text: tuple[int, ...]) -> list[tuple[int, float]]:
    z = z.copy()
    for token, times in Counter(text).items():
        z[token] -= np.float32(sampling.frequency_penalty) * np.float32(times)
        z[token] -= np.float32(sampling.presence_penalty)
    z = z / np.float32(sampling.temperature)
    kept = sorted(kept_by_the_book(z, sampling))
    weights = [math.exp(float(z[token])) for token in kept]
    return [(token, w / math.fsum(weights)) for token, w in zip(kept, weights, strict=True)]
