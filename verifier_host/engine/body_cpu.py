"""The CPU body: compiled kernels over packed weights.

The rules that make a row's bits a function of its own prefix:

R1  An output of a linear is one chain of multiply-adds over its inputs, in order: how many rows go
    through a panel of weights together does not matter (`kernels.c`).
R2  Where a key lies does not matter: every key is read by position (`kernels.c`).
R3  How many rows a step has does not matter: blocks of rows share loads, never sums (`kernels.c`).
R4  What is committed and what is a guess does not matter: softmax has one maximum and one sum over
    all of a row's keys, with lanes by absolute position (`kernels.c`).
R5  All else is row-wise with reductions of one row's size.
R6  One thread count, type and kernel library for a worker's life, hashed in its fingerprint.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2p.errors import ModelError
from verifier_host.engine.body import Linear
from verifier_host.engine.kernels import (
    LEAST_SHARED,
    MAX_GROUP,
    MAX_HEAD_SIZE,
    Kernels,
    PackedLinear,
    Plan,
    layout,
    open_kernels,
    plan_step,
)
from verifier_host.engine.kv import KvMemory
from verifier_host.engine.spec import ModelSpec
from verifier_host.scheduling.rows import Int32, Rows


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
        threads: int = 1,
        kernels: Kernels | None = None,
    ) -> None:
        if spec.head_size > MAX_HEAD_SIZE or spec.group > MAX_GROUP:
            raise ModelError(
                f"heads of {spec.head_size} in groups of {spec.group}: the engine computes up to"
                f" {MAX_HEAD_SIZE} and {MAX_GROUP}"
            )
        self.threads = threads
        self._spec = spec
        self._dtype = dtype
        self._kernels = kernels or open_kernels()
        self._kernels.threads(threads, LEAST_SHARED)
        self._layout = layout(spec, dtype)
        self._frequencies = torch.tensor(spec.frequencies, dtype=torch.float32)
        self._buffers = Buffers()
        self._moved = np.empty(4096, np.int32)
        self.weight_bytes = 0
        self._memory: KvMemory | None = None

    @property
    def kernels(self) -> str:
        return self._kernels.name

    @property
    def digest(self) -> str:
        """Of everything here that may change a bit."""
        parts = [self._kernels.name, self._kernels.digest, self.threads]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        bias = None if bias is None else bias.to(self._dtype)
        linear = PackedLinear(self._kernels, weight.to(self._dtype), bias)
        self.weight_bytes += linear.nbytes
        return linear

    def reserve(self, slots: int) -> None:
        self._memory = KvMemory(self._spec, slots, self._dtype, self._kernels)

    @property
    def memory(self) -> KvMemory:
        assert self._memory is not None, "reserve comes before the first step"
        return self._memory

    def begin(self, rows: Rows) -> CpuStep:
        angle = torch.outer(torch.from_numpy(rows.position).float(), self._frequencies)
        return CpuStep(
            token=torch.from_numpy(rows.token).long(),
            wanted=torch.from_numpy(rows.wants).nonzero().flatten(),
            plan=plan_step(self._kernels, rows, angle.cos(), angle.sin(), self._moved),
            spec=self._spec,
            kernels=self._kernels,
            layout=self._layout,
            memory=self.memory,
            buffers=self._buffers,
        )

    def settle(self, source: Int32, destination: Int32) -> None:
        self.memory.settle(source, destination)
