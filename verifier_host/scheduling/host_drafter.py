"""The host's own drafter of one session: what its text says of its own continuation.

It needs no node and shows nobody anything. Its guesses hang in the session's tree like a node's,
under the number `HOST`, and get rows as they are worth them.
"""

from p2p.drafting.ngram import NgramDrafter
from p2p.drafting.tree import Tree
from verifier_host.messages import HOST

MOST_READ = 1024  # tokens taken up at once: a long prompt must not keep a step waiting
# Score of a proposal founded on a match of so many tokens; calibration soon knows better.
_SCORES = tuple(((9 + min(5, max(0, matched - 3) // 2)) << 4) + 8 for matched in range(17))


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
        score = _SCORES[self._ngram.matched]
        tree.add(HOST, len(tree.text), first, parents, tokens, [score] * count)
