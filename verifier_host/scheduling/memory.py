"""Who has which tiles: free, held by a session, or cached for the next one that begins alike."""

from dataclasses import dataclass

import numpy as np

from verifier_host.scheduling.prefix import PrefixTree
from verifier_host.scheduling.rows import TILE, Int32
from verifier_host.scheduling.sessions import Session, tiles_for
from verifier_host.scheduling.slots import Tiles, slots_of

_NONE: Int32 = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Copies:
    """Keys and values to copy from slot to slot; all sources are read before any is written."""

    source: Int32
    destination: Int32


NO_COPIES = Copies(_NONE, _NONE)


class Memory:
    """The pool and its prefix tree. Every tile is in exactly one of three places."""

    def __init__(self, slots: int, scratch: int) -> None:
        self._tiles = Tiles(slots, scratch)
        self._prefix = PrefixTree()
        self._own = 0
        self.prefix_queries = 0  # tokens looked up, as vLLM counts
        self.prefix_hits = 0  # tokens found

    @property
    def scratch(self) -> Int32:
        """Slots for rows that have no place of their own in a step."""
        return self._tiles.scratch

    @property
    def total(self) -> int:
        """Tiles that sessions can have."""
        return self._tiles.total

    @property
    def free(self) -> int:
        return self._tiles.free

    @property
    def held(self) -> int:
        return self._own + self._prefix.held

    @property
    def cached(self) -> int:
        return self._prefix.idle

    def admit(self, session: Session) -> Copies | None:
        """Give a session its tiles, from the prefix tree as far as it goes; None = no room now.

        The copies must be made before the next step's rows are computed.
        """
        hit = self._prefix.find(session.start.namespace, session.text)
        self._prefix.hold(hit.shared)
        count = session.tiles_wanted - len(hit.shared)
        after = hit.shared[-1].tile if hit.shared else 0
        # The partial tile may be evicted here and even become one of ours: its columns are read
        # before anything is written.
        taken = self._take(count, after, tiles_for(session.limit) - len(hit.shared))
        if taken is None:
            self._prefix.release(hit.shared)
            return None
        session.shared = list(hit.shared)
        session.tiles = [edge.tile for edge in hit.shared] + taken
        session.slots = slots_of(session.tiles)
        session.cached = hit.length
        self.prefix_queries += len(session.text)
        self.prefix_hits += hit.length
        if hit.partial is None:
            return NO_COPIES
        source = hit.partial.tile * TILE + np.arange(hit.columns, dtype=np.int32)
        first = len(hit.shared) * TILE
        return Copies(source, session.slots[first : first + hit.columns].copy())

    def grow(self, session: Session, positions: int) -> bool:
        """See that a session has tiles for that many positions; False = no tile can be had."""
        count = tiles_for(positions) - len(session.tiles)
        if count <= 0:
            return True
        room = tiles_for(session.limit) - len(session.tiles)
        taken = self._take(count, session.tiles[-1], room)
        if taken is None:
            return False
        session.tiles += taken
        session.slots = np.concatenate((session.slots, slots_of(taken)))
        return True

    def share(self, session: Session) -> None:
        """Let others read the full tiles of a session that goes on."""
        full = session.cached // TILE
        own = session.tiles[len(session.shared) : full]
        if not own:
            return
        path, spare = self._prefix.insert(
            session.start.namespace, session.text, session.shared, own
        )
        self._own -= len(own)
        self._give(spare)
        session.shared = path
        session.tiles[:full] = [edge.tile for edge in path]
        session.slots = slots_of(session.tiles)

    def release(self, session: Session) -> None:
        """Take a session's tiles; those with keys of its text stay cached until room is needed."""
        used = tiles_for(session.cached)
        shared = len(session.shared)
        own, rest = session.tiles[shared : max(used, shared)], session.tiles[max(used, shared) :]
        path = session.shared
        if own:
            text = session.text[: session.cached]
            path, spare = self._prefix.insert(session.start.namespace, text, path, own)
            self._give(spare)
        self._prefix.release(path)
        self._own -= len(own) + len(rest)
        self._give(rest)
        session.shared, session.tiles, session.slots, session.cached = [], [], _NONE, 0

    def check(self, sessions: list[Session]) -> None:
        """Assert that every tile is in one place, and each session's slots in their columns."""
        cached = self._prefix.tiles()
        own = [tile for session in sessions for tile in session.tiles[len(session.shared) :]]
        places = [*self._tiles.free_tiles(), *own, *cached]
        assert len(places) == len(set(places)) == self.total, "a tile is lost or in two places"
        assert self.free + self.held + self.cached == self.total, "the counts of tiles are off"
        for session in sessions:
            shared = [edge.tile for edge in session.shared]
            assert session.tiles[: len(shared)] == shared
            assert set(shared) <= set(cached)
            assert session.slots.tolist() == slots_of(session.tiles).tolist()
            assert session.cached <= min(len(session.text), len(session.slots))

    def _take(self, count: int, after: int, room: int) -> list[int] | None:
        if count > self._tiles.free + self._prefix.idle:
            return None
        while self._tiles.free < count:
            self._tiles.give(self._prefix.evict())
        self._own += count
        return self._tiles.take(count, after, room)

    def _give(self, tiles: list[int]) -> None:
        for tile in tiles:
            self._tiles.give(tile)
