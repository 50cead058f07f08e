"""Keys and values that outlive their session, found again by the tokens that made them.

A trie whose edges are tiles: each owns one tile and the ≤ `TILE` tokens in it. Position p has
column p % TILE in whatever tile, so texts that part inside a tile have a tile each, the second with
a copy of the common columns; no edge is ever split.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from verifier_host.scheduling.rows import TILE


class Edge:
    """One cached tile. `holders` sessions read it now; it goes only when there are none."""

    __slots__ = ("children", "holders", "parent", "tile", "tokens")

    def __init__(self, tokens: tuple[int, ...], tile: int, parent: "Edge | None") -> None:
        self.tokens = tokens
        self.tile = tile
        self.parent = parent
        self.children: dict[tuple[int, ...], Edge] = {}
        self.holders = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """The longest cached prefix: whole tiles to share, then `columns` of `partial` to copy."""

    shared: tuple[Edge, ...]
    partial: Edge | None
    columns: int

    @property
    def length(self) -> int:
        """Tokens whose keys need not be computed."""
        return len(self.shared) * TILE + self.columns


class PrefixTree:
    """All cached tiles. Tiles that leave it are returned, never freed here."""

    def __init__(self) -> None:
        self._roots: dict[bytes, Edge] = {}
        # Oldest use first. An edge stands before its parent, so the first is always a leaf.
        self._idle: OrderedDict[Edge, None] = OrderedDict()
        self._size = 0

    @property
    def idle(self) -> int:
        """Tiles that `evict` could free, sooner or later."""
        return len(self._idle)

    @property
    def held(self) -> int:
        """Tiles that sessions share."""
        return self._size - len(self._idle)

    def find(self, namespace: bytes, tokens: Sequence[int]) -> Hit:
        """Return the longest prefix of all but the last token: one row must be computed."""
        edge = self._roots.get(namespace)
        shared: list[Edge] = []
        limit = len(tokens) - 1
        while edge is not None and (at := (len(shared) + 1) * TILE) <= limit:
            child = edge.children.get(tuple(tokens[at - TILE : at]))
            if child is None:
                break
            shared.append(child)
            edge = child
        best, columns = None, 0
        if edge is not None:
            at = len(shared) * TILE
            rest = tokens[at : min(limit, at + TILE)]
            for child in edge.children.values():
                common = _common(child.tokens, rest)
                if common > columns:
                    best, columns = child, common
        return Hit(tuple(shared), best, columns)

    def hold(self, edges: Sequence[Edge]) -> None:
        """Keep edges, a path from the root, until they are released."""
        for edge in edges:
            edge.holders += 1
            self._idle.pop(edge, None)

    def release(self, edges: Sequence[Edge]) -> None:
        """End a hold."""
        for edge in reversed(edges):
            edge.holders -= 1
            if not edge.holders:
                self._idle[edge] = None

    def insert(
        self, namespace: bytes, tokens: Sequence[int], shared: Sequence[Edge], tiles: Sequence[int]
    ) -> tuple[list[Edge], list[int]]:
        """Take over a session's tiles of `tokens`, those behind the tiles it shares.

        Returns:
            The path of edges that holds the text now, held once more by the caller for those behind
            `shared`; and the tiles that are of no use, as an equal one was here before or they are
            part of a longer one.
        """
        edge = shared[-1] if shared else self._roots.setdefault(namespace, _root())
        path, spare = list(shared), []
        for tile in tiles:
            at = len(path) * TILE
            key = tuple(tokens[at : at + TILE])
            child = edge.children.get(key)
            if child is not None or self._covered(edge, key):
                spare.append(tile)
                if child is None:
                    break
            else:
                spare.extend(self._drop_parts(edge, key))
                child = edge.children[key] = Edge(key, tile, edge)
                self._size += 1
            self.hold([child])
            path.append(child)
            edge = child
        return path, spare

    def evict(self) -> int:
        """Remove the tile that nobody has used for longest and return it; only if `idle`."""
        edge, _ = self._idle.popitem(last=False)
        self._remove(edge)
        return edge.tile

    def tiles(self) -> list[int]:
        """Return every cached tile, for checks."""
        found: list[int] = []
        frontier = [child for root in self._roots.values() for child in root.children.values()]
        for edge in frontier:
            found.append(edge.tile)
            frontier.extend(edge.children.values())
        return found

    def _remove(self, edge: Edge) -> None:
        assert edge.parent is not None
        del edge.parent.children[edge.tokens]
        self._size -= 1
        if edge.parent.parent is None and not edge.parent.children:
            self._roots = {name: root for name, root in self._roots.items() if root.children}

    def _drop_parts(self, edge: Edge, key: tuple[int, ...]) -> list[int]:
        """Remove idle tiles that hold only a beginning of `key`."""
        parts = [
            child
            for child in edge.children.values()
            if not child.holders
            and len(child.tokens) < len(key)
            and child.tokens == key[: len(child.tokens)]
        ]
        for child in parts:
            del self._idle[child]
            del edge.children[child.tokens]
            self._size -= 1
        return [child.tile for child in parts]

    def _covered(self, edge: Edge, key: tuple[int, ...]) -> bool:
        return len(key) < TILE and any(
            child.tokens[: len(key)] == key for child in edge.children.values()
        )


def _root() -> Edge:
    return Edge((), 0, None)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of the common beginning."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
