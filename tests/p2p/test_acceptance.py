"""The walk that decides acceptance, against the definition tried on every path."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2p.drafting.acceptance import accept

Rows = tuple[list[int], list[int], list[int]]


@st.composite
def trees(draw: st.DrawFn) -> Rows:
    """Random tries of up to 40 rows over 3 tokens, and what a target says after each row."""
    parents, tokens = [-1], [0]
    for _ in range(draw(st.integers(0, 39))):
        parent = draw(st.integers(0, len(parents) - 1))
        used = {t for p, t in zip(parents, tokens, strict=True) if p == parent}
        free = [token for token in range(3) if token not in used]
        if free:
            parents.append(parent)
            tokens.append(draw(st.sampled_from(free)))
    chosen = draw(st.lists(st.integers(-2, 2), min_size=len(tokens), max_size=len(tokens)))
    return parents, tokens, chosen


def longest_right_path(parents: list[int], tokens: list[int], chosen: list[int]) -> list[int]:
    """The definition: of all root paths, the longest whose every token was chosen at its parent."""
    best = [0]
    for row in range(len(tokens)):
        path = [row]
        while path[0] != 0:
            path.insert(0, parents[path[0]])
        is_right = all(tokens[child] == chosen[parent] for parent, child in pairwise(path))
        if is_right and len(path) > len(best):
            best = path
    return best


@pytest.mark.slow
@given(trees())
@settings(max_examples=200, deadline=None)
@example(([-1], [0], [2]))
@example(([-1, 0, 1, 2], [0, 1, 2, 0], [1, 2, 0, 1]))
def test_the_walk_is_the_longest_path_that_says_what_the_target_says(rows: Rows) -> None:
    assert accept(*rows) == longest_right_path(*rows)


def test_without_guesses_the_root_alone_is_accepted() -> None:
    assert accept([-1], [5], [7]) == [0]


def test_a_right_chain_is_accepted_whole() -> None:
    assert accept([-1, 0, 1], [9, 4, 5], [4, 5, 6]) == [0, 1, 2]


def test_a_wrong_token_ends_the_walk_and_what_is_below_it_is_dead() -> None:
    assert accept([-1, 0, 1], [9, 4, 5], [3, 5, 6]) == [0]


def test_a_right_sibling_is_found_behind_wrong_ones() -> None:
    assert accept([-1, 0, 0, 0, 2], [9, 1, 2, 3, 8], [2, 0, 8, 0, 4]) == [0, 2, 4]


def test_a_right_token_below_a_wrong_parent_does_not_count() -> None:
    assert accept([-1, 0, 1], [9, 1, 2], [2, 2, 0]) == [0]


def test_a_row_without_a_choice_ends_the_walk() -> None:
    assert accept([-1, 0], [9, 1], [-2, 1]) == [0]


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(-3, 60), st.integers(-5, 2**40)), max_size=40),
    st.lists(st.integers(-2, 3), min_size=41, max_size=41),
)
def test_junk_rows_never_commit_a_token_that_was_not_chosen(
    junk: list[tuple[int, int]], chosen: list[int]
) -> None:
    parents = [-1, *(parent for parent, _ in junk)]
    tokens = [0, *(token for _, token in junk)]
    path = accept(parents, tokens, chosen)

    assert path[0] == 0
    for parent, child in pairwise(path):
        assert parents[child] == parent
        assert tokens[child] == chosen[parent]
