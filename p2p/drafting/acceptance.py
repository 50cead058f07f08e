"""The one place where acceptance is decided: walking a tree of guesses along the target's words.

Why this cannot change a token: docs/protocol.md, 4. The rows may be anything, from anyone.
"""

from collections.abc import Sequence


def accept(parents: Sequence[int], tokens: Sequence[int], chosen: Sequence[int]) -> list[int]:
    """Return the path of rows that say what the target says, root first.

    What the target chooses after a row does not depend on any draft, so a row is right
    exactly when its token equals what was chosen at its parent (docs/protocol.md, 4).

    Args:
        parents: [R] each row's parent, always an earlier row; the root's is -1.
        tokens:  [R] token id of each row; no two children of a row share a token.
        chosen:  [R] the target's coupled token after each row, below 0 where there is none;
            chosen[path[-1]] is committed last.
    """
    path = [0]
    for row in range(1, len(tokens)):
        if parents[row] == path[-1] and tokens[row] == chosen[path[-1]]:
            path.append(row)
    return path
