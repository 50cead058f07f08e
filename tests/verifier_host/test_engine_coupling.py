"""The torch twin of the noise: golden vectors, and the numpy twin bit for bit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.drafting import coupling as reference
from verifier_host.engine import coupling

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "noise_vectors.json").read_text())
KEYS = st.binary(min_size=8, max_size=8)
POSITIONS = st.integers(0, 2**63)


def as_int32(ids: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.array(ids, np.uint32).view(np.int32))


@pytest.mark.parametrize("row", VECTORS["rows"], ids=lambda row: f"{row['key']}-{row['pos']}")
def test_golden_vectors_hold(row: dict[str, list[str]]) -> None:
    key = reference.row_key(bytes.fromhex(str(row["key"])), int(str(row["pos"])))
    ids = as_int32([int(i) for i in row["ids"]])

    bits = coupling.noise_bits(ids, key)

    assert [f"{h:08x}" for h in bits.tolist()] == row["h"]
    uniform = coupling.noise_uniform(bits).numpy().view(np.uint32)
    assert [f"{w:08x}" for w in uniform.tolist()] == row["w_bits"]
    gumbel = coupling.gumbel(ids, key).numpy()
    np.testing.assert_allclose(gumbel, row["gumbel"], atol=VECTORS["gumbel_tolerance"])


def test_golden_uniforms_hold() -> None:
    bits = torch.tensor([int(pair["h"], 16) for pair in VECTORS["h_to_w"]], dtype=torch.int32)

    uniform = coupling.noise_uniform(bits).numpy().view(np.uint32)

    assert [f"{w:08x}" for w in uniform.tolist()] == [p["w_bits"] for p in VECTORS["h_to_w"]]


@given(KEYS, POSITIONS)
@settings(max_examples=30, deadline=None)
def test_both_twins_are_equal_before_the_logarithm_and_close_after(key: bytes, at: int) -> None:
    row = reference.row_key(key, at)
    ids = np.arange(5_000, dtype=np.uint32)

    bits = coupling.noise_bits(torch.from_numpy(ids.view(np.int32)), row)

    expected = reference.noise_bits(ids, row)
    np.testing.assert_array_equal(bits.numpy().view(np.uint32), expected)
    np.testing.assert_array_equal(
        coupling.noise_uniform(bits).numpy(), reference.noise_uniform(expected)
    )
    noise = coupling.gumbel(torch.from_numpy(ids.view(np.int32)), row).numpy()
    np.testing.assert_allclose(noise, reference.gumbel(ids, row), atol=1e-6)


def test_the_noise_stays_within_its_stated_range() -> None:
    ends = torch.tensor([0, 2**31 - 1], dtype=torch.int32)

    noise = coupling.noise_uniform(ends).neg_().log1p_().neg_().log_().neg_()

    assert noise.tolist() == pytest.approx([reference.GUMBEL_HIGH, reference.GUMBEL_LOW], abs=1e-6)
