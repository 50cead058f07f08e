"""Proves row invariance at load, on this very machine, library and model, and times a few steps.

What the rules R1-R6 of `body_cpu.py` promise by construction rests on a compiler and a processor:
if one breaks it, the operator must hear of it, not a user.
"""

import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from verifier_host.engine.body import Linear
from verifier_host.engine.model import Model
from verifier_host.messages import Sampling
from verifier_host.scheduling.rows import TILE, Int32, Rows, SessionRows

TRIAL_ROWS = (1, 2, 4, 8, 16, 32, 64)
ROW_COUNTS = (*range(1, 18), 31, 32, 33, 64, 65, 96, 128, 192, 256, 384, 512, 768)
LENGTH = TILE  # the prompt: the rows after it begin a tile of their own
GUESSES = 4
STRAIGHT, SCATTERED, SCRATCH = (1, 2), (5, 3), 7  # tiles


def is_invariant(model: Model, max_rows: int) -> bool:
    """Say whether a row's bits never depend on the rows beside it, where they lie or how they came.

    Uses tiles 1 to 7 of the KV memory and must run before the first session.
    """
    return _linears_are_invariant(model, max_rows) and _steps_are_invariant(model, max_rows)


@torch.inference_mode()
def is_one_class(linear: Linear, inputs: int, most: int) -> bool:
    """Say whether a row's bits do not depend on how many others there are, in trials up to `most`
    rows of `inputs` numbers."""
    x = torch.randn(most, inputs, generator=torch.Generator().manual_seed(0))
    whole = linear(x)
    return all(
        torch.equal(linear(x[-count:].contiguous()), whole[-count:])
        for count in ROW_COUNTS
        if count < most
    )


def _linears_are_invariant(model: Model, max_rows: int) -> bool:
    spec, layer = model.spec, model.layers[0]
    inputs: dict[tuple[int, int], Linear] = {
        ((spec.heads + 2 * spec.kv_heads) * spec.head_size, spec.hidden): layer.qkv,
        (spec.hidden, spec.heads * spec.head_size): layer.out,
        (2 * spec.intermediate, spec.hidden): layer.gate_up,
        (spec.hidden, spec.intermediate): layer.down,
        (spec.vocabulary, spec.hidden): model.head,
    }
    return all(is_one_class(linear, size, max_rows + 1) for (_, size), linear in inputs.items())


def _steps_are_invariant(model: Model, max_rows: int) -> bool:
    """Compare one row at a time against a tree among junk, and one prompt cut in two ways."""
    seeded = np.random.default_rng(0)
    tokens = seeded.integers(0, model.spec.vocabulary, LENGTH + GUESSES).astype(np.int32)
    chunk = max(1, min(max_rows, LENGTH))
    straight = _slots(STRAIGHT, LENGTH + GUESSES)
    _prefill(model, tokens, straight, range(0, LENGTH + chunk, chunk))
    alone = [
        model.forward(_chain(tokens, straight, position, position + 1, wants=True))
        for position in range(LENGTH, LENGTH + GUESSES)
    ]
    scattered = _slots(SCATTERED, LENGTH)
    first = max(1, chunk // 4)
    _prefill(model, tokens, scattered, [0, *range(first, LENGTH + chunk, chunk)])
    junk = seeded.integers(0, model.spec.vocabulary, GUESSES).astype(np.int32)
    tree = model.forward(_tree(tokens, scattered, junk))
    return torch.equal(torch.cat(alone), tree[::2])


def time_steps(model: Model, max_rows: int) -> tuple[tuple[int, float], ...]:
    """Return (rows, seconds) of steps behind the self-test's prompt, the better of two each."""
    tokens, slots = np.zeros(2 * LENGTH + max_rows, np.int32), _slots(STRAIGHT, 2 * LENGTH)
    found = []
    for rows in (count for count in TRIAL_ROWS if count <= min(max_rows, LENGTH)):
        step = _chain(tokens, slots, LENGTH, LENGTH + rows, wants=True)
        found.append((rows, min(_seconds(model, step) for _ in range(2))))
    return tuple(found)


def _seconds(model: Model, rows: Rows) -> float:
    began = time.perf_counter()
    model.forward(rows)
    return time.perf_counter() - began


def _slots(tiles: Sequence[int], length: int) -> Int32:
    position = np.arange(length)
    return (np.array(tiles)[position // TILE] * TILE + position % TILE).astype(np.int32)


def _prefill(model: Model, tokens: Int32, slots: Int32, starts: Sequence[int]) -> None:
    for start, stop in pairwise(starts):
        if start < LENGTH:
            model.forward(_chain(tokens, slots, start, min(stop, LENGTH), wants=False))


def _rows(
    token: Int32, position: Int32, slot: Int32, parent: Int32, wants: bool, prefix: Int32
) -> Rows:
    count = len(token)
    session = SessionRows(1, 0, count, prefix, bytes(8), Sampling(), {}, 0)
    return Rows(token, position, slot, parent, np.full(count, wants), (session,))


def _chain(tokens: Int32, slots: Int32, start: int, stop: int, *, wants: bool) -> Rows:
    position = np.arange(start, stop, dtype=np.int32)
    parent = np.arange(-1, stop - start - 1, dtype=np.int32)
    return _rows(tokens[start:stop], position, slots[start:stop], parent, wants, slots[:start])


def _tree(tokens: Int32, prefix: Int32, junk: Int32) -> Rows:
    """The last tokens as a chain (even rows), each with a wrong sibling, in columns of no order."""
    depth = np.repeat(np.arange(GUESSES, dtype=np.int32), 2)
    token = np.stack([tokens[LENGTH:], junk], 1).reshape(-1)
    parent = np.where(depth == 0, -1, 2 * (depth - 1)).astype(np.int32)
    slot = (SCRATCH * TILE + TILE - 1 - 3 * np.arange(2 * GUESSES)).astype(np.int32)
    return _rows(token, LENGTH + depth, slot, parent, True, prefix)
