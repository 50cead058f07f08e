"""One session as its drafter sees it: the committed text, the guesses below it, the budget.

The guesses are a chain with leaves: a second row costs a CPU nearly a full step, so only the chain
is decoded and the other candidates of a place are sent as they are. No
engine here: logits come in, guesses and tokens to decode come out.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nexusnode.draft.calibration import (
    MODEL,
    NGRAM,
    RANKS,
    Calibration,
    Cell,
    margin_bin,
    score_byte,
)
from nexusnode.draft.engine import Logits
from nexusnode.draft.frontier import CHAIN_FLOOR, LEAF_FLOOR, MAX_DEPTH, RUN_ROWS, run_rows
from nexusnode.draft.messages import Growth, Open
from nexusnode.draft.sampling import NATS, Sampling, rank
from p2p.drafting.ngram import NgramDrafter
from p2p.wire.messages import MAX_GUESSES, MAX_LIVE

CONFIRM_START = 0.8  # chance that the model confirms a repetition's next token, until counted
CONFIRM_SHARE = 1 / 8  # weight of the newest in that average
FLOORS = (CHAIN_FLOOR, LEAF_FLOOR)


class Guess(NamedTuple):
    """A drafted token on its parent; `chance` is p̂, given its parent is right."""

    id: int
    token: int
    chance: float


class Candidate(NamedTuple):
    """A token that may follow, and where its outcome is counted."""

    token: int
    chance: float
    cell: Cell


class Place:
    """A position whose logits were computed: what may follow it, best first; what was guessed."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.guesses: dict[int, Guess] = {}

    @property
    def head(self) -> Guess | None:
        """The guess the chain goes on with; None while it is not made."""
        return self.guesses.get(self.candidates[0].token)


class Session:
    """`places[0]` follows the committed text and `path[i]` leads from `places[i]` to `places[i+1]`.

    There is no place while the text's own last token is still to be decoded; `agreed` then says up
    to which position KV memory holds the text.
    """

    def __init__(self, opened: Open, stream: int, calibration: Calibration) -> None:
        self.number = opened.session
        self.host = opened.host
        self.stream = stream
        self.rows = opened.rows
        self.ahead = opened.ahead
        self.tokens: list[int] = []
        self.places: list[Place] = []
        self.path: list[Guess] = []
        self.is_complete = False
        self.agreed = 0
        self._key = opened.key
        self._sampling = Sampling.of(opened.sampler)
        self._max_new = opened.max_new
        self._end = 0
        self._next_id = opened.next_id
        self._calibration = calibration
        self._ngram = NgramDrafter()
        self._repetition: list[int] = []  # what the text would repeat after the tip's head
        self._confirm = CONFIRM_START

    def feed(self, tokens: Sequence[int], last: bool) -> None:
        """Take the prompt's next part."""
        self.tokens += tokens
        if last:
            self.is_complete = True
            self._end = len(self.tokens) + self._max_new
            self._ngram.append(self.tokens)

    def commit(self, tokens: Sequence[int]) -> int:
        """Move the root along `tokens` and learn from them; return how many were guessed.

        Afterwards either the chain below the new root is whole, or no place is left and the caller
        cuts KV memory to `agreed`.
        """
        hits = 0
        self.agreed = len(self.tokens)
        for token in tokens:
            if not self.places:
                break
            root = self.places[0]
            hits += token in root.guesses
            self._calibration.learn((c.cell, c.token == token) for c in root.candidates)
            if self.path and self.path[0].token == token:
                del self.places[0], self.path[0]
                self.agreed += 1
            else:
                self._forget()
        self.tokens += tokens
        self._ngram.append(tokens)
        self._ngram.propose()  # so that it is judged by the next commit, and leaves when too bad
        return hits

    @property
    def depth(self) -> int:
        """How deep guesses may go below the committed text."""
        return min(self.ahead, MAX_DEPTH, self._end - len(self.tokens)) if self.rows else 0

    @property
    def live(self) -> int:
        """Guesses that the host may still use."""
        return sum(len(place.guesses) for place in self.places)

    @property
    def survival(self) -> float:
        """The chance that the chain's undecoded head is right, or 1 if the text is to decode."""
        survival = 1.0
        for guess in self.path:
            survival *= guess.chance
        head = self.places[-1].head if self.places else None
        return survival * head.chance if head else survival

    def extension(
        self, ends: frozenset[int], context: int, costs: Sequence[float]
    ) -> Sequence[int]:
        """Return the tokens that would grow the chain: its head, and a repetition behind it.

        Empty while the budget, the floor or the text's end forbids more guesses.
        """
        head = self.places[-1].head
        depth = min(self.depth, context - len(self.tokens))
        room = min(self._most_live - self.live, depth - len(self.path) - 1)
        if head is None or head.token in ends or room < 1:
            return ()
        run = self._repetition[: min(room - 1, RUN_ROWS - 1)]
        return [head.token, *run[: run_rows([self._confirm] * len(run), costs) - 1]]

    def begin(self, logits: Logits) -> None:
        """Take [V] the logits after the committed text."""
        self.places = [self._look(logits)]

    def extend(self, tokens: Sequence[int], logits: Logits) -> list[Growth]:
        """Take [N, V] the logits after `tokens`, an extension that was decoded; return new guesses.

        What the model does not confirm of a repetition is not taken: the chain ends before it and
        the caller cuts KV memory to `len(tokens) + len(path)` of the session.
        """
        grown: list[Growth] = []
        for at, (token, row) in enumerate(zip(tokens, logits, strict=True)):
            head = self.places[-1].head
            if at:
                is_confirmed = head is not None and head.token == token
                self._confirm += CONFIRM_SHARE * (is_confirmed - self._confirm)
            if head is None or head.token != token:
                break
            self.path.append(head)
            self.places.append(self._look(row))
            grown += self.grow()
        return grown

    def grow(self) -> list[Growth]:
        """Make the guesses that the budget and the floors allow now, likeliest first; return them.

        Further candidates get at most half of the budget, so that the chain can always go on.
        """
        options: list[tuple[float, bool, int, Place, Candidate]] = []
        live = leaves = 0
        for depth, survival, parent, place in self._walk():
            live += len(place.guesses)
            leaves += len(place.guesses) - (place.head is not None)
            if depth >= self.depth:
                continue
            for at, candidate in enumerate(place.candidates):
                chance = survival * candidate.chance
                if candidate.token not in place.guesses and chance >= FLOORS[at > 0]:
                    options.append((chance, at > 0, parent, place, candidate))
        options.sort(key=lambda option: -option[0])
        made: list[tuple[int, Guess]] = []
        for _, is_leaf, parent, place, candidate in options:
            if live >= self._most_live:
                break
            if is_leaf and leaves >= self.rows:
                continue
            guess = Guess(self._next_id + len(made), candidate.token, candidate.chance)
            place.guesses[candidate.token] = guess
            made.append((parent, guess))
            live += 1
            leaves += is_leaf
        self._next_id += len(made)
        return [
            self._growth(made[start : start + MAX_GUESSES])
            for start in range(0, len(made), MAX_GUESSES)
        ]

    @property
    def _most_live(self) -> int:
        return min(2 * self.rows, MAX_LIVE)

    def _walk(self) -> Iterator[tuple[int, float, int, Place]]:
        """Yield each place with its depth, the survival of its path and its own guess's id."""
        survival, parent = 1.0, 0
        for depth, place in enumerate(self.places):
            yield depth, survival, parent, place
            if depth < len(self.path):
                parent, survival = self.path[depth].id, survival * self.path[depth].chance

    def _growth(self, made: Sequence[tuple[int, Guess]]) -> Growth:
        return Growth(
            session=self.number,
            pos=len(self.tokens),
            first=made[0][1].id,
            parents=tuple(parent for parent, _ in made),
            tokens=tuple(guess.token for _, guess in made),
            scores=bytes(score_byte(guess.chance) for _, guess in made),
        )

    def _look(self, logits: Logits) -> Place:
        """Return the place after the text and the path, with its candidates by p̂."""
        proposal = self._ngram.propose([guess.token for guess in self.path])
        also = proposal[0] if proposal else None
        position = len(self.tokens) + len(self.path)
        ranked, margin = rank(logits, self._sampling, self._key, position, also)
        kinds = [
            (token, place, gap, NGRAM if token == also else MODEL)
            for place, (token, gap) in enumerate(ranked)
        ]
        if also is not None and all(token != also for token, *_ in kinds):
            kinds.append((also, RANKS - 1, NATS if margin is None else margin, NGRAM))
        candidates = []
        for token, place, gap, source in kinds:
            cell = Cell(place, margin_bin(gap), self._sampling.band, source)
            candidates.append(Candidate(token, self._calibration.chance(cell), cell))
        candidates.sort(key=lambda candidate: -candidate.chance)
        self._repetition = proposal[1:] if also == candidates[0].token else []
        return Place(candidates)

    def _forget(self) -> None:
        self.places.clear()
        self.path.clear()
        self._repetition = []
