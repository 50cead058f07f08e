"""The CPU body: oneDNN-packed linears, and compiled kernels between them.

The rules that make a row's bits a function of its own prefix:

R1  Linears take packed weights and at least 2 rows: one row may take another kernel. How many rows
    of more make a difference depends on library, processor and shape: each shape gets the fastest
    of a few forms that a trial shows to make none.
R2  Where a key lies does not matter: every key is read by position (`kernels.c`).
R3  How many rows a step has does not matter: blocks of rows share loads, never sums (`kernels.c`).
R4  What is committed and what is a guess does not matter: softmax has one maximum and one sum over
    all of a row's keys, with lanes by absolute position (`kernels.c`).
R5  All else is row-wise with reductions of one row's size.
R6  One thread count, type and kernel library for a worker's life, hashed in its fingerprint.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from p2p.errors import ModelError
from verifier_host.engine.body import Linear
from verifier_host.engine.kernels import (
    LEAST_SHARED,
    MAX_GROUP,
    MAX_HEAD_SIZE,
    Kernels,
    Plan,
    layout,
    open_kernels,
    plan_step,
)
from verifier_host.engine.kv import KvMemory
from verifier_host.engine.selftest import is_one_class
from verifier_host.engine.spec import ModelSpec
from verifier_host.scheduling.rows import Int32, Rows

LEAST_LINEAR_ROWS = 2  # one row may take a matrix-vector kernel, another class of bits (R1)
PACKED_FOR = 16  # rows oneDNN is told to expect; a layout for 1 row had two classes of bits
BLOCK = 16
TRIAL_ROWS = 65  # of a form's trial; the self-test tries as many as a step can have


class Linears(Enum):
    """How linears are computed, the fastest first. The self-test decides."""

    PACKED = "onednn"  # each shape in the first of `FORMS` that is invariant
    BLOCKS = "blocks-of-16"  # invariant by construction: every product has 16 rows


@dataclass(slots=True)
class Buffers:
    """Results of the kernels, kept from step to step."""

    held: dict[str, Tensor] = field(default_factory=dict)

    def take(self, name: str, rows: int, width: int) -> Tensor:
        """Return [rows, width] float32 of what `name` had before, or of zeros."""
        found = self.held.get(name)
        if found is None or found.shape[0] < rows or found.shape[1] != width:
            found = self.held[name] = torch.zeros(rows, width)
        return found[:rows]


@dataclass(frozen=True, slots=True)
class CpuStep:
    """One step's rows; see `body.Step`."""

    token: Tensor
    wanted: Tensor
    wanted_count: int
    plan: Plan
    spec: ModelSpec
    kernels: Kernels
    layout: Any
    memory: KvMemory
    buffers: Buffers

    def norm(self, x: Tensor, added: Tensor | None, weight: Tensor) -> Tensor:
        rows, width = x.shape
        out = self.buffers.take("norm", rows, width)
        more = 0 if added is None else added.data_ptr()
        eps = self.spec.norm_eps
        self.kernels.norm(rows, width, x.data_ptr(), more, weight.data_ptr(), eps, out.data_ptr())
        return out

    def attend(self, layer: int, qkv: Tensor, norms: Tensor | None) -> Tensor:
        out = self.buffers.take("attend", len(qkv), self.spec.heads * self.spec.head_size)
        self.kernels.attend(
            self.layout,
            self.plan.step,
            self.memory.layers[layer],
            qkv.data_ptr(),
            0 if norms is None else norms.data_ptr(),
            out.data_ptr(),
        )
        return out

    def swiglu(self, both: Tensor) -> Tensor:
        rows, width = both.shape
        out = self.buffers.take("swiglu", rows, width // 2)
        self.kernels.swiglu(rows, width // 2, both.data_ptr(), out.data_ptr())
        return out


class CpuBody:
    """Owns the KV memory; one per worker. See `body.Body`."""

    def __init__(
        self,
        spec: ModelSpec,
        dtype: torch.dtype,
        linears: Linears = Linears.PACKED,
        least_linear_rows: int = LEAST_LINEAR_ROWS,
        kernels: Kernels | None = None,
    ) -> None:
        if spec.head_size > MAX_HEAD_SIZE or spec.group > MAX_GROUP:
            raise ModelError(
                f"heads of {spec.head_size} in groups of {spec.group}: the engine computes up to"
                f" {MAX_HEAD_SIZE} and {MAX_GROUP}"
            )
        self._spec = spec
        self._dtype = dtype
        self._linears = linears
        self._kernels = kernels or open_kernels()
        self._kernels.threads(torch.get_num_threads(), LEAST_SHARED)
        self._least_linear_rows = least_linear_rows
        self._layout = layout(spec, dtype)
        self._frequencies = torch.tensor(spec.frequencies, dtype=torch.float32)
        # Without the instructions for it (AVX2) oneDNN packs no bf16: products are then in float32.
        self._wide = dtype != torch.float32 and not can_pack(dtype)
        self._buffers = Buffers()
        self._forms: dict[tuple[int, int], str] = {}
        self._moved = np.empty(4096, np.int32)
        self.weight_bytes = 0
        self._memory: KvMemory | None = None

    @property
    def linears(self) -> str:
        forms = "/".join(sorted(set(self._forms.values())))
        parts = [self._linears.value, forms, "fp32" if self._wide else "", self._kernels.name]
        return "+".join(part for part in parts if part)

    @property
    def digest(self) -> str:
        """Of everything here that may change a bit: the kernels, and each shape's form."""
        parts = [self.linears, self._kernels.digest, sorted(self._forms.items())]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        kind = torch.float32 if self._wide else self._dtype
        weight = weight.to(self._dtype).to(kind).contiguous()
        bias = None if bias is None else bias.to(self._dtype).to(kind)
        self.weight_bytes += weight.nbytes
        linear = self._form(weight, bias)
        return linear if kind == torch.float32 else _converting(linear, kind)

    def _form(self, weight: Tensor, bias: Tensor | None) -> Linear:
        if self._linears is Linears.BLOCKS:
            return blocks(F.linear, weight, bias)
        shape = (weight.shape[0], weight.shape[1])
        if shape not in self._forms:
            for form, make in FORMS.items():
                linear = make(weight, bias)
                if form == FALLBACK or is_one_class(
                    linear, weight.shape[1], TRIAL_ROWS, weight.dtype
                ):
                    self._forms[shape] = form
                    return linear
        return FORMS[self._forms[shape]](weight, bias)

    def reserve(self, slots: int) -> None:
        self._memory = KvMemory(self._spec, slots, self._dtype, self._kernels)

    @property
    def memory(self) -> KvMemory:
        assert self._memory is not None, "reserve comes before the first step"
        return self._memory

    def begin(self, rows: Rows) -> CpuStep:
        count = len(rows.token)
        padded = max(count, self._least_linear_rows)
        wanted = torch.from_numpy(rows.wants).nonzero().flatten()
        repeats = max(0, self._least_linear_rows - len(wanted)) if len(wanted) else 0
        angle = torch.outer(torch.from_numpy(rows.position).float(), self._frequencies)
        return CpuStep(
            token=_repeat_first(torch.from_numpy(rows.token).long(), padded - count),
            wanted=_repeat_first(wanted, repeats),
            wanted_count=len(wanted),
            plan=plan_step(self._kernels, rows, angle.cos(), angle.sin(), self._moved),
            spec=self._spec,
            kernels=self._kernels,
            layout=self._layout,
            memory=self.memory,
            buffers=self._buffers,
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


def halves(weight: Tensor, bias: Tensor | None) -> Linear:
    """A packed linear in two parts of its outputs: narrower products may have one class of bits."""
    middle = len(weight) // 2
    biases = (None, None) if bias is None else (bias[:middle], bias[middle:])
    one = packed(weight[:middle].contiguous(), biases[0])
    other = packed(weight[middle:].contiguous(), biases[1])
    return lambda x: torch.cat([one(x), other(x)], 1)


def packed_blocks(weight: Tensor, bias: Tensor | None) -> Linear:
    """A packed linear in blocks of BLOCK rows."""
    linear = packed(weight, bias)
    return blocks(lambda x, weight, bias: linear(x), weight, bias)


def blocks(product: Callable[..., Tensor], weight: Tensor, bias: Tensor | None) -> Linear:
    """A linear in blocks of BLOCK rows, so that no product's row count depends on the step."""

    def linear(x: Tensor) -> Tensor:
        rows = len(x)
        filled = F.pad(x, (0, 0, 0, -rows % BLOCK))
        parts = [product(block, weight, bias) for block in torch.split(filled, BLOCK)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[:rows]

    return linear


FORMS = {"packed": packed, "halves": halves, "blocks": packed_blocks}
FALLBACK = "blocks"


def _converting(linear: Linear, dtype: torch.dtype) -> Linear:
    return lambda x: linear(x.to(dtype)).float()


def _repeat_first(index: Tensor, times: int) -> Tensor:
    return torch.cat([index, index[:1].expand(times)]) if times else index
