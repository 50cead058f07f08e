"""Opening a target whole: what it says of itself, what it refuses, what it falls back to."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from p2p.errors import ModelError, ResourceError
from verifier_host.engine.body import Linear
from verifier_host.engine.body_cpu import CpuBody
from verifier_host.engine.kv import bytes_per_slot, slots_for
from verifier_host.engine.spec import ModelSpec
from verifier_host.engine.target import open_target, prove
from verifier_host.engine.weights import open_weights
from verifier_host.messages import Load, Sampling
from verifier_host.scheduling.rows import TILE, Rows, SessionRows


def ignore(done: float, what: str) -> None:
    """A progress nobody watches."""


@pytest.fixture
def load(tiny_llama_dir: Path) -> Load:
    return Load(
        path=str(tiny_llama_dir),
        name="tiny",
        dtype="fp32",
        threads=1,
        kv_tokens=1000,
        max_context=512,
        max_rows=64,
        debug=False,
    )


def prompt(length: int, sampling: Sampling) -> Rows:
    """A prompt of one session in tile 1, whose last row is wanted."""
    token = np.arange(3, 3 + length, dtype=np.int32)
    position = np.arange(length, dtype=np.int32)
    wants = position == length - 1
    session = SessionRows(1, 0, length, np.zeros(0, np.int32), bytes(8), sampling, {}, 0)
    return Rows(token, position, TILE + position, position - 1, wants, (session,))


class StockLinears(CpuBody):
    """Breaks row invariance."""

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return lambda x: F.linear(x, weight, bias)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_target_is_exact_and_says_what_it_is(load: Load, dtype: str) -> None:
    said: list[str] = []

    target = open_target(replace(load, dtype=dtype), lambda done, what: said.append(what))

    assert target.exact
    assert len(bytes.fromhex(target.fingerprint)) == 8
    assert target.slots == 17 * TILE  # 1000 tokens and the dummy tile
    assert target.memory_bytes > target.slots * 1000
    assert target.kernels in ("avx512", "avx2", "base")
    assert said[-1].startswith("self-test")
    chosen = target.forward(prompt(5, Sampling(temperature=0.0)))
    assert chosen.tokens[:4].tolist() == [-1] * 4
    assert 0 <= chosen.tokens[4] < target.spec.vocabulary


@pytest.mark.slow
def test_a_fingerprint_changes_with_all_that_may_change_a_bit(load: Load) -> None:
    prints = {
        open_target(changed, ignore).fingerprint
        for changed in (load, load, replace(load, threads=2), replace(load, dtype="bf16"))
    }

    assert len(prints) == 3


@pytest.mark.slow
def test_more_threads_give_the_text_of_their_own_fingerprint_and_stay_exact(load: Load) -> None:
    target = open_target(replace(load, threads=2), ignore)

    assert target.exact
    assert target.body.threads == 2


def test_settling_nothing_is_nothing(load: Load) -> None:
    target = open_target(load, ignore)

    target.settle(np.zeros(0, np.int32), np.zeros(0, np.int32))


def test_a_type_that_is_unknown_is_refused(load: Load) -> None:
    with pytest.raises(ModelError, match=r"fp8.*known are fp32, bf16"):
        open_target(replace(load, dtype="fp8"), ignore)


def test_without_an_invariant_body_the_target_runs_and_is_not_called_exact(load: Load) -> None:
    weights = open_weights(Path(load.path), ignore)

    body = StockLinears(weights.spec, torch.float32)
    target = prove(weights, torch.float32, body, load, ignore)

    assert not target.exact
    assert target.forward(prompt(5, Sampling())).tokens[4] >= 0


@pytest.mark.parametrize("rows", [1, 3, 16, 17, 300])
def test_the_self_test_takes_any_bound_on_rows(load: Load, rows: int) -> None:
    assert open_target(replace(load, max_rows=rows), ignore).exact


def test_memory_is_what_is_asked_for_or_a_share_or_what_fits(tiny_spec: ModelSpec) -> None:
    tile = TILE * bytes_per_slot(tiny_spec, torch.float32)
    slots: Callable[[int, int], Any] = lambda tokens, tiles: (  # noqa: E731
        slots_for(tiny_spec, torch.float32, tokens, tiles * tile) // TILE
    )

    assert slots(640, 1000) == 11
    assert slots(641, 1000) == 12
    assert slots(1, 1000) == 8
    assert slots(0, 1000) == 500
    assert slots(10**9, 1000) == 900
    assert slots(0, 9) == 8
    with pytest.raises(ResourceError, match="KV memory"):
        slots(0, 8)


def test_half_the_bytes_hold_as_many_slots_in_bf16(tiny_spec: ModelSpec) -> None:
    wide, narrow = (bytes_per_slot(tiny_spec, t) for t in (torch.float32, torch.bfloat16))

    assert wide == 2 * narrow == 2 * 1 * 2 * 64 * 4
