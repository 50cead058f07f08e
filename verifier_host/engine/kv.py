"""The KV memory of the CPU body: one pool of tiles, a slot being one token's place in all layers.

A row of the pool holds a head's key, its value and a one: the ones are the column of V that yields
softmax's denominator from the same product (R4). Which slots are whose is the scheduler's business.
"""

import torch
from torch import Tensor

from p2p.errors import ResourceError
from verifier_host.engine.spec import ModelSpec
from verifier_host.scheduling.rows import TILE, Int32

SHARE = 0.5  # of the memory free after the weights, when the operator sets no size (chosen)
HEADROOM = 0.9  # of the free memory, at most, when the operator does
LEAST_TILES = 8  # what the self-test writes to, the dummy tile included


class KvMemory:
    """[layers, tiles, kv_heads, TILE, 2·d + 1]; tile 0 is never written and stays zero."""

    def __init__(self, spec: ModelSpec, slots: int, dtype: torch.dtype) -> None:
        shape = (spec.layers, slots // TILE, spec.kv_heads, TILE, 2 * spec.head_size + 1)
        self._pool = torch.zeros(shape, dtype=dtype)  # zero pages: the system hands them out on use
        self._tiles = self._pool.unbind(0)
        self._rows = self._pool.view(spec.layers, -1, shape[-1]).unbind(0)

    def tiles(self, layer: int) -> Tensor:
        """Return [tiles, kv_heads, TILE, 2·d + 1], a view."""
        return self._tiles[layer]

    def rows(self, layer: int) -> Tensor:
        """Return [tiles·kv_heads·TILE, 2·d + 1], a view; `row_index` says which row is whose."""
        return self._rows[layer]

    def settle(self, source: Int32, destination: Int32) -> None:
        found, put = torch.from_numpy(source).long(), torch.from_numpy(destination).long()
        rows = self._pool[:, found // TILE, :, found % TILE]
        self._pool[:, put // TILE, :, put % TILE] = rows


def bytes_per_slot(spec: ModelSpec, dtype: torch.dtype) -> int:
    return spec.layers * spec.kv_heads * (2 * spec.head_size + 1) * dtype.itemsize


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
