"""A session as the engine knows it: its text, what of it is in the KV pool, and when it is over."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from p2p.drafting.tree import Guess, Tree
from verifier_host.messages import HOST, FinishReason, Start
from verifier_host.scheduling.host_drafter import HostDrafter
from verifier_host.scheduling.pacing import FIRST_BUDGET, Arrivals, Pace, Worth
from verifier_host.scheduling.prefix import Edge
from verifier_host.scheduling.rows import TILE, Int32

NO_LOGIT = -2  # `Chosen.tokens` where the model could not say
_ALPHA = (0.7, 0.05, 0.98)  # chance that the drafters hold the next token: first, least, greatest
_BEST = 0.6  # chance that their best candidate is it: first
_MEMORY = 16  # places over which alpha and best are averaged


@dataclass(frozen=True, slots=True)
class Ending:
    """What of a walk becomes text, and why the session is over, if it is."""

    tokens: tuple[int, ...]
    reason: FinishReason | None


class Session:
    """One session. Of its text, positions [0, cached) have keys in the pool.

    Attributes:
        order: sessions rank by it, smaller is older; a preempted session keeps its own.
        limit: tokens of the longest text it may have.
        shared: cached tiles at the front that it only reads.
        tiles: all its tiles, the shared ones first; position p is in tiles[p // TILE].
        slots: [len(tiles) * TILE] the slot of each position.
        cached: positions with keys; a session with exactly one token beyond them can draft.
        alpha: chance of late that some guess held on a place that had guesses.
        best: chance of late that the likeliest guess there held.
        announced: the budget that the front knows of.
        own: the host's drafter for it; None = the host drafts nothing here.
    """

    def __init__(self, start: Start, order: int, vocabulary: int, limit: int, pace: Pace) -> None:
        self.start = start
        self.number = start.session
        self.order = order
        self.limit = limit
        self.tree = Tree((*start.prompt, *start.committed), vocabulary)
        self.shared: list[Edge] = []
        self.tiles: list[int] = []
        self.slots: Int32 = np.empty(0, dtype=np.int32)
        self.cached = 0
        self.counts: dict[int, int] = {}
        self.steps = 0
        self.alpha = _ALPHA[0]
        self.best = _BEST
        self.announced = FIRST_BUDGET
        self.is_fresh = True  # no step since its prompt
        self.admitted_at: float | None = None  # for the first time
        self.arrivals = Arrivals(pace)
        self.worth = Worth()
        self.own: HostDrafter | None = None
        sampling = start.sampling
        self._is_counting = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self._count(start.committed)

    @property
    def text(self) -> list[int]:
        return self.tree.text

    @property
    def generated(self) -> int:
        return len(self.text) - len(self.start.prompt)

    @property
    def pending(self) -> int:
        """Tokens whose rows the next choice needs: 1 = its root alone, more = a prompt."""
        return len(self.text) - self.cached

    @property
    def tiles_wanted(self) -> int:
        """Tiles that its text fills and 64 tokens more, or all it can ever need."""
        return tiles_for(min(len(self.text) + TILE, self.limit))

    def end_of(self, chosen: Sequence[int], end_ids: Collection[int]) -> Ending:
        """Cut what a walk has found at an end-of-text id, at the limit and where no logit was."""
        tokens: list[int] = []
        for token in chosen:
            if token == NO_LOGIT:
                return Ending(tuple(tokens), FinishReason.ERROR)
            if token in end_ids and not self.start.sampling.ignore_eos:
                return Ending(tuple(tokens), FinishReason.STOP)
            tokens.append(token)
            if len(self.text) + len(tokens) >= self.limit:
                return Ending(tuple(tokens), FinishReason.LENGTH)
        return Ending(tuple(tokens), None)

    def record(self, tokens: Sequence[int], now: float) -> None:
        """Note what a step has committed to the tree's text."""
        self._count(tokens)
        self.steps += 1
        self.arrivals.commit(now)

    def record_place(self, was_held: bool, was_best: bool) -> None:
        """Note whether a place of the text that had guesses had the right one, and as its best."""
        self.alpha = _moved(self.alpha, was_held)
        self.best = _moved(self.best, was_best)

    def children(self) -> dict[int, Guess]:
        """Return the guesses of the next token."""
        return self.tree.root.children

    @property
    def has_nodes(self) -> bool:
        return any(drafter != HOST for drafter in self.tree.drafters)

    def _count(self, tokens: Sequence[int]) -> None:
        if self._is_counting:
            for token in tokens:
                self.counts[token] = self.counts.get(token, 0) + 1


def _moved(chance: float, held: bool) -> float:
    _, least, greatest = _ALPHA
    return min(greatest, max(least, chance + (held - chance) / _MEMORY))


def is_hosts_alone(guess: Guess) -> bool:
    """Say whether no node has this guess."""
    return len(guess.names) == 1 and HOST in guess.names


def tiles_for(positions: int) -> int:
    """Return how many tiles hold that many positions."""
    return -(-positions // TILE)
