"""A row's logits and keys depend on its own prefix alone, bit for bit; each rule is needed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from p2p.errors import ResourceError
from verifier_host.engine.body import Linear
from verifier_host.engine.body_cpu import CpuBody
from verifier_host.engine.kernels import PackedLinear, open_kernels
from verifier_host.engine.selftest import is_invariant, is_one_class
from verifier_host.engine.spec import ModelSpec
from verifier_host.engine.weights import open_weights
from verifier_host.scheduling.rows import Int32, Rows

Hands = Callable[..., "Hand"]  # noqa: F821 - conftest's class, which tests cannot import
Build = ModuleType  # packaging/build_kernels.py
Body = Callable[[ModelSpec, torch.dtype], CpuBody]
LENGTH, PROMPT = 150, 100
CUTS = (*((0, n) for n in range(1, 14)), (39, 40), (3, 5), (1, 12), (2, 27))  # of 40 rows


def tokens_for(spec: ModelSpec, length: int = LENGTH) -> Int32:
    return np.random.default_rng(1).integers(0, spec.vocabulary, length).astype(np.int32)


def rows_that_differ(one: Tensor, other: Tensor) -> int:
    return int((one != other).any(1).sum())


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_settling_copies_keys_and_values_and_may_swap_slots(
    make_hand: Hands, tiny_spec: ModelSpec, dtype: torch.dtype
) -> None:
    hand = make_hand(tiny_spec, dtype)
    hand.feed(tokens_for(tiny_spec, 70), [64])
    before = hand.keys(70)
    slots = hand.slots(0, 70)

    hand.body.settle(slots[[3, 69, 5]], slots[[69, 3, 8]])

    expected = before.clone()
    expected[:, [69, 3, 8]] = before[:, [3, 69, 5]]
    assert torch.equal(hand.keys(70), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("outputs", [1, 31, 32, 130])
def test_a_linear_gives_the_product_in_one_class_of_bits(
    outputs: int, has_bias: bool, dtype: torch.dtype
) -> None:
    seeded = torch.Generator().manual_seed(3)
    weight = torch.randn(outputs, 97, generator=seeded).to(dtype)
    bias = torch.randn(outputs, generator=seeded).to(dtype) if has_bias else None
    x = torch.randn(40, 97, generator=seeded)
    linear = PackedLinear(open_kernels(), weight, bias)

    found = linear(x)

    wide = None if bias is None else bias.float()
    assert torch.allclose(found, F.linear(x, weight.float(), wide), atol=1e-4)
    assert all(torch.equal(linear(x[at:stop]), found[at:stop]) for at, stop in CUTS)


def test_the_trial_of_one_class_finds_linears_that_have_more() -> None:
    weight = torch.randn(3072, 576, generator=torch.Generator().manual_seed(3))

    assert not is_one_class(lambda x: F.linear(x, weight), 576, 65)


class StockLinears(CpuBody):
    """Breaks R1: MKL's own choice of kernel."""

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return lambda x: F.linear(x, weight, bias)


# Breaks of one rule each in the compiled kernels: what is replaced, and by what.
ROWS_TOGETHER = (  # R1: one row goes through a panel from the other end
    "for (long k = 0; k < inputs; k++) {\n    Vec own[NARROW];",
    "for (long j = 0; j < inputs; j++) {\n    const long k = high > 1 ? j : inputs - 1 - j;\n"
    "    Vec own[NARROW];",
)
WHERE_A_KEY_LIES = (  # R2: a key that is not at home is multiplied from the other end
    "for (int d = 0; d < size; d++)\n          sum =",
    "for (int d = size - 1; d >= 0; d--)\n          sum =",
)
HOW_MANY_ROWS = (  # R3: several rows go through the tiles of values from the other end
    "for (int t = 0; t < count; t++) {\n    const size_t base",
    "for (int j = 0; j < count; j++) {\n    const int t = to - from > 1 ? count - 1 - j : j;\n"
    "    const size_t base",
)
WHAT_IS_COMMITTED = (  # R4: committed keys and the step's own are summed apart
    "padded);\n      memset(",
    """padded);
      float sums[2] = {0.0f, 0.0f};
      for (int p = 0; p <= position[r]; p++)
        sums[p >= position[step->first[session]]] += scores[i * padded + p];
      total[i] = sums[0] + sums[1];
      memset(""",
)
MUTANTS = {
    "R1": ROWS_TOGETHER,
    "R2": WHERE_A_KEY_LIES,
    "R3": HOW_MANY_ROWS,
    "R4": WHAT_IS_COMMITTED,
}


@pytest.fixture(params=["MKL", *MUTANTS])
def broken(request: pytest.FixtureRequest, tmp_path: Path, build_kernels: Build) -> Body:
    """A body that breaks one of the rules."""
    if request.param == "MKL":
        return StockLinears
    found, mutant = MUTANTS[request.param]
    source = build_kernels.SOURCE.read_text()
    assert source.count(found) == 1
    changed, library = tmp_path / "kernels.c", tmp_path / "kernels.so"
    changed.write_text(source.replace(found, mutant))
    kernels = open_kernels(build_kernels.build(changed, library), changed)
    return lambda spec, dtype: CpuBody(spec, dtype, kernels=kernels)


@pytest.mark.slow
def test_without_the_rule_bits_depend_on_drafting(make_hand: Hands, broken: Body) -> None:
    tokens = tokens_for(make_hand(body=broken).model.spec)
    alone = make_hand(body=broken).feed(tokens, [1])
    ways = [([2], 0), ([5], 0), ([16], 0), ([150], 0), ([5], 2)]

    assert any(
        rows_that_differ(alone, make_hand(body=broken).feed(tokens, *way)) > 0 for way in ways
    )


def test_the_self_test_passes_on_this_machine(make_hand: Hands) -> None:
    hand = make_hand()

    assert is_invariant(hand.model, 64)


@pytest.mark.slow
def test_the_self_test_catches_a_broken_rule(make_hand: Hands, broken: Body) -> None:
    hand = make_hand(body=broken)

    assert not is_invariant(hand.model, 64)


def test_a_library_that_was_not_built_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="install the package again"):
        open_kernels(tmp_path / "none.so")


def test_a_library_of_another_source_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "kernels.c"
    other.write_text("/* not what was built */")

    with pytest.raises(ResourceError, match=r"was built from another kernels\.c"):
        open_kernels(source=other)


@pytest.mark.slow
def test_threads_that_share_work_change_no_bit(
    make_hand: Hands, tiny_spec: ModelSpec, tmp_path: Path, build_kernels: Build
) -> None:
    # A library of its own: helpers are started once a process and stay.
    kernels = open_kernels(build_kernels.build(library=tmp_path / "kernels.so"))
    spec = replace(tiny_spec, heads=8, kv_heads=4)
    tokens = tokens_for(spec, 200)
    alone = make_hand(spec).feed(tokens, [64, 5])
    for threads in (2, 5):
        hand = make_hand(spec, body=lambda s, d: CpuBody(s, d, kernels=kernels))
        kernels.threads(threads, 0.0)

        for way in ([64, 5], [1, 33], [200]):
            assert torch.equal(hand.feed(tokens, way), alone), (threads, way)


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
