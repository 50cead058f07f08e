"""What a device must offer the model: packed linears, attention over a step's rows, settled keys.

One instance per worker owns the device. The model above it (`model.py`) never sees slots or
sessions, the scheduler never sees tensors. The CPU's is `body_cpu.py`.
"""

from typing import Protocol

from torch import Tensor

from verifier_host.scheduling.rows import Int32, Rows


class Linear(Protocol):
    """x [R, K] -> [R, N]; the bits of a row do not depend on the other rows (R1)."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


class Step(Protocol):
    """One step's rows on the device. There may be more rows than asked for (R1): `token` says."""

    @property
    def token(self) -> Tensor:
        """[R] ids to embed."""
        ...

    @property
    def position(self) -> Tensor:
        """[R]"""
        ...

    @property
    def wanted(self) -> Tensor:
        """Rows whose logits are needed, in order, perhaps repeated behind `wanted_count`."""
        ...

    @property
    def wanted_count(self) -> int: ...

    def attend(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        """Write each row's key and value to its slot, then attend over its prefix and ancestors.

        Args:
            q:  [R, heads, d] float32, rotated and scaled.
            kv: [R, kv_heads, 2·d], a head's key (rotated) beside its value.

        Returns:
            [R, heads·d] in the model's type.
        """
        ...


class Body(Protocol):
    """Leaf operations of one device; rows of a step never change each other's bits (R1-R5)."""

    @property
    def linears(self) -> str:
        """The class of kernels, for the fingerprint and the operator."""
        ...

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """Take weight [N, K] over into the device's own layout."""
        ...

    def reserve(self, slots: int) -> None:
        """Allocate the KV memory; must precede `begin`. `slots` is a multiple of TILE."""
        ...

    def begin(self, rows: Rows) -> Step: ...

    def settle(self, source: Int32, destination: Int32) -> None:
        """Copy keys and values of `source` slots to `destination` slots, in all layers."""
        ...
