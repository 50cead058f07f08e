"""The noise of node and host, against golden vectors and the specification written the slow way."""

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.drafting.coupling import (
    GUMBEL_HIGH,
    GUMBEL_LOW,
    coupling_key,
    gumbel,
    noise_bits,
    noise_uniform,
    row_key,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "noise_vectors.json").read_text()
)
ROWS = VECTORS["rows"]


def row_of(vector: dict[str, Any]) -> tuple[int, int, int, int]:
    return row_key(bytes.fromhex(vector["key"]), vector["pos"])


def slow_bits(token: int, row: tuple[int, int, int, int]) -> int:
    """The specification with Python's integers, one id at a time."""
    wrap = 0xFFFFFFFF
    x = (token + row[0]) & wrap
    x ^= x >> 16
    x = x * 0x21F0AAAD & wrap
    x ^= x >> 15
    x = x * 0xD35A2D97 & wrap
    x ^= x >> 15
    x ^= row[1]
    x = x * 0x2C1B3C6D & wrap
    x ^= x >> 16
    x = (x + row[2]) & wrap
    x = x * 0x297A2D39 & wrap
    x ^= x >> 15
    return x >> 1


@pytest.mark.parametrize("vector", ROWS, ids=lambda v: f"{v['key']}@{v['pos']}")
def test_a_golden_row_has_the_same_bits_up_to_the_logarithm(vector: dict[str, Any]) -> None:
    row = row_of(vector)
    ids = np.array(vector["ids"], np.uint32)
    bits = noise_bits(ids, row)

    assert [f"{word:08x}" for word in row] == vector["row_key"]
    assert [f"{h:08x}" for h in bits] == vector["h"]
    assert [f"{w:08x}" for w in noise_uniform(bits).view(np.uint32)] == vector["w_bits"]


@pytest.mark.parametrize("vector", ROWS, ids=lambda v: f"{v['key']}@{v['pos']}")
def test_a_golden_row_has_the_same_noise_within_a_millionth(vector: dict[str, Any]) -> None:
    noise = gumbel(np.array(vector["ids"], np.uint32), row_of(vector))

    assert noise.dtype == np.float32
    assert np.abs(noise - np.array(vector["gumbel"])).max() <= VECTORS["gumbel_tolerance"]


@pytest.mark.parametrize("vector", ROWS, ids=lambda v: f"{v['key']}@{v['pos']}")
def test_a_golden_row_agrees_over_whole_vocabularies(vector: dict[str, Any]) -> None:
    bits = noise_bits(np.arange(151_936, dtype=np.uint32), row_of(vector))

    assert bits[:49_152].argmax() == vector["argmax_h_49152"]
    assert bits[:49_152].argmin() == vector["argmin_h_49152"]
    assert bits.argmax() == vector["argmax_h_151936"]
    assert sha256(bits.astype("<u4").tobytes()).hexdigest()[:16] == vector["sha256_16"]


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda v: v["key"])
def test_a_golden_key_follows_from_seed_choice_and_prompt(vector: dict[str, Any]) -> None:
    key = coupling_key(vector["seed"], vector["choice"], vector["prompt"])

    assert key.hex() == vector["key"]


@pytest.mark.parametrize("vector", VECTORS["h_to_w"], ids=lambda v: v["h"])
def test_bits_become_a_uniform_number_by_the_exact_rule(vector: dict[str, str]) -> None:
    w = noise_uniform(np.array([int(vector["h"], 16)], np.uint32))

    assert f"{w.view(np.uint32)[0]:08x}" == vector["w_bits"]


@given(
    key=st.binary(min_size=8, max_size=8),
    position=st.integers(0, 2**64 - 1),
    tokens=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20),
)
def test_noise_is_what_the_specification_says_for_any_key_position_and_id(
    key: bytes, position: int, tokens: list[int]
) -> None:
    row = row_key(key, position)
    ids = np.array(tokens, np.uint32)
    expected = [slow_bits(token, row) for token in tokens]
    noise = gumbel(ids, row)

    assert noise_bits(ids, row).tolist() == expected
    assert ids.tolist() == tokens  # the caller's array is not worked in
    for h, g in zip(expected, noise.tolist(), strict=True):
        w = min(float(np.float32(np.float32(h) + np.float32(0.5))) * 2.0**-31, 1 - 2.0**-24)
        assert g == pytest.approx(-math.log(-math.log1p(-w)), abs=1e-6)


def test_noise_has_the_stated_range() -> None:
    lowest, highest = noise_uniform(np.array([0, 2**31 - 1], np.uint32)).tolist()

    assert (lowest, highest) == (2.0**-32, 1 - 2.0**-24)
    assert -math.log(-math.log1p(-lowest)) == pytest.approx(GUMBEL_HIGH, abs=1e-6)
    assert -math.log(-math.log1p(-highest)) == pytest.approx(GUMBEL_LOW, abs=1e-6)


def test_positions_choices_and_prompts_have_unrelated_noise() -> None:
    ids = np.arange(20_000, dtype=np.uint32)
    key = coupling_key(7, 0, [1, 2, 3])
    others = [
        row_key(key, 4),
        row_key(coupling_key(7, 1, [1, 2, 3]), 3),
        row_key(coupling_key(7, 0, [1, 2, 4]), 3),
        row_key(coupling_key(8, 0, [1, 2, 3]), 3),
    ]
    noise = gumbel(ids, row_key(key, 3))

    for other in others:
        assert abs(np.corrcoef(noise, gumbel(ids, other))[0, 1]) < 0.03


def test_the_noise_of_one_row_is_standard_gumbel() -> None:
    noise = gumbel(np.arange(100_000, dtype=np.uint32), row_key(b"fixedkey", 0)).astype(np.float64)

    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.05)


@pytest.mark.parametrize("prompt", [[-1], [2**32]])
def test_a_prompt_of_impossible_ids_has_no_key(prompt: list[int]) -> None:
    with pytest.raises(OverflowError):
        coupling_key(0, 0, prompt)
