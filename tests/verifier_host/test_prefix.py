"""The prefix tree: what is found, what is shared, and what goes first."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.scheduling.prefix import PrefixTree
from verifier_host.scheduling.rows import TILE


def text(*parts: tuple[int, int]) -> list[int]:
    """`text((1, 64), (2, 10))`: 64 ones and ten twos."""
    return [token for token, count in parts for _ in range(count)]


def leave(tree: PrefixTree, tokens: Sequence[int], first: int, name: bytes = b"") -> list[int]:
    """Leave a finished session's text behind, in tiles `first` …; return the tiles of no use."""
    hit = tree.find(name, [*tokens, 0])
    tree.hold(hit.shared)
    count = -(-len(tokens) // TILE) - len(hit.shared)
    path, spare = tree.insert(name, tokens, hit.shared, range(first, first + count))
    tree.release(path)
    return spare


def test_an_empty_tree_finds_nothing() -> None:
    hit = PrefixTree().find(b"", [1, 2, 3])

    assert (hit.shared, hit.partial, hit.length) == ((), None, 0)


def test_the_last_token_is_never_found() -> None:
    tree = PrefixTree()
    leave(tree, text((1, 2 * TILE)), 5)

    same = tree.find(b"", text((1, 2 * TILE)))
    longer = tree.find(b"", text((1, 2 * TILE + 1)))

    assert (len(same.shared), same.columns, same.length) == (1, TILE - 1, 2 * TILE - 1)
    assert (len(longer.shared), longer.columns) == (2, 0)


def test_a_hit_ends_inside_a_tile_at_the_longest_common_beginning() -> None:
    tree = PrefixTree()
    leave(tree, text((1, TILE), (2, 30), (3, 10)), 5)
    leave(tree, text((1, TILE), (2, 20), (4, 30)), 8)

    hit = tree.find(b"", text((1, TILE), (2, 30), (3, 2), (9, 50)))

    assert [edge.tile for edge in hit.shared] == [5]
    assert hit.partial is not None
    assert hit.partial.tile == 6
    assert hit.columns == 32


def test_namespaces_do_not_see_each_other() -> None:
    tree = PrefixTree()
    leave(tree, text((1, TILE)), 5, b"a")

    assert tree.find(b"b", text((1, TILE + 1))).length == 0
    assert tree.find(b"a", text((1, TILE + 1))).length == TILE


def test_what_is_there_already_is_of_no_use_twice() -> None:
    tree = PrefixTree()
    tokens = text((1, TILE), (2, 9))
    path, _ = tree.insert(b"", tokens, [], [5, 6])
    again, spare = tree.insert(b"", tokens, [], [7, 8])

    assert spare == [7, 8]
    assert [edge.tile for edge in again] == [edge.tile for edge in path] == [5, 6]
    assert tree.held == 2
    tree.release(path)
    assert tree.held == 2
    tree.release(again)
    assert tree.idle == 2


def test_a_part_of_a_longer_tile_is_of_no_use() -> None:
    tree = PrefixTree()
    leave(tree, text((1, 20), (2, 9)), 5)

    path, spare = tree.insert(b"", text((1, 20), (2, 3)), [], [6])

    assert (path, spare) == ([], [6])


def test_a_longer_tile_replaces_its_parts_that_nobody_holds() -> None:
    tree = PrefixTree()
    leave(tree, text((1, 20)), 5)
    held, _ = tree.insert(b"", text((1, 30)), [], [6])

    _, spare = tree.insert(b"", text((1, 40)), [], [7])

    assert spare == []  # tile 5 went when tile 6 came, which is held
    assert sorted(tree.tiles()) == [6, 7]
    tree.release(held)


def test_the_tile_unused_for_longest_goes_first_and_children_before_parents() -> None:
    tree = PrefixTree()
    leave(tree, text((1, TILE), (2, TILE)), 1)
    leave(tree, text((3, TILE), (4, TILE)), 5)
    leave(tree, text((1, TILE), (5, TILE)), 8)  # uses tile 1 again

    assert [tree.evict() for _ in range(tree.idle)] == [2, 6, 5, 8, 1]
    assert tree.tiles() == []
    assert tree.find(b"", text((1, TILE + 1))).length == 0


def test_a_held_path_is_never_evicted() -> None:
    tree = PrefixTree()
    leave(tree, text((1, TILE), (2, TILE)), 1)
    hit = tree.find(b"", text((1, TILE), (9, 2)))
    tree.hold(hit.shared)

    assert (tree.held, tree.idle) == (1, 1)
    assert tree.evict() == 2
    assert tree.idle == 0
    tree.release(hit.shared)
    assert tree.evict() == 1


@pytest.mark.slow
@given(st.data())
def test_it_finds_what_a_search_through_all_texts_finds(data: st.DataObject) -> None:
    tree = PrefixTree()
    word = st.sampled_from([(1, 20), (2, 20), (1, 64), (2, 7), (3, 44)])
    texts = st.lists(word, min_size=1, max_size=6).map(lambda words: text(*words))
    left: list[list[int]] = []
    tile = 1
    for _ in range(data.draw(st.integers(1, 8))):
        tokens = data.draw(texts)
        leave(tree, tokens, tile)
        tile += 10
        left.append(tokens)

        asked = data.draw(texts)
        best = max(sum(1 for _ in iter_common(tokens, asked[:-1])) for tokens in left)
        assert tree.find(b"", asked).length == best
        assert len(set(tree.tiles())) == len(tree.tiles()) == tree.idle
    while tree.idle:
        tree.evict()
    assert tree.tiles() == []


def iter_common(left: Sequence[int], right: Sequence[int]) -> Sequence[int]:
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return left[:at]
    return left[: min(len(left), len(right))]
