"""Calibration tables on disk, one file for each pair of draft and target."""

import os
import stat
from pathlib import Path

import pytest
import trio

from nexusnode.daemon.learnt import FOLDER, MAX_BYTES, MAX_CELLS, MAX_PAIRS, VERSION, Learnt, Table
from nexusnode.draft.messages import Bin
from p2p.log import Log, quiet_log
from p2p.wire.schema import packb

DRAFT, OTHER_DRAFT = "d" * 64, "e" * 64
TARGET = b"t" * 32
TABLE = (Bin(0, 3, 1, 0, 20.0, 15.5), Bin(1, 3, 1, 1, 4.0, 0.0))
CELL = [0, 3, 1, 0, 20.0, 15.5]


def target(number: int) -> bytes:
    return number.to_bytes(32)


async def keep(
    data: Path, tables: dict[bytes, Table], draft: str = DRAFT, log: Log | None = None
) -> Learnt:
    learnt = Learnt(data, draft, log or quiet_log())
    for name, table in tables.items():
        learnt.learn(name, table)
    await learnt.flush()
    return learnt


def again(data: Path, draft: str = DRAFT, log: Log | None = None) -> Learnt:
    learnt = Learnt(data, draft, log or quiet_log())
    learnt.read()
    return learnt


def files(data: Path) -> list[Path]:
    return sorted((data / FOLDER).iterdir())


def test_nothing_is_known_where_there_is_no_folder(tmp_path: Path) -> None:
    assert again(tmp_path).table(TARGET) == ()


async def test_a_file_where_the_folder_should_be_costs_only_the_tables(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")

    learnt = await keep(tmp_path, {TARGET: TABLE})

    assert learnt.table(TARGET) == TABLE
    assert again(tmp_path).table(TARGET) == ()


async def test_a_table_is_read_again_for_its_own_pair_only(tmp_path: Path) -> None:
    await keep(tmp_path, {TARGET: TABLE})

    assert again(tmp_path).table(TARGET) == TABLE
    assert again(tmp_path).table(target(1)) == ()
    assert again(tmp_path, OTHER_DRAFT).table(TARGET) == ()


async def test_the_newest_table_of_a_pair_replaces_the_one_before(tmp_path: Path) -> None:
    learnt = await keep(tmp_path, {TARGET: TABLE})

    learnt.learn(TARGET, TABLE[:1])
    await learnt.flush()

    assert len(files(tmp_path)) == 1
    assert again(tmp_path).table(TARGET) == TABLE[:1]


async def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    await keep(tmp_path, {TARGET: TABLE})

    (file,) = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_what_is_learnt_is_written_without_being_asked(tmp_path: Path) -> None:
    learnt = Learnt(tmp_path, DRAFT, quiet_log())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(learnt.run)
        learnt.learn(TARGET, TABLE)
        with trio.fail_after(10):
            while again(tmp_path).table(TARGET) != TABLE:
                await trio.sleep(0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("more", [0, 1])
async def test_at_most_so_many_pairs_are_kept_and_the_oldest_goes(
    more: int, tmp_path: Path
) -> None:
    await keep(tmp_path, {TARGET: TABLE}, OTHER_DRAFT)
    os.utime(files(tmp_path)[0], (1000, 1000))

    await keep(tmp_path, {target(n): TABLE for n in range(MAX_PAIRS - 1 + more)})

    assert len(files(tmp_path)) == MAX_PAIRS
    assert again(tmp_path, OTHER_DRAFT).table(TARGET) == (() if more else TABLE)
    assert again(tmp_path).table(target(0)) == TABLE


def test_memory_holds_no_more_pairs_than_the_disk(tmp_path: Path) -> None:
    learnt = Learnt(tmp_path, DRAFT, quiet_log())
    for number in range(MAX_PAIRS):
        learnt.learn(target(number), TABLE)
    learnt.learn(target(0), TABLE)
    learnt.learn(TARGET, TABLE)

    known = [number for number in range(MAX_PAIRS) if learnt.table(target(number))]
    assert known == [0, *range(2, MAX_PAIRS)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b'{"version": 1}',
        packb([VERSION]),
        packb([VERSION + 1, [CELL]]),
        packb([VERSION, [CELL], 1]),
        packb([VERSION, [CELL[:5]]]),
        packb([VERSION, [[*CELL[:5], "many"]]]),
        packb([VERSION, [[*CELL[:5], float("nan")]]]),
        packb([VERSION, [[-1, *CELL[1:]]]]),
        packb([VERSION, [CELL] * (MAX_CELLS + 1)]),
        packb([VERSION, [CELL]]) + bytes(MAX_BYTES),
    ],
)
async def test_a_damaged_file_is_as_none_and_said(content: bytes, tmp_path: Path) -> None:
    await keep(tmp_path, {TARGET: TABLE, target(1): TABLE})
    files(tmp_path)[-1].write_bytes(content)
    log = quiet_log()

    learnt = again(tmp_path, log=log)

    assert learnt.table(TARGET) == ()
    assert learnt.table(target(1)) == TABLE
    assert [event.name for event in log.recent()] == ["learnt.damaged"]


async def test_the_largest_table_is_read_again(tmp_path: Path) -> None:
    table = TABLE[:1] * MAX_CELLS

    await keep(tmp_path, {TARGET: table})

    assert again(tmp_path).table(TARGET) == table


async def test_what_else_lies_in_the_folder_stays_there(tmp_path: Path) -> None:
    await keep(tmp_path, {TARGET: TABLE})
    (tmp_path / FOLDER / "notes.txt").write_text("mine")
    (tmp_path / FOLDER / f"{DRAFT}-{'0' * 64}.table").symlink_to("/dev/zero")

    await keep(tmp_path, {target(n): TABLE for n in range(1, MAX_PAIRS + 1)})

    assert (tmp_path / FOLDER / "notes.txt").read_text() == "mine"
    assert again(tmp_path).table(target(0)) == ()


async def test_a_disk_that_does_not_take_it_costs_a_line_and_the_table(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    log = quiet_log()

    learnt = await keep(tmp_path, {TARGET: TABLE}, log=log)

    assert [event.name for event in log.recent()] == ["learnt.unwritten"]
    assert learnt.table(TARGET) == TABLE
