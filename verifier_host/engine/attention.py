"""Which keys each row of a step reads, laid out once per step: each layer is then a few big ops.

Rules R2 and R3 of `body_cpu.py` live here. A tree is computed as its root-to-leaf paths. Key p is
always column p % TILE of tile p // TILE of its path, whatever is prefix or guess; what a row may
not see is hidden, not left out. Query rows of one kv head are padded to at least `LEAST_ROWS`.

Letters: `R` rows, `H` heads, `K` kv heads, `D` head size, `G` paths, `N` tiles, `M` query rows of
one kv head (rows · heads per kv head). Index arrays address flattened tensors.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from verifier_host.scheduling.rows import TILE, Int32, Rows, SessionRows

Index = npt.NDArray[np.int64]
LEAST_ROWS = 16  # fp32 bmm has other bit classes below 6 rows (measured; R3); 16 is one block
SHORT = 8  # full tiles × paths up to which gathering them with the tail beats a pass of their own
HIDDEN = -np.inf  # of a score, exactly 0 after exp; MKL takes -1e30 three times as long


@dataclass(frozen=True, slots=True)
class Shared:
    """The full tiles of one session, which all its rows see whole.

    Attributes:
        tiles: the tiles as a run, or their numbers where they are scattered.
        query: [N·K·M] rows of q [R·H, D], the same for every tile.
        ends:  [K·M] where each query row lies in the concatenated results of all `Paths`; None when
            that is the identity.
    """

    tiles: slice | Tensor
    count: int
    query: Tensor
    ends: Tensor | None


@dataclass(frozen=True, slots=True)
class Paths:
    """Root-to-leaf paths of about the same number of rows, over all sessions of the step.

    Attributes:
        query:  [G·N·K·M] rows of q, the same for every tile of a path.
        keys:   [G·N·K·TILE] rows of the layer's memory.
        hidden: [G, N, 1, M, TILE] 0, or HIDDEN where the key comes after the row.
        shared: [G·K·M] where each query row lies in the concatenated results of all `Shared`, the
            last place being that of rows without any; None when it is the identity.
    """

    groups: int
    tiles: int
    width: int
    query: Tensor
    keys: Tensor
    hidden: Tensor
    shared: Tensor | None


@dataclass(frozen=True, slots=True)
class Plan:
    """`write` [R·K]: rows of memory that take the step's keys; `back` [R'·H]: results by row."""

    rows: int
    write: Tensor
    shared: tuple[Shared, ...]
    paths: tuple[Paths, ...]
    back: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Head counts of the model; `least_rows` is R3's padding."""

    heads: int
    kv_heads: int
    head_size: int
    least_rows: int = LEAST_ROWS

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    def query(self, rows: Index) -> Index:
        """[…, n] rows -> […, K, n·group]: where their heads lie in [R·H], grouped by kv head."""
        head = np.arange(self.heads).reshape(self.kv_heads, 1, self.group)
        spread = rows[..., None, :, None] * self.heads + head
        return spread.reshape(*rows.shape[:-1], self.kv_heads, rows.shape[-1] * self.group)

    def memory(self, slots: Index) -> Index:
        """[…, n·TILE or n] slots -> […, K, n]: rows of [tiles·K·TILE]."""
        head = np.arange(self.kv_heads)[:, None] * TILE
        base = (slots // TILE) * (self.kv_heads * TILE) + slots % TILE
        return base[..., None, :] + head


@dataclass(frozen=True, slots=True)
class Path:
    """A root-to-leaf path: `rows` along it, `mine` those computed with it, `session` by index."""

    session: int
    rows: Index
    mine: Index


def leaf_paths(session: int, start: int, parents: Int32) -> list[Path]:
    """Cover a session's rows by root-to-leaf paths, the deepest first; each row is computed in one.

    Args:
        start: the session's first row.
        parents: [n] by row of the step, or -1.
    """
    count = len(parents)
    every = np.arange(start, start + count)
    if np.array_equal(parents[1:], every[:-1]):
        return [Path(session, every, every)]
    trails: list[list[int]] = []
    for offset, parent in enumerate(parents.tolist()):
        above = trails[parent - start] if parent >= 0 else []
        trails.append([*above, start + offset])
    inner = set(parents.tolist())
    leaves = [trail for trail in trails if trail[-1] not in inner]
    taken: set[int] = set()
    paths = []
    for trail in sorted(leaves, key=len, reverse=True):
        mine = [row for row in trail if row not in taken]
        taken.update(mine)
        paths.append(Path(session, np.array(trail), np.array(mine)))
    return paths


def plan_step(rows: Rows, layout: Layout, padded_rows: int) -> Plan:
    """Lay out attention for one step.

    Args:
        padded_rows: how many rows the linears compute (R1); those past the step's repeat the first.
    """
    planner = _Planner(rows, layout)
    shared, paths = planner.finish()
    back = planner.place
    if padded_rows > len(rows.token):
        back = np.concatenate([back, back[: padded_rows - len(rows.token)]])
    write = layout.memory(rows.slot.astype(np.int64)[:, None]).reshape(-1)
    return Plan(len(rows.token), _tensor(write), shared, paths, _tensor(back))


class _Planner:
    """Builds one plan: first where every result will lie, then the index arrays between them."""

    def __init__(self, rows: Rows, layout: Layout) -> None:
        self._rows = rows
        self._layout = layout
        self.place: Index = np.zeros((len(rows.token), layout.heads), np.int64)
        paths = [
            path
            for index, session in enumerate(rows.sessions)
            for path in leaf_paths(index, session.start, rows.parent[session.start : session.stop])
        ]
        counts = np.bincount([path.session for path in paths], minlength=len(rows.sessions))
        self._apart = [
            tiles if (tiles := len(session.prefix) // TILE) * int(counts[index]) > SHORT else 0
            for index, session in enumerate(rows.sessions)
        ]
        self._buckets: dict[int, list[Path]] = {}
        for path in paths:
            self._buckets.setdefault(self._padded(len(path.mine)), []).append(path)
        self._single = len(paths) == len(rows.sessions) == 1

    def finish(self) -> tuple[tuple[Shared, ...], tuple[Paths, ...]]:
        queries, offset = [], 0
        for width, bucket in self._buckets.items():
            queries.append(self._place_bucket(bucket, width, offset))
            offset += queries[-1].size
        elsewhere = self._shared_queries(queries)
        at: Index = np.full(self.place.shape, sum(q.size for q in elsewhere.values()), np.int64)
        offset = 0
        for query in elsewhere.values():
            at.reshape(-1)[query.reshape(-1)[::-1]] = np.arange(offset, offset + query.size)[::-1]
            offset += query.size
        paths = tuple(
            self._paths(bucket, query, at if elsewhere else None)
            for bucket, query in zip(self._buckets.values(), queries, strict=True)
        )
        shared = tuple(self._shared(index, query) for index, query in elsewhere.items())
        return shared, paths

    def _padded(self, count: int) -> int:
        """Rows a path of `count` rows is padded to: doubling, so that a step has few widths."""
        width = -(-self._layout.least_rows // self._layout.group)
        while width < count:
            width *= 2
        return width

    def _place_bucket(self, bucket: list[Path], width: int, offset: int) -> Index:
        """Return the bucket's query [G, K, M] and note where each row's results will lie."""
        layout = self._layout
        mine: Index = np.stack([_padded(path.mine, width) for path in bucket])
        query = layout.query(mine)
        # Padding repeats a path's first row: writing backwards, the row's own place wins.
        last_first = np.arange(offset, offset + query.size)[::-1]
        self.place.reshape(-1)[query.reshape(-1)[::-1]] = last_first
        return query

    def _shared_queries(self, queries: list[Index]) -> dict[int, Index]:
        if self._single and self._apart[0]:
            return {0: queries[0]}
        least = -(-self._layout.least_rows // self._layout.group)
        return {
            index: self._layout.query(_padded(np.arange(s.start, s.stop), least))
            for index, s in enumerate(self._rows.sessions)
            if self._apart[index]
        }

    def _shared(self, index: int, query: Index) -> Shared:
        slots = self._rows.sessions[index].prefix
        tiles = slots[: self._apart[index] * TILE : TILE] // TILE
        run = np.array_equal(tiles, np.arange(tiles[0], tiles[0] + len(tiles)))
        first = int(tiles[0])
        return Shared(
            tiles=slice(first, first + len(tiles)) if run else _tensor(tiles.astype(np.int64)),
            count=len(tiles),
            query=_tensor(np.tile(query.reshape(-1), len(tiles))),
            ends=None if self._single else _tensor(self.place.reshape(-1)[query]),
        )

    def _paths(self, bucket: list[Path], query: Index, at: Index | None) -> Paths:
        layout, position = self._layout, self._rows.position
        width = query.shape[2] // layout.group
        base = [self._apart[path.session] * TILE for path in bucket]
        ends = [int(position[path.rows[-1]]) - b for path, b in zip(bucket, base, strict=True)]
        tiles = max(ends) // TILE + 1
        slots: Index = np.zeros((len(bucket), tiles * TILE), np.int64)  # slot 0: the finite dummy
        limit: Index = np.empty((len(bucket), width), np.int64)
        for g, (path, start) in enumerate(zip(bucket, base, strict=True)):
            self._fill(slots[g], self._rows.sessions[path.session], path, start)
            limit[g] = position[_padded(path.mine, width)] - start
        hide = np.arange(tiles * TILE) > limit[..., None]
        hidden = np.where(hide, np.float32(HIDDEN), np.float32(0)).reshape(
            len(bucket), width, tiles, TILE
        )
        spread = np.repeat(hidden.transpose(0, 2, 1, 3), layout.group, axis=2)
        plain = at is None or self._single
        return Paths(
            groups=len(bucket),
            tiles=tiles,
            width=query.shape[2],
            query=_tensor(np.repeat(query[:, None], tiles, 1)),
            keys=_tensor(layout.memory(slots.reshape(len(bucket), tiles, TILE))),
            hidden=torch.from_numpy(spread).unsqueeze(2),
            shared=None if plain or at is None else _tensor(at.reshape(-1)[query]),
        )

    def _fill(self, slots: Index, session: SessionRows, path: Path, base: int) -> None:
        slots[: len(session.prefix) - base] = session.prefix[base:]
        slots[self._rows.position[path.rows] - base] = self._rows.slot[path.rows]


def _padded(rows: Index, width: int) -> Index:
    """`rows` and its first as often as `width` asks for; longer ones stay as they are."""
    if len(rows) >= width:
        return rows
    return np.concatenate([rows, np.full(width - len(rows), rows[0])])


def _tensor(index: Index) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(index.reshape(-1)))
