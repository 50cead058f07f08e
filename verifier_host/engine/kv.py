"""The KV memory of the CPU body: one pool of tiles, a slot being one token's place in all layers.

A tile of a kv head holds its keys transposed, [d, TILE], and its values behind them, [TILE, d], so
that both products of attention run along memory. Which slots are whose is the scheduler's business.
"""

import numpy as np
import torch
from torch import Tensor

from p2p.errors import ResourceError
from verifier_host.engine.kernels import Kernels, layout
from verifier_host.engine.spec import ModelSpec
from verifier_host.scheduling.rows import TILE, Int32

SHARE = 0.5  # of the memory free after the weights, when the operator sets no size (chosen)
HEADROOM = 0.9  # of the free memory, at most, when the operator does
LEAST_TILES = 8  # what the self-test writes to, the dummy tile included


class KvMemory:
    """[layers, tiles, kv_heads, 2, d·TILE]; tile 0 is never written and stays zero."""

    def __init__(self, spec: ModelSpec, slots: int, dtype: torch.dtype, kernels: Kernels) -> None:
        shape = (spec.layers, slots // TILE, spec.kv_heads, 2, spec.head_size * TILE)
        self._pool = torch.zeros(shape, dtype=dtype)  # zero pages: the system hands them out on use
        self._spec = spec
        self._kernels = kernels
        self._layout = layout(spec, dtype)
        self.layers = tuple(layer.data_ptr() for layer in self._pool.unbind(0))

    def keys(self, slots: Int32) -> Tensor:
        """Return a copy of what is in `slots`: [layers, n, kv_heads, 2, d], keys before values."""
        spec, pool = self._spec, self._pool
        at = torch.from_numpy(slots).long()
        found = pool[:, at // TILE]
        shape = (*found.shape[:3], spec.head_size, TILE)
        keys = found[..., 0, :].view(shape).transpose(-1, -2)
        values = found[..., 1, :].view(*shape[:3], TILE, spec.head_size)
        row = torch.arange(len(at))
        return torch.stack([x[:, row, :, at % TILE].transpose(0, 1) for x in (keys, values)], 3)

    def settle(self, source: Int32, destination: Int32) -> None:
        source, destination = (np.ascontiguousarray(x, np.int32) for x in (source, destination))
        spec = self._spec
        held = self._pool.new_empty(len(source), spec.kv_heads, 2 * spec.head_size)
        for layer in self.layers:
            self._kernels.settle(
                self._layout,
                layer,
                len(source),
                source.ctypes.data,
                destination.ctypes.data,
                held.data_ptr(),
            )


def bytes_per_slot(spec: ModelSpec, dtype: torch.dtype) -> int:
    return spec.layers * spec.kv_heads * 2 * spec.head_size * dtype.itemsize


def slots_for(spec: ModelSpec, dtype: torch.dtype, kv_tokens: int, free_bytes: int) -> int:
    """Return how many slots to reserve: `kv_tokens` if they fit; a share of free memory for 0.

    The dummy tile comes on top.

    Raises:
        ResourceError: not even the least number of tiles fits.
    """
    tile = bytes_per_slot(spec, dtype) * TILE
    most = int(free_bytes * HEADROOM) // tile
    if most < LEAST_TILES:
        raise ResourceError(
            f"KV memory: {free_bytes >> 20} MiB are free, {LEAST_TILES * tile >> 20} MiB are the"
            " least; free memory or take a smaller model"
        )
    asked = -(-kv_tokens // TILE) + 1 if kv_tokens else int(free_bytes * SHARE) // tile
    return max(LEAST_TILES, min(asked, most)) * TILE
