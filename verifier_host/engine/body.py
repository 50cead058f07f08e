"""What a device must offer the model: packed linears, and all that happens between them.

One instance per worker owns the device. The model above it (`model.py`) never sees slots or
sessions, the scheduler never sees tensors. The CPU's is `body_cpu.py`. Activations are float32
between the operations, whatever the weights are.
"""

from typing import Protocol

from torch import Tensor

from verifier_host.scheduling.rows import Int32, Rows


class Linear(Protocol):
    """x [R, K] -> [R, N], float32; the bits of a row do not depend on the other rows (R1)."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


class Step(Protocol):
    """One step's rows on the device.

    What an operation returns may be overwritten by the next call of the same one.
    """

    @property
    def token(self) -> Tensor:
        """[R] ids to embed."""
        ...

    @property
    def wanted(self) -> Tensor:
        """Rows whose logits are needed, in order."""
        ...

    def norm(self, x: Tensor, added: Tensor | None, weight: Tensor) -> Tensor:
        """Add `added` to x [R, hidden] in place, and return the RMS norm of x."""
        ...

    def attend(self, layer: int, qkv: Tensor, norms: Tensor | None) -> Tensor:
        """Write each row's key and value to its slot, then attend over its prefix and ancestors.

        Args:
            qkv: [R, (heads + 2·kv_heads)·d], the query heads, then key and value of each kv head;
                overwritten. Rotated pairs lie side by side.
            norms: [heads + kv_heads, d] weights of Qwen3's norms of query and key heads.

        Returns:
            [R, heads·d].
        """
        ...

    def swiglu(self, both: Tensor) -> Tensor:
        """Return silu(gate)·up [R, I] of both halves [R, 2·I]."""
        ...


class Body(Protocol):
    """Leaf operations of one device; rows of a step never change each other's bits (R1-R5)."""

    @property
    def kernels(self) -> str:
        """Which kernels, for the operator."""
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
