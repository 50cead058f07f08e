"""Tiles: handed out in runs, never twice, and none is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.scheduling.rows import TILE
from verifier_host.scheduling.slots import Tiles, slots_of


def test_pads_and_scratch_are_never_handed_out() -> None:
    tiles = Tiles(10 * TILE, scratch=65)

    taken = tiles.take(tiles.free)

    assert tiles.total == 10 - 1 - 2
    assert tiles.scratch.tolist() == list(range(TILE, 3 * TILE))
    assert taken == [3, 4, 5, 6, 7, 8, 9]
    assert tiles.free == 0


def test_a_pool_too_small_for_any_session_has_no_tiles() -> None:
    assert Tiles(2 * TILE, scratch=64).total == 0


def test_a_session_grows_right_behind_its_last_tile() -> None:
    tiles = Tiles(20 * TILE, scratch=1)
    first = tiles.take(2)

    assert tiles.take(1, after=first[-1]) == [first[-1] + 1]


def test_sessions_start_with_room_between_them() -> None:
    tiles = Tiles(40 * TILE, scratch=1)

    one = tiles.take(2, room=6)
    two = tiles.take(2, room=6)
    grown = tiles.take(4, after=one[-1], room=4)

    assert two[0] - one[0] == 6
    assert one + grown == list(range(one[0], one[0] + 6))


def test_a_run_is_found_before_the_last_one_given_when_none_is_behind_it() -> None:
    tiles = Tiles(12 * TILE, scratch=1)
    first = tiles.take(4)
    tiles.take(4)
    for tile in first:
        tiles.give(tile)

    assert tiles.take(4) == first


def test_scattered_tiles_are_better_than_none() -> None:
    tiles = Tiles(8 * TILE, scratch=1)
    taken = tiles.take(6)
    for tile in taken[::2]:
        tiles.give(tile)

    assert tiles.take(3) == taken[::2]


def test_more_than_there_is_cannot_be_taken() -> None:
    tiles = Tiles(8 * TILE, scratch=1)

    with pytest.raises(AssertionError, match="7 tiles asked of 6"):
        tiles.take(7)


def test_a_tile_cannot_be_given_back_twice() -> None:
    tiles = Tiles(8 * TILE, scratch=1)
    (tile,) = tiles.take(1)
    tiles.give(tile)

    with pytest.raises(AssertionError, match="twice"):
        tiles.give(tile)


def test_slots_of_tiles_go_column_by_column() -> None:
    assert slots_of([3, 1]).tolist() == [*range(192, 256), *range(64, 128)]


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 8), st.booleans()), max_size=30))
def test_any_order_of_taking_and_giving_conserves_tiles(
    script: list[tuple[int, int, bool]],
) -> None:
    tiles = Tiles(24 * TILE, scratch=1)
    held: list[list[int]] = []
    for count, room, gives in script:
        if gives and held:
            for tile in held.pop(room % len(held)):
                tiles.give(tile)
        elif count <= tiles.free:
            after = held[-1][-1] if held and room % 2 else 0
            held.append(tiles.take(count, after, room))

        everything = [tile for group in held for tile in group] + tiles.free_tiles()
        assert sorted(everything) == list(range(2, 24))
        assert tiles.free == len(tiles.free_tiles())
