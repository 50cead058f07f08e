"""The KV pool as tiles of `TILE` slots: which are free, which to hand out.

The model reads a run of tiles as a view and gathers scattered ones, which is 2-4 times slower:
so tiles are handed out in runs, with room behind each for its session to grow into.
"""

import numpy as np

from verifier_host.scheduling.rows import TILE, Int32

_COLUMNS = np.arange(TILE, dtype=np.int32)
PAD_TILES = 1  # tile 0 pads gathers: never written by a row that counts


class Tiles:
    """Free and taken tiles of one pool.

    Attributes:
        total: tiles that sessions can have.
        free: how many of them nobody has.
        scratch: slots of no session, for the rows of one step that have no place of their own.
    """

    def __init__(self, slots: int, scratch: int) -> None:
        """Args:
        slots: of the whole pool.
        scratch: how many scratch slots a step may need.
        """
        tiles = slots // TILE
        first = PAD_TILES + -(-scratch // TILE)
        self.scratch: Int32 = np.arange(PAD_TILES * TILE, first * TILE, dtype=np.int32)
        self.total = max(0, tiles - first)
        self.free = self.total
        self._is_free = np.zeros(max(tiles, first) + 1, dtype=np.bool_)
        self._is_free[first:tiles] = True
        self._cursor = first

    def take(self, count: int, after: int = 0, room: int = 0) -> list[int]:
        """Take `count` ≤ `free` tiles, right behind tile `after` or as a run, if there is one.

        Args:
            after: the last tile of the session, 0 if it has none.
            room: tiles that the session may come to need in all; `count` of them are taken.
        """
        assert count <= self.free, f"{count} tiles asked of {self.free}"
        if after and self._is_free[after + 1 : after + 1 + count].sum() == count:
            taken = np.arange(after + 1, after + 1 + count)
        else:
            start = self._run(max(count, room)) or self._run(count)
            if start:
                taken = np.arange(start, start + count)
                self._cursor = start + max(count, room)
            else:
                taken = np.flatnonzero(self._is_free)[:count]
        self._is_free[taken] = False
        self.free -= count
        found: list[int] = taken.tolist()
        return found

    def give(self, tile: int) -> None:
        """Take a tile back."""
        assert not self._is_free[tile], f"tile {tile} given back twice"
        self._is_free[tile] = True
        self.free += 1

    def free_tiles(self) -> list[int]:
        """Return the free tiles, for checks."""
        found: list[int] = np.flatnonzero(self._is_free).tolist()
        return found

    def _run(self, count: int) -> int:
        """Return where `count` free tiles in a row begin, behind the last run given, else anywhere,
        else 0: sessions that start one after another must not stand in each other's way."""
        edges = np.flatnonzero(np.diff(self._is_free, prepend=False))
        starts, ends = edges[::2], edges[1::2]
        behind = np.maximum(starts, self._cursor)
        for at in (behind, starts):
            fits = np.flatnonzero(ends - at >= count)
            if len(fits):
                return int(at[fits[0]])
        return 0


def slots_of(tiles: list[int]) -> Int32:
    """Return the slots of tiles, column by column."""
    firsts = np.array(tiles, dtype=np.int32) * np.int32(TILE)
    slots: Int32 = np.add.outer(firsts, _COLUMNS).reshape(-1)
    return slots
