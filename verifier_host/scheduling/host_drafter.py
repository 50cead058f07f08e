"""The host's own drafter of one session: what its text says of its own continuation.

It needs no node and shows nobody anything. Its guesses hang in the session's tree like a node's,
under the number `HOST`, and get rows as they are worth them.
"""

from p2p.drafting.ngram import KEY_TOKENS, NgramDrafter
from p2p.drafting.tree import Tree
from verifier_host.messages import HOST

MOST_READ = 1024  # tokens taken up at once: a long prompt must not keep a step waiting
# Score of a token behind a match of so many, from KEY_TOKENS on. Such tokens held 50 % of the time,
# 74 %, 73-90 % and 86-100 % (13 texts of the bundled target, greedy, half of them documents); these
# are the bins of `survival.py` next to that, and calibration goes on from there.
_SCORES = tuple((bin << 4) + 8 for bin in (11, 13, *(14,) * 7, *(15,) * 5))


class HostDrafter:
    """Reads a session's text along and hangs proposals in its tree, until too few come true."""

    def __init__(self) -> None:
        self._ngram = NgramDrafter()
        self._read = 0  # tokens of the text
        self._last = 0  # id of a guess

    def draft(self, tree: Tree) -> None:
        """Take up what is new in the text; propose what may follow once all of it is read."""
        if not self._ngram.is_on:
            return
        text = tree.text
        read = min(len(text), self._read + MOST_READ)
        self._ngram.append(text[self._read : read])
        self._read = read
        if not self._ngram.is_on:
            tree.leave(HOST)
        elif read == len(text):
            self._hang(tree, self._ngram.propose())

    def _hang(self, tree: Tree, proposal: list[int]) -> None:
        """Add what of a chain is not in the tree under our name already."""
        above, guess, depth = 0, tree.root, 0
        for token in proposal:
            child = guess.children.get(token)
            if child is None or HOST not in child.names:
                break
            above, guess = child.names[HOST].id, child
            depth += 1
        tokens = proposal[depth:]
        if not tokens:
            return
        first, count = self._last + 1, len(tokens)
        self._last += count
        parents = [above, *range(first, first + count - 1)]
        # Where a guess holds, the match behind it is a token longer.
        founded = self._ngram.matched - KEY_TOKENS + depth
        scores = [_SCORES[min(founded + at, len(_SCORES) - 1)] for at in range(count)]
        tree.add(HOST, len(tree.text), first, parents, tokens, scores)
