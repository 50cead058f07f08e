"""A row's logits and keys depend on its own prefix alone, bit for bit; each rule is needed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from verifier_host.engine.attention import SHORT, Layout, Plan
from verifier_host.engine.body import Linear
from verifier_host.engine.body_cpu import CpuBody, CpuStep, Linears
from verifier_host.engine.selftest import is_invariant
from verifier_host.engine.spec import ModelSpec
from verifier_host.engine.weights import open_weights
from verifier_host.scheduling.rows import TILE, Int32, Rows

Hands = Callable[..., "Hand"]  # noqa: F821 - conftest's class, which tests cannot import
LENGTH, PROMPT = 150, 100


def tokens_for(spec: ModelSpec, length: int = LENGTH) -> Int32:
    return np.random.default_rng(1).integers(0, spec.vocabulary, length).astype(np.int32)


def rows_that_differ(one: Tensor, other: Tensor) -> int:
    return int((one != other).any(1).sum())


def most_different(make: Callable[[], "Hand"], tokens: Int32) -> int:  # noqa: F821
    """The rows that differ, at worst, between plain decoding and ways of drafting."""
    alone = make().feed(tokens, [1])
    ways = [([2], 0), ([5], 0), ([16], 0), ([150], 0), ([1, 3, 7], 0)]
    return max(rows_that_differ(alone, make().feed(tokens, *way)) for way in ways)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "size"), [(3, 1, 64), (4, 4, 64), (14, 2, 64), (8, 1, 128)]
)
def test_logits_and_keys_are_the_same_however_a_text_is_cut_and_drafted(
    make_hand: Hands, tiny_spec: ModelSpec, dtype: torch.dtype, heads: int, kv_heads: int, size: int
) -> None:
    frequencies = tuple(10000.0 ** (-2 * i / size) for i in range(size // 2))
    spec = replace(
        tiny_spec, heads=heads, kv_heads=kv_heads, head_size=size, frequencies=frequencies
    )
    tokens = tokens_for(spec, 280)
    hand = make_hand(spec, dtype)
    alone = hand.feed(tokens, [1])
    keys = hand.keys(280)

    for chunks, junk in [
        ([2], 0),
        ([5], 0),
        ([16], 0),
        ([64], 0),
        ([37], 0),
        ([5], 2),
        ([8, 1], 3),
    ]:
        other = make_hand(spec, dtype)
        logits = other.feed(tokens, chunks, junk)

        assert rows_that_differ(alone, logits) == 0, (chunks, junk)
        assert torch.equal(keys, other.keys(280)), (chunks, junk)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sessions_of_all_kinds_in_one_step_do_not_touch_each_other(
    make_hand: Hands,
    tiny_spec: ModelSpec,
    merge_rows: Callable[[Sequence[Rows]], Rows],
    dtype: torch.dtype,
) -> None:
    hand = make_hand(tiny_spec, dtype)
    lengths = [(1, 70), (9, 650), (3, 64), (40, 5), (7, 400), (2, 620)]  # rows, committed before
    scattered = [30, 9, 31, 11, 12, 8, 50, 49, 52, 51, 48]
    runs = [range(4, 7), range(20, 22), range(13, 20), range(53, 63)]
    tiles = [range(1, 4), scattered, *runs]
    parts, expected = [], []
    for number, ((rows, committed), own) in enumerate(zip(lengths, tiles, strict=True)):
        session = replace(hand, tiles=own, scratch=(40 + number,))
        tokens = np.roll(tokens_for(tiny_spec, committed + rows), number)
        for start in range(0, committed, 64):
            hand.model.forward(session.chain(tokens, start, min(committed, start + 64)))
        if number == 4:  # a tree with two wrong siblings beside each guess
            part = session.tree(tokens, committed, committed + rows, 2)
        else:
            part = session.chain(tokens, committed, committed + rows)
        parts.append(part)
        expected.append(hand.model.forward(part))

    logits = hand.model.forward(merge_rows(parts))

    assert rows_that_differ(torch.cat(expected), logits) == 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_changes_where_full_tiles_get_a_pass_of_their_own(
    make_hand: Hands, tiny_spec: ModelSpec, dtype: torch.dtype
) -> None:
    hand = make_hand(tiny_spec, dtype)
    first = (SHORT + 1) * TILE
    tokens = tokens_for(tiny_spec, first + 20)
    hand.feed(tokens[: first - 20], [64])
    alone = [
        hand.model.forward(hand.chain(tokens, p, p + 1)) for p in range(first - 20, first + 20)
    ]

    for stop in (first - 4, first + 12):  # eight rows on either side, and across
        start = stop - 8
        chain = hand.model.forward(hand.chain(tokens, start, stop))
        tree = hand.model.forward(hand.tree(tokens, start, stop, 2))[::3]
        expected = torch.cat(alone[start - first + 20 : stop - first + 20])
        assert rows_that_differ(expected, chain) == 0
        assert rows_that_differ(expected, tree) == 0


@pytest.mark.parametrize("committed", [63, 64, 65, 128, 320, 700])
def test_tiles_may_lie_in_any_order(make_hand: Hands, tiny_spec: ModelSpec, committed: int) -> None:
    straight = make_hand(tiny_spec)
    scattered = replace(straight, tiles=[30, 22, 25, 21, 28, 23, 35, 31, 26, 33, 24, 27])
    tokens = tokens_for(tiny_spec, committed + 3)
    for hand in (straight, scattered):
        hand.feed(tokens[:committed], [64])

    one = straight.model.forward(straight.chain(tokens, committed, committed + 3))
    other = scattered.model.forward(scattered.chain(tokens, committed, committed + 3))

    assert torch.equal(one, other)


def test_a_settled_guess_leaves_the_same_keys_in_all_layers(make_hand: Hands) -> None:
    hand = make_hand()
    source = np.array([40 * TILE + 9, 41 * TILE], np.int32)
    for layer in range(2):
        hand.body.memory.tiles(layer)[40, :, 9] = layer + 1.0
        hand.body.memory.tiles(layer)[41, :, 0] = layer + 7.0

    hand.body.settle(source, np.array([64, 65], np.int32))

    assert [hand.body.memory.tiles(layer)[1, 0, 0, 0].item() for layer in range(2)] == [1.0, 2.0]
    assert [hand.body.memory.tiles(layer)[1, 0, 1, 0].item() for layer in range(2)] == [7.0, 8.0]


def test_settling_may_swap_two_slots(make_hand: Hands) -> None:
    hand = make_hand()
    tile = hand.body.memory.tiles(0)[3]
    tile[:, 0], tile[:, 1] = 1.0, 2.0
    first = np.array([3 * TILE, 3 * TILE + 1], np.int32)

    hand.body.settle(first, first[::-1].copy())

    assert tile[0, :2, 0].tolist() == [2.0, 1.0]


def test_linears_in_blocks_are_invariant_too(make_hand: Hands) -> None:
    def body(spec: ModelSpec, dtype: torch.dtype) -> CpuBody:
        return CpuBody(spec, dtype, Linears.BLOCKS)

    hand = make_hand(body=body)

    assert most_different(lambda: hand, tokens_for(hand.model.spec)) == 0
    assert is_invariant(hand.model, torch.float32, 64)


class StockLinears(CpuBody):
    """Breaks R1: MKL's own choice of kernel, and single rows."""

    def __init__(self, spec: ModelSpec, dtype: torch.dtype) -> None:
        super().__init__(spec, dtype, least_linear_rows=1)

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return lambda x: F.linear(x, weight, bias)


class ColumnsByRow(CpuBody):
    """Breaks R2: which column a key has depends on how many rows the step has."""

    def begin(self, rows: Rows) -> CpuStep:
        step = super().begin(rows)
        shift = len(rows.token) % TILE
        paths = tuple(
            replace(
                part,
                keys=part.keys.view(-1, TILE).roll(shift, 1).flatten(),
                hidden=part.hidden.roll(shift, -1),
            )
            for part in step.plan.paths
        )
        return replace(step, plan=replace(step.plan, paths=paths))


class NoPadding(CpuBody):
    """Breaks R3: as many query rows as there are."""

    def __init__(self, spec: ModelSpec, dtype: torch.dtype) -> None:
        super().__init__(spec, dtype, least_rows=1)


class PrefixApartFromStep(CpuBody):
    """Breaks R4: softmax of the committed keys and of the step's own are merged at the end."""

    def begin(self, rows: Rows) -> CpuStep:
        step = super().begin(rows)
        return MergingStep(*(getattr(step, name) for name in CpuStep.__slots__))


class MergingStep(CpuStep):
    __slots__ = ()

    def attend(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        CpuStep.attend(self, layer, q, kv)  # writes the keys
        if len(self.plan.paths) > 1 or self.plan.paths[0].groups > 1:
            return CpuStep.attend(self, layer, q, kv)  # the rule is broken for chains alone
        committed = int(self.position[0])
        return merged(q, self.memory.rows(layer), self.plan, self.layout, committed)


def merged(q: Tensor, rows: Tensor, plan: Plan, layout: Layout, committed: int) -> Tensor:
    part, size = plan.paths[0], layout.head_size
    found = rows[part.keys].view(part.tiles, layout.kv_heads, TILE, -1).transpose(0, 1)
    found = found.reshape(layout.kv_heads, part.tiles * TILE, -1)
    query = q.reshape(-1, size)[part.query].view(-1, layout.kv_heads, part.width, size)[0]
    hidden = part.hidden[0, :, 0].transpose(0, 1).reshape(part.width, -1)
    scores = query @ found[..., :size].transpose(1, 2) + hidden
    spans = [slice(0, committed), slice(committed, None)] if committed else [slice(None)]
    peaks = [scores[..., span].amax(-1, keepdim=True) for span in spans]
    peak = torch.stack(peaks).amax(0)
    sums = [
        (own - peak).exp() * ((scores[..., span] - own).exp() @ found[:, span, size:])
        for span, own in zip(spans, peaks, strict=True)
    ]
    total = torch.stack(sums).sum(0)
    out = (total[..., :-1] / total[..., -1:]).reshape(-1, size)
    return out[plan.back].view(-1, layout.heads * size)


@pytest.mark.slow
@pytest.mark.parametrize("body", [StockLinears, ColumnsByRow, NoPadding, PrefixApartFromStep])
def test_without_the_rule_bits_depend_on_drafting(make_hand: Hands, body: type[CpuBody]) -> None:
    hand = make_hand(body=body)

    assert most_different(lambda: hand, tokens_for(hand.model.spec)) > 0


def test_the_self_test_passes_on_this_machine(make_hand: Hands) -> None:
    hand = make_hand()

    assert is_invariant(hand.model, torch.float32, 64)


@pytest.mark.parametrize("body", [StockLinears, ColumnsByRow, PrefixApartFromStep])
def test_the_self_test_catches_a_broken_rule(make_hand: Hands, body: type[CpuBody]) -> None:
    hand = make_hand(body=body)

    assert not is_invariant(hand.model, torch.float32, 64)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bundled_target_is_invariant(
    bundled_target_path: Path, make_hand: Hands, dtype: torch.dtype
) -> None:
    weights = open_weights(bundled_target_path, lambda done, what: None)
    hand = make_hand(weights.spec, dtype, weights=weights)
    tokens = tokens_for(weights.spec, 140)
    alone = torch.cat(
        [
            hand.feed(tokens[:120], [60])[-1:],
            *(hand.model.forward(hand.chain(tokens, p, p + 1)) for p in range(120, 140)),
        ]
    )
    keys = hand.keys(140)

    for chunk, junk in [(5, 2), (16, 0)]:
        hand.feed(tokens[:120], [43])
        rest = []
        for start in range(120, 140, chunk):
            stop = min(140, start + chunk)
            rows = hand.tree(tokens, start, stop, junk)
            rest.append(hand.model.forward(rows)[:: junk + 1])
            hand.body.settle(rows.slot[:: junk + 1], hand.slots(start, stop))

        assert rows_that_differ(alone[1:], torch.cat(rest)) == 0
        assert torch.equal(keys, hand.keys(140))


def test_a_model_opened_twice_gives_the_same_bits(make_hand: Hands) -> None:
    one, other = make_hand(), make_hand()
    tokens = tokens_for(one.model.spec, 20)

    assert torch.equal(one.feed(tokens, [20]), other.feed(tokens, [7]))
