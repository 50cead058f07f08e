"""The merged tree against one that remembers everything and works it out anew each time."""

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.drafting.tree import (
    MAX_DEPTH,
    MAX_DRAFTERS,
    MAX_GUESSES_LIVE,
    MAX_LIVE,
    NOBODY,
    Added,
    Guess,
    Part,
    Tree,
)

PROMPT = [7, 8, 9]
VOCABULARY = 100


def tree_of(*text: int) -> Tree:
    return Tree(text or PROMPT, VOCABULARY)


def paths(tree: Tree) -> dict[tuple[int, ...], dict[int, int]]:
    """{tokens below the root: {drafter: id}}."""
    found: dict[tuple[int, ...], dict[int, int]] = {}
    for guess in tree.guesses():
        tokens: list[int] = []
        at: Guess | None = guess
        while at is not None and at is not tree.root:
            tokens.insert(0, at.token)
            at = at.parent
        found[tuple(tokens)] = {drafter: name.id for drafter, name in guess.names.items()}
    return found


def test_the_same_token_on_the_same_parent_is_one_node_with_two_drafters() -> None:
    tree = tree_of()

    tree.add(1, 3, 1, [0, 1], [10, 11], [200, 100])
    added = tree.add(2, 3, 1, [0, 1], [10, 12], [50, 50])

    assert added == Added(live=2, named=0, stale=0, surplus=0)
    assert paths(tree) == {(10,): {1: 1, 2: 1}, (10, 11): {1: 2}, (10, 12): {2: 2}}
    assert tree.size == 3


def test_a_commit_keeps_the_subtree_of_what_came_true() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0, 1, 0, 3], [10, 11, 20, 21], [9] * 4)

    tree.commit([10], tree.arrivals)

    assert paths(tree) == {(11,): {1: 2}}
    assert tree.text == [7, 8, 9, 10]
    assert tree.live(1) == 1
    assert tree.live(2) == 0


def test_a_guess_that_repeats_committed_text_names_the_place() -> None:
    tree = tree_of()
    tree.commit([10, 11], tree.arrivals)

    added = tree.add(1, 3, 1, [0, 1, 2, 3], [10, 11, 12, 13], [9] * 4)

    assert added == Added(live=2, named=2, stale=0, surplus=0)
    assert paths(tree) == {(12,): {1: 3}, (12, 13): {1: 4}}


def test_a_guess_that_went_another_way_than_the_text_is_stale_with_all_below() -> None:
    tree = tree_of()
    tree.commit([10, 11], tree.arrivals)

    added = tree.add(1, 3, 1, [0, 1, 2], [10, 99, 12], [9] * 3)

    assert added == Added(live=0, named=1, stale=2, surplus=0)


def test_a_name_of_a_place_outlives_the_commit_of_its_guess() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0], [10], [9])
    tree.commit([10, 11], tree.arrivals)

    added = tree.add(1, 3, 2, [1, 2], [11, 12], [9, 9])

    assert added == Added(live=1, named=1, stale=0, surplus=0)
    assert paths(tree) == {(12,): {1: 3}}


def test_names_before_what_the_drafter_knows_are_forgotten() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0, 1], [10, 11], [9, 9])
    tree.commit([10, 11], tree.arrivals)

    kept = tree.add(1, 5, 3, [2], [12], [9])  # id 2 stands at 4 = pos - 1: the node's root
    gone = tree.add(1, 5, 4, [1], [11], [9])  # id 1 stands at 3

    assert kept.live == 1
    assert gone.stale == 1


def test_a_second_id_of_one_drafter_for_one_node_is_an_alias() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0, 0], [10, 10], [9, 9])
    tree.add(1, 3, 3, [2], [11], [9])
    assert paths(tree) == {(10,): {1: 1}, (10, 11): {1: 3}}

    tree.commit([10], tree.arrivals)
    added = tree.add(1, 3, 4, [2], [12], [9])

    assert added.live == 1
    assert tree.live(1) == 2
    tree.commit([30], tree.arrivals)
    assert tree.live(1) == tree.size == 0


def test_an_alias_dies_with_its_node() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0, 0], [10, 10], [9, 9])

    tree.commit([11], tree.arrivals)

    assert tree.live(1) == 0


def test_a_drafter_that_leaves_takes_what_only_it_had() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0, 1, 1, 1], [10, 11, 12, 12], [9] * 4)
    tree.add(2, 3, 1, [0], [10], [9])

    tree.leave(1)
    tree.leave(1)

    assert paths(tree) == {(10,): {2: 1}}
    assert tree.drafters == (2,)
    assert tree.size == 1


def test_a_drafter_that_leaves_is_no_longer_credited_nor_the_tip() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0], [10], [9])
    tree.commit([10], tree.arrivals)

    tree.leave(1)

    assert tree.commit([11], tree.arrivals) == ([NOBODY], [])


def test_credit_is_for_all_who_had_it_in_time_and_the_first_is_the_source() -> None:
    tree = tree_of()
    tree.add(2, 3, 1, [0], [10], [9])
    tree.add(1, 3, 1, [0, 1], [10, 11], [9, 9])
    packed = tree.arrivals
    tree.add(2, 3, 2, [1], [11], [9])  # too late for credit

    sources, parts = tree.commit([10, 11, 12], packed)

    assert sources == [2, 1, NOBODY]
    assert parts == [Part(1, 0, 2), Part(2, 0, 1)]


def test_the_tip_is_the_guess_at_the_last_committed_place() -> None:
    tree = tree_of()
    tree.add(1, 3, 5, [0, 5], [10, 11], [9, 9])
    packed = tree.arrivals
    tree.add(2, 3, 1, [0, 1], [10, 11], [9, 9])

    _, parts = tree.commit([10, 11], packed)

    assert parts == [Part(1, 6, 2), Part(2, 2, 0)]


def test_a_commit_of_nothing_changes_nothing() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0], [10], [9])
    tree.commit([10], tree.arrivals)

    assert tree.commit([], tree.arrivals) == ([], [])


@pytest.mark.parametrize(
    ("pos", "first", "parents", "tokens"),
    [
        (4, 1, [0], [10]),  # beyond the text
        (3, 1, [5], [10]),  # a parent nobody has heard of
        (3, 1, [1], [10]),  # its own parent
        (3, 1, [0], [VOCABULARY]),  # no such token
        (0, 1, [0], [99]),  # before the text began
    ],
)
def test_nonsense_is_stale(pos: int, first: int, parents: list[int], tokens: list[int]) -> None:
    tree = tree_of()

    added = tree.add(1, pos, first, parents, tokens, [9])

    assert added == Added(live=0, named=0, stale=1, surplus=0)
    assert tree.size == 0


def test_the_last_token_of_the_vocabulary_is_a_token() -> None:
    assert tree_of().add(1, 3, 1, [0], [VOCABULARY - 1], [9]).live == 1


def test_a_repeated_block_is_stale() -> None:
    tree = tree_of()
    tree.add(1, 3, 1, [0, 1], [10, 11], [9, 9])

    assert tree.add(1, 3, 1, [0, 1], [10, 12], [9, 9]).stale == 2


def test_the_tree_is_64_deep_and_no_deeper() -> None:
    tree = tree_of()

    for id in range(1, MAX_DEPTH + 1):
        assert tree.add(1, 3, id, [id - 1], [10], [9]).live == 1
    deeper = tree.add(1, 3, MAX_DEPTH + 1, [MAX_DEPTH, MAX_DEPTH + 1], [10, 10], [9, 9])

    assert deeper == Added(live=0, named=0, stale=1, surplus=1)
    assert tree.size == MAX_DEPTH


def test_the_tree_has_256_nodes_and_no_more() -> None:
    tree = Tree(PROMPT, 10_000)
    for drafter in (1, 2):
        for half in range(2):
            first = 1 + 64 * half
            tokens = [1000 * drafter + first + i for i in range(64)]
            assert tree.add(drafter, 3, first, [0] * 64, tokens, [9] * 64).live == 64

    assert tree.add(3, 3, 1, [0], [1], [9]).surplus == 1
    assert tree.add(3, 3, 2, [0], [1001], [9]).live == 1  # a guess that is there costs none
    assert tree.size == MAX_GUESSES_LIVE


def test_a_drafter_has_256_live_names_and_no_more() -> None:
    tree = tree_of()
    for id in range(1, MAX_LIVE + 1):
        tree.add(1, 3, id, [0], [10], [9])

    assert tree.add(1, 3, MAX_LIVE + 1, [0], [10], [9]).surplus == 1
    assert tree.live(1) == MAX_LIVE


def test_names_of_places_are_bounded_and_the_oldest_goes_first() -> None:
    tree = Tree([1] * 400, VOCABULARY)
    for id in range(1, MAX_LIVE + 3):
        tree.add(1, 100, id, [id - 1], [1], [9])

    assert tree.add(1, 100, 1000, [2], [1], [9]).stale == 1
    assert tree.add(1, 100, 1001, [3], [1], [9]).named == 1


def test_a_session_has_64_drafters_and_no_more() -> None:
    tree = tree_of()
    for drafter in range(1, MAX_DRAFTERS + 1):
        assert tree.add(drafter, 3, 1, [0], [10], [9]).live == 1

    assert tree.add(MAX_DRAFTERS + 1, 3, 1, [0], [10], [9]).surplus == 1


@dataclass
class Memorious:
    """Every guess ever, as its origin and the tokens from there; nothing is pruned or re-rooted."""

    text: list[int]
    path: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    known: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def fits(self, origin: int, tokens: tuple[int, ...]) -> bool:
        rest = self.text[origin : origin + len(tokens)]
        return list(tokens[: len(rest)]) == rest

    def add(self, drafter: int, pos: int, id: int, parent: int, token: int) -> None:
        self.known[drafter] = max(self.known[drafter], pos)
        origin, above = (pos, ()) if parent == 0 else self.path.get((drafter, parent), (-1, ()))
        if origin < 0:
            return
        at = origin + len(above) - 1
        if parent and at < min(self.known[drafter] - 1, len(self.text)):
            return  # that name is forgotten
        if self.fits(origin, (*above, token)):
            self.path[drafter, id] = (origin, (*above, token))

    def live(self) -> dict[tuple[int, ...], dict[int, int]]:
        found: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        for (drafter, id), (origin, tokens) in self.path.items():
            below = tokens[len(self.text) - origin :]
            if below and self.fits(origin, tokens):
                found[below].setdefault(drafter, id)
        return dict(found)


@pytest.mark.slow
@given(st.data())
def test_any_history_leaves_the_tree_of_who_remembers_everything(data: st.DataObject) -> None:
    tree, oracle = Tree([0], 3), Memorious([0])
    ids: dict[int, int] = defaultdict(lambda: 1)
    known: dict[int, int] = defaultdict(lambda: 1)
    token = st.integers(0, 2)
    for _ in range(data.draw(st.integers(1, 25))):
        if data.draw(st.booleans()):
            final = data.draw(st.lists(token, min_size=1, max_size=4))
            tree.commit(final, tree.arrivals)
            oracle.text += final
        else:
            drafter = data.draw(st.integers(1, 3))
            pos = known[drafter] = data.draw(st.integers(known[drafter], len(tree.text)))
            count = data.draw(st.integers(1, 5))
            first = ids[drafter]
            parents = [data.draw(st.integers(0, id - 1)) for id in range(first, first + count)]
            tokens = [data.draw(token) for _ in range(count)]
            added = tree.add(drafter, pos, first, parents, tokens, [9] * count)
            assert added.live + added.named + added.stale == count
            for at in range(count):
                oracle.add(drafter, pos, first + at, parents[at], tokens[at])
            ids[drafter] += count

        assert paths(tree) == oracle.live()
        assert tree.size == len(oracle.live())
        assert tree.text == oracle.text
