"""One session's tree of guesses at the host, merged over all its drafters.

The same token on the same parent is one guess, whoever sent it. Guesses cross commits on the wire,
so one that repeats committed text is not stale: its id becomes a *name of that place*, and its
descendants still find the root through it (docs/protocol.md, 5.5).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_GUESSES_LIVE = 256  # of one session over all drafters; the surplus is counted and dropped
MAX_LIVE = 256  # ids of one drafter that name a guess, and again ids that name a committed place
MAX_DEPTH = 64  # below the committed text
MAX_DRAFTERS = 64  # of one session
NOBODY = 0  # drafters are numbered from 1


class Name(NamedTuple):
    """One drafter's id for a guess, its score (255·√chance) and the arrival that brought it."""

    id: int
    score: int
    arrival: int


class Guess:
    """One token on its parent, at absolute `position`; `names`: its drafters as they came."""

    __slots__ = ("aliases", "children", "names", "order", "parent", "position", "token")

    def __init__(self, token: int, position: int, parent: "Guess | None", order: int) -> None:
        self.token = token
        self.position = position
        self.parent = parent
        self.order = order
        self.children: dict[int, Guess] = {}
        self.names: dict[int, Name] = {}
        self.aliases: list[tuple[int, int]] = []  # (drafter, id) of a drafter that repeats itself


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the guesses of one block: each is counted once."""

    live: int  # below the root, and new to its drafter
    named: int  # repeats committed text
    stale: int  # its parent is dead, or the text went another way
    surplus: int  # beyond a bound


@dataclass(frozen=True, slots=True)
class Part:
    """One drafter's part of a commit: its id at the new root (0: none), tokens it had in time."""

    drafter: int
    tip: int
    credited: int


class _Drafter:
    __slots__ = ("last", "live", "passed", "pos")

    def __init__(self) -> None:
        self.last = 0
        self.pos = 0
        self.live: dict[int, Guess] = {}
        self.passed: dict[int, int] = {}  # id -> committed position it names


class Tree:
    """The committed text of a session and all guesses below its last token, the root.

    Attributes:
        text: prompt and committed tokens; only `commit` appends.
        root: stands for the last committed token; its children guess position `len(text)`.
        arrivals: blocks added so far; what had arrived when a step's rows were packed is told by
            the number at that moment.
        size: guesses below the root.
    """

    def __init__(self, text: Sequence[int], vocabulary: int) -> None:
        self.text = list(text)
        self.root = Guess(self.text[-1], len(self.text) - 1, None, 0)
        self.arrivals = 0
        self.size = 0
        self._vocabulary = vocabulary
        self._order = 0
        self._drafters: dict[int, _Drafter] = {}

    @property
    def drafters(self) -> Sequence[int]:
        """Who has sent a block and not left."""
        return tuple(self._drafters)

    def guesses(self) -> Iterator[Guess]:
        """Yield every guess below the root, parents before children."""
        frontier = list(self.root.children.values())
        for guess in frontier:
            yield guess
            frontier.extend(guess.children.values())

    def live(self, drafter: int) -> int:
        """Return how many ids of a drafter name a guess."""
        known = self._drafters.get(drafter)
        return len(known.live) if known else 0

    def add(
        self,
        drafter: int,
        pos: int,
        first: int,
        parents: Sequence[int],
        tokens: Sequence[int],
        scores: Sequence[int],
    ) -> Added:
        """Hang a block's guesses, ids `first` …, on their parents; nothing in it is an offence.

        Args:
            pos: absolute position that the tokens with parent 0 guess: the drafter knew the text
                before it, so its names of places before `pos - 1` are forgotten.
        """
        self.arrivals += 1
        known = self._drafters.get(drafter)
        if known is None:
            if len(self._drafters) >= MAX_DRAFTERS:
                return Added(0, 0, 0, len(tokens))
            known = self._drafters[drafter] = _Drafter()
        if pos > known.pos:
            known.pos = pos
            known.passed = {id: at for id, at in known.passed.items() if at >= pos - 1}
        live = named = stale = surplus = 0
        length = len(self.text)
        for id, (above, token, score) in enumerate(
            zip(parents, tokens, scores, strict=True), start=first
        ):
            if id <= known.last or token >= self._vocabulary:
                stale += 1
                continue
            known.last = id
            parent = known.live.get(above)
            if parent is None:
                place = pos - 1 if above == 0 else known.passed.get(above, length)
                if place >= length:
                    stale += 1
                    continue
                if place < length - 1:
                    if self.text[place + 1] == token:
                        named += 1
                        self._pass(known, id, place + 1)
                    else:
                        stale += 1
                    continue
                parent = self.root
            if self._hang(drafter, known, id, parent, token, score):
                live += 1
            else:
                surplus += 1
        return Added(live, named, stale, surplus)

    def commit(self, tokens: Sequence[int], packed: int) -> tuple[list[int], list[Part]]:
        """Move the root past `tokens`; what does not descend from it is forgotten.

        Args:
            packed: `arrivals` when the step's rows were packed: later guesses earn no credit.

        Returns:
            For each token the first drafter that had it in time, else `NOBODY`; and the parts of
            all drafters that have one.
        """
        sources: list[int] = []
        credited: dict[int, int] = {}
        for token in tokens:
            old = self.root
            self.root = self._step_to(token)
            for guess in old.children.values():
                self._prune(guess)
            self.text.append(token)
            self.root.parent = None
            if self.root.names:
                self.size -= 1
            source = NOBODY
            for drafter, name in self.root.names.items():
                known = self._drafters[drafter]
                del known.live[name.id]
                self._pass(known, name.id, self.root.position)
                if name.arrival <= packed:
                    credited[drafter] = credited.get(drafter, 0) + 1
                    source = source or drafter
            for drafter, id in self.root.aliases:
                del self._drafters[drafter].live[id]
                self._pass(self._drafters[drafter], id, self.root.position)
            sources.append(source)
        tips = self.root.names if tokens else {}
        parts = [
            Part(drafter, tips[drafter].id if drafter in tips else 0, credited.get(drafter, 0))
            for drafter in sorted({*credited, *tips})
        ]
        return sources, parts

    def leave(self, drafter: int) -> None:
        """Forget a drafter's guesses and names; guesses that only it had go too."""
        known = self._drafters.pop(drafter, None)
        if known is None:
            return
        for guess in {id(guess): guess for guess in known.live.values()}.values():
            del guess.names[drafter]
            guess.aliases = [alias for alias in guess.aliases if alias[0] != drafter]
            # Who has a guess has its parent too, so what nobody has is a whole subtree.
            if not guess.names and guess.parent is not None:
                guess.parent.children.pop(guess.token, None)
                self.size -= 1
        self.root.names.pop(drafter, None)

    def _step_to(self, token: int) -> Guess:
        """Take the guess that came true out of the root's children; a bare one if none did."""
        if token in self.root.children:
            return self.root.children.pop(token)
        return Guess(token, len(self.text), None, 0)

    def _hang(
        self, drafter: int, known: _Drafter, id: int, parent: Guess, token: int, score: int
    ) -> bool:
        if len(known.live) >= MAX_LIVE:
            return False
        guess = parent.children.get(token)
        if guess is None:
            if self.size >= MAX_GUESSES_LIVE or parent.position + 1 - len(self.text) >= MAX_DEPTH:
                return False
            self._order += 1
            self.size += 1
            guess = Guess(token, parent.position + 1, parent, self._order)
            parent.children[token] = guess
        if drafter in guess.names:
            guess.aliases.append((drafter, id))
        else:
            guess.names[drafter] = Name(id, score, self.arrivals)
        known.live[id] = guess
        return True

    def _prune(self, top: Guess) -> None:
        dead = [top]
        for guess in dead:
            dead.extend(guess.children.values())
            guess.parent = None  # no cycle is left for the garbage collector to find
            for drafter, name in guess.names.items():
                del self._drafters[drafter].live[name.id]
            for drafter, id in guess.aliases:
                del self._drafters[drafter].live[id]
        self.size -= len(dead)

    def _pass(self, known: _Drafter, id: int, place: int) -> None:
        known.passed[id] = place
        if len(known.passed) > MAX_LIVE:
            del known.passed[min(known.passed, key=known.passed.__getitem__)]
