"""The CPU body: oneDNN-packed linears and tiled attention; rows never change each other's bits.

Attention computes in float32 whatever the model's type, so that its products have one class of
kernels to prove. The rules that make a row's bits a function of its own prefix:

R1  Linears take packed weights and at least 2 rows: one row may take another kernel.
R2  Key p is always column p % TILE of tile p // TILE, whatever is prefix or guess (`attention.py`).
R3  Query rows of one kv head are padded to 16 (`attention.py`).
R4  The softmax's denominator is a column of ones in V, so no sum depends on a step's width.
R5  All else is row-wise with reductions of one row's size (`model.py`).
R6  One thread count, type and kernel library for a worker's life, hashed in its fingerprint.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from verifier_host.engine.attention import LEAST_ROWS, Layout, Paths, Plan, Shared, plan_step
from verifier_host.engine.body import Linear
from verifier_host.engine.kv import KvMemory
from verifier_host.engine.spec import ModelSpec
from verifier_host.scheduling.rows import Int32, Rows

LEAST_LINEAR_ROWS = 2  # one row may take a matrix-vector kernel, another class of bits (R1)
PACKED_FOR = 16  # rows oneDNN is told to expect; a layout for 1 row had two classes (measured)
BLOCK = 16


class Linears(Enum):
    """How linears are computed, the fastest first. The self-test decides."""

    PACKED = "onednn-packed"
    BLOCKS = "blocks-of-16"  # invariant by construction: every product has 16 rows


@dataclass(frozen=True, slots=True)
class CpuStep:
    """One step's rows; see `body.Step`."""

    token: Tensor
    position: Tensor
    wanted: Tensor
    wanted_count: int
    plan: Plan
    layout: Layout
    memory: KvMemory
    fresh: Tensor  # [R, K, 2·D + 1] a layer's keys and values on their way to memory; ones behind

    def attend(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        layout, plan = self.layout, self.plan
        rows = self.memory.rows(layer)
        self.fresh[..., :-1] = kv[: plan.rows]
        rows.index_copy_(0, plan.write, self.fresh.flatten(0, 1))
        tiles = self.memory.tiles(layer)
        out = attend(q.reshape(-1, layout.head_size), rows, tiles, plan, layout)
        return out.view(-1, layout.heads * layout.head_size).to(self.fresh.dtype)


class CpuBody:
    """Owns the KV memory; one per worker. See `body.Body`."""

    def __init__(
        self,
        spec: ModelSpec,
        dtype: torch.dtype,
        linears: Linears = Linears.PACKED,
        threads: int = 1,
        least_rows: int = LEAST_ROWS,
        least_linear_rows: int = LEAST_LINEAR_ROWS,
    ) -> None:
        self._spec = spec
        self._dtype = dtype
        self._linears = linears
        self.threads = threads
        self._least_linear_rows = least_linear_rows
        self._layout = Layout(spec.heads, spec.kv_heads, spec.head_size, least_rows)
        # Without the instructions for it (AVX2) oneDNN packs no bf16: products are then in float32.
        self._wide = dtype != torch.float32 and not can_pack(dtype)
        self.weight_bytes = 0
        self._memory: KvMemory | None = None

    @property
    def linears(self) -> str:
        return self._linears.value + ("-fp32" if self._wide else "")

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        kind = torch.float32 if self._wide else self._dtype
        weight = weight.to(self._dtype).to(kind).contiguous()
        bias = None if bias is None else bias.to(self._dtype).to(kind)
        self.weight_bytes += weight.nbytes
        make = packed if self._linears is Linears.PACKED else blocks
        linear = make(weight, bias)
        if self._wide:
            linear = _in_float(linear, self._dtype)
        return linear if self.threads == 1 else _in_threads(linear, self.threads)

    def reserve(self, slots: int) -> None:
        self._memory = KvMemory(self._spec, slots, self._dtype)

    @property
    def memory(self) -> KvMemory:
        assert self._memory is not None, "reserve comes before the first step"
        return self._memory

    def begin(self, rows: Rows) -> CpuStep:
        spec = self._spec
        count = len(rows.token)
        padded = max(count, self._least_linear_rows)
        wanted = torch.from_numpy(rows.wants).nonzero().flatten()
        repeats = max(0, self._least_linear_rows - len(wanted)) if len(wanted) else 0
        return CpuStep(
            token=_repeat_first(torch.from_numpy(rows.token).long(), padded - count),
            position=_repeat_first(torch.from_numpy(rows.position).long(), padded - count),
            wanted=_repeat_first(wanted, repeats),
            wanted_count=len(wanted),
            plan=plan_step(rows, self._layout, padded),
            layout=self._layout,
            memory=self.memory,
            fresh=torch.ones(count, spec.kv_heads, 2 * spec.head_size + 1, dtype=self._dtype),
        )

    def settle(self, source: Int32, destination: Int32) -> None:
        self.memory.settle(source, destination)


def can_pack(dtype: torch.dtype) -> bool:
    """Say whether oneDNN has packed linears of this type on this machine."""
    try:
        packed(torch.zeros(BLOCK, BLOCK, dtype=dtype), None)(torch.zeros(2, BLOCK, dtype=dtype))
    except (RuntimeError, AttributeError):
        return False
    return True


def packed(weight: Tensor, bias: Tensor | None) -> Linear:
    """A linear of oneDNN with its weight in oneDNN's own blocked layout.

    Raises:
        RuntimeError: oneDNN has no such kernel on this machine.
    """
    own = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)
    run: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: run(x, own, bias, "none", [], "")


def _in_threads(linear: Linear, threads: int) -> Linear:
    """Run one linear on all threads and leave the process on one.

    Only linears are worth a parallel region: each ends in a barrier that costs a slice of the
    scheduler's time on a busy machine, and a row-wise operation cut in parts anywhere may compute
    the edges of a part with other instructions, so with other bits (R5).
    """

    def run(x: Tensor) -> Tensor:
        torch.set_num_threads(threads)
        try:
            return linear(x)
        finally:
            torch.set_num_threads(1)

    return run


def _in_float(linear: Linear, dtype: torch.dtype) -> Linear:
    return lambda x: linear(x.float()).to(dtype)


def blocks(weight: Tensor, bias: Tensor | None) -> Linear:
    """A linear in blocks of BLOCK rows, so that no product's row count depends on the step."""

    def linear(x: Tensor) -> Tensor:
        rows = len(x)
        filled = F.pad(x, (0, 0, 0, -rows % BLOCK))
        parts = [F.linear(block, weight, bias) for block in torch.split(filled, BLOCK)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[:rows]

    return linear


def attend(q: Tensor, rows: Tensor, tiles: Tensor, plan: Plan, layout: Layout) -> Tensor:
    """Softmax attention of a step's rows over one layer's memory.

    The maximum over all of a row's keys comes first (exact in any order), then exp, then the tiles'
    products are added one after another in position order; a hidden tile adds exactly 0 (R4).

    Args:
        q: [R·H, D] float32, scaled.
        rows, tiles: the layer's memory, both shapes of `KvMemory`.

    Returns:
        [R'·H, D] float32.
    """
    size = layout.head_size
    full = [_score_shared(q, tiles, part, layout) for part in plan.shared]
    tails = [_score_paths(q, rows, part, layout) for part in plan.paths]
    peaks = [scores.amax((1, 4)).view(-1, 1) for scores, _ in tails]
    starts: list[Tensor | None] = [None] * len(tails)
    if full:
        above = [scores.amax((0, 3)).view(-1, 1) for scores, _ in full]
        peaks = [
            torch.maximum(peak, _pick(above, part.shared, -torch.inf))
            for peak, part in zip(peaks, plan.paths, strict=True)
        ]
        sums = [
            _weigh_shared(scores, values, _joined(peaks, part.ends))
            for (scores, values), part in zip(full, plan.shared, strict=True)
        ]
        starts = [_pick(sums, part.shared, 0.0) for part in plan.paths]
    ends = [
        _weigh_paths(scores, values, peak, start)
        for (scores, values), peak, start in zip(tails, peaks, starts, strict=True)
    ]
    out = _joined(ends, plan.back)
    return out[:, :size] / out[:, size:]


def _joined(parts: list[Tensor], index: Tensor | None) -> Tensor:
    """Return rows `index` of all parts joined; None says that one part is to be taken as it is."""
    if index is None:
        return parts[0]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).index_select(0, index)


def _pick(parts: list[Tensor], index: Tensor | None, missing: float) -> Tensor:
    """As `_joined`, where the place behind the last holds `missing`."""
    if index is None:
        return parts[0]
    return _joined([*parts, parts[0].new_full((1, parts[0].shape[1]), missing)], index)


def _score_shared(q: Tensor, tiles: Tensor, part: Shared, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return scores [N, K, M, TILE] and values [N·K, TILE, D + 1]."""
    count, heads, size = part.count, layout.kv_heads, layout.head_size
    found = (
        tiles[part.tiles] if isinstance(part.tiles, slice) else tiles.index_select(0, part.tiles)
    )
    flat = found.flatten(0, 1).float()
    query = q.index_select(0, part.query).view(count * heads, -1, size)
    scores = torch.bmm(query, flat[..., :size].transpose(1, 2))
    return scores.view(count, heads, -1, scores.shape[-1]), flat[..., size:]


def _score_paths(q: Tensor, rows: Tensor, part: Paths, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return scores [G, N, K, M, TILE], hidden ones lowered, and values [G·N·K, TILE, D + 1]."""
    groups, tiles, heads, size = part.groups, part.tiles, layout.kv_heads, layout.head_size
    found = rows.index_select(0, part.keys).float().view(groups * tiles * heads, -1, 2 * size + 1)
    query = q.index_select(0, part.query).view(-1, part.width, size)
    scores = torch.bmm(query, found[..., :size].transpose(1, 2))
    scores = scores.view(groups, tiles, heads, part.width, -1).add_(part.hidden)
    return scores, found[..., size:]


def _weigh_shared(scores: Tensor, values: Tensor, peak: Tensor) -> Tensor:
    """Return Σ exp(score - peak)·(value | 1), [K·M, D + 1]."""
    count, heads, width, tile = scores.shape
    weights = scores.sub_(peak.view(heads, width, 1)).exp_().view(count * heads, width, tile)
    products = torch.bmm(weights, values).view(count, heads * width, -1)
    total = products[0]
    for product in products[1:].unbind(0):
        total = total + product
    return total


def _weigh_paths(scores: Tensor, values: Tensor, peak: Tensor, before: Tensor | None) -> Tensor:
    """As `_weigh_shared`, going on from the sums of the tiles `before`; [G·K·M, D + 1]."""
    groups, tiles, heads, width, tile = scores.shape
    weights = scores.sub_(peak.view(groups, 1, heads, width, 1)).exp_().view(-1, width, tile)
    products = torch.bmm(weights, values).view(groups, tiles, heads * width, -1)
    first, *others = products.unbind(1)
    total = first if before is None else before.view_as(first) + first
    for product in others:
        total = total + product
    return total.reshape(groups * heads * width, -1)


def _repeat_first(index: Tensor, times: int) -> Tensor:
    return torch.cat([index, index[:1].expand(times)]) if times else index
