"""Drafts by repetition: what followed the last time these words stood here. No model, no compute.

A node uses it beside its draft model, a host as its own drafter.
"""

from collections import deque
from collections.abc import Sequence

KEY_TOKENS = 3  # shortest match
LONGEST_MATCH = 16
MAX_PROPOSAL = 8
WINDOW = 32  # proposals
LOWEST_HIT_RATE = 0.3  # over WINDOW; below it the text does not repeat itself

Triple = tuple[int, int, int]


class NgramDrafter:
    """Proposes the continuation of one session's text from the text itself, prompt included."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        self._ends: dict[Triple, tuple[int, ...]] = {}  # where a triple ended, the last two times
        self._expected: int | None = None  # first token of the proposal not judged yet
        self._hits: deque[bool] = deque(maxlen=WINDOW)
        self._is_on = True
        self.matched = 0  # tokens of the text's end that the last proposal is founded on
        self.append(tokens)

    @property
    def is_on(self) -> bool:
        """False once too few proposals were right; it stays so for the session."""
        return self._is_on

    def append(self, tokens: Sequence[int]) -> None:
        """Take committed tokens; the last proposal is judged by the first of them."""
        if not self._is_on or not tokens:
            return
        if self._expected is not None:
            self._judge(self._expected == tokens[0])
        text = self._tokens
        for token in tokens:
            # A triple is filed once something follows it, so the text's end never finds itself.
            if len(text) >= KEY_TOKENS:
                key = (text[-3], text[-2], text[-1])
                self._ends[key] = (len(text), *self._ends.get(key, ())[:1])
            text.append(token)

    def propose(self, ahead: Sequence[int] = ()) -> list[int]:
        """Return up to MAX_PROPOSAL tokens that may follow; [] when nothing repeats.

        `ahead` are guesses that are taken to follow it; such a proposal is not judged.
        """
        text = self._tokens
        tail = (*text[-LONGEST_MATCH:], *ahead)[-LONGEST_MATCH:]
        if not self._is_on or len(tail) < KEY_TOKENS:
            return []
        ends = self._ends.get((tail[-3], tail[-2], tail[-1]), ())
        if not ends:
            return []
        self.matched, end = max((self._match(at, tail), at) for at in ends)
        proposal = text[end : end + MAX_PROPOSAL]
        while len(proposal) < MAX_PROPOSAL and not ahead:
            # The match overlaps the text's end: the text goes round in circles, and so do we.
            proposal.append(proposal[len(proposal) - (len(text) - end)])
        if not ahead:
            self._expected = proposal[0]
        return proposal

    def _match(self, end: int, tail: Sequence[int]) -> int:
        """Return how many tokens before `end` equal those at the end of `tail`."""
        length = 0
        while length < min(len(tail), end) and self._tokens[end - 1 - length] == tail[-1 - length]:
            length += 1
        return length

    def _judge(self, hit: bool) -> None:
        self._expected = None
        self._hits.append(hit)
        if len(self._hits) == WINDOW and sum(self._hits) < LOWEST_HIT_RATE * WINDOW:
            self._is_on = False
            self._tokens.clear()
            self._ends.clear()
