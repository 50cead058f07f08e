"""The node's history in a real SQLite file: full, damaged, locked, and asked for."""

import csv
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexusnode.control.messages import (
    HistoryQuery,
    HistoryRow,
    HostView,
    Meters,
    Snapshot,
    WorkerView,
)
from nexusnode.daemon import samples as samples_module
from nexusnode.daemon.history import KEPT_SAMPLES, MAX_POINTS, History, Reading, reading
from nexusnode.daemon.samples import Damaged, Samples, gather
from p2p.errors import ControlError, ResourceError
from p2p.log import Log, quiet_log

HOUR = 1_700_000_000 // 3600 * 3600
SNAPSHOT = Snapshot(
    "running", "ok", (), (), None, "me", "m", "/m.gguf", "", WorkerView("ready", "", 1, 0, 0, 0),
    (), 0, 5.0, 1.0, False,
)  # fmt: skip
NO_HOSTS = Reading("paused", "input", ())


def host(peer: str, drafted: int, credited: int, committed: int) -> HostView:
    return HostView(peer, "", "serving", "", 1, drafted, credited, committed)


def sample(t: int, drafted: int = 1, state: str = "running", reason: str = "ok") -> HistoryRow:
    return HistoryRow(t, state, reason, drafted, 2, 3, 50.0, None, 10, 20)


class Node:
    """A history with a clock and a reading that tests set."""

    def __init__(self, data: Path, log: Log | None = None) -> None:
        self.now = float(HOUR)
        self.reading = NO_HOSTS
        self.log = log or quiet_log()
        self.history = History(data, lambda: self.reading, lambda: self.now, self.log)

    async def step(self, reading: Reading | None = None) -> None:
        """Let ten seconds pass."""
        self.reading = reading or self.reading
        self.now += 10
        self.history.sample()
        await self.history.flush()

    async def rows(self, points: int = 360, start: int = HOUR, end: int = 0) -> list[HistoryRow]:
        query = HistoryQuery(start, end or int(self.now) + 10, points)
        return list((await self.history.query(query)).rows)

    def said(self, name: str) -> list[dict[str, object]]:
        return [dict(event.fields) for event in self.log.recent() if event.name == name]


async def test_counts_are_what_was_added_since_the_last_sample(tmp_path: Path) -> None:
    node = Node(tmp_path)

    await node.step(Reading("running", "ok", (host("a", 5, 1, 2),), 61.0, 40.0, 100, 50))
    await node.step(Reading("running", "ok", (host("a", 7, 2, 4), host("b", 1, 1, 1)), 63.0))
    await node.step(Reading("paused", "input", (host("b", 1, 1, 1),)))
    await node.step(Reading("running", "ok", (host("a", 3, 0, 0), host("b", 1, 1, 1))))

    rows = await node.rows()
    assert [(row.drafted, row.credited, row.committed) for row in rows] == [
        (5, 1, 2),
        (3, 2, 3),
        (0, 0, 0),
        (3, 0, 0),
    ]
    assert [(row.celsius, row.watts) for row in rows[:2]] == [(61.0, 40.0), (63.0, None)]
    assert rows[0].received_bytes == 100
    assert [row.state for row in rows] == ["running", "running", "paused", "running"]


async def test_a_restart_goes_on_in_the_same_file(tmp_path: Path) -> None:
    first = Node(tmp_path)
    await first.step()
    await first.history.close()

    again = Node(tmp_path)
    again.now = first.now + 60
    await again.step()

    assert len(await again.rows()) == 2


def test_meters_give_temperature_power_and_bytes() -> None:
    meters = Meters(
        "", None, "", 61.0, 40.0, None, 0, 0, 1.0, 0.0, 0, 0, received_bytes=7, sent_bytes=8,
        sensors=(),
    )  # fmt: skip

    found = reading(SNAPSHOT, meters)

    assert (found.state, found.celsius, found.watts) == ("running", 61.0, 40.0)
    assert (found.received_bytes, found.sent_bytes) == (7, 8)


async def test_a_count_that_begins_anew_at_midnight_is_no_loss(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.step(replace(NO_HOSTS, received_bytes=1000))
    await node.step(replace(NO_HOSTS, received_bytes=30))

    assert [row.received_bytes for row in await node.rows()] == [1000, 30]


async def test_a_writer_that_is_killed_leaves_a_sound_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from nexusnode.control.messages import HistoryRow;"
        "from nexusnode.daemon.samples import Samples;"
        "samples = Samples(Path(sys.argv[1]));"
        "[(samples.write([HistoryRow(10 * n, 'running', 'ok', 1, 0, 0, None, None, 0, 0)]),"
        " print(n, flush=True)) for n in range(10**6)]"
    )
    path = tmp_path / "stats.db"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 200:
                break
        writer.kill()
    samples = Samples(path)

    rows = samples.rows("sample10s", 0, 10**8, 10)
    assert len(rows) > 200
    assert sum(row.drafted for row in samples.rows("hour", 0, 10**8, 3600)) == len(rows)


def test_steps_hold_sums_means_and_what_most_of_them_was() -> None:
    rows = [(sample(0), 1), (sample(10, 4, "paused", "input"), 1), (sample(20), 1), (sample(60), 1)]

    first, second = gather(rows, 0, 60)

    assert (first.unix_seconds, first.state, first.reason) == (0, "running", "ok")
    assert (first.drafted, first.celsius, first.watts) == (6, 50.0, None)
    assert second.unix_seconds == 60


@pytest.mark.parametrize("points", [2, 3, 7, 60, 1000])
async def test_never_more_points_than_asked_for_and_nothing_is_lost(
    tmp_path: Path, points: int
) -> None:
    samples = Samples(tmp_path / "stats.db")
    samples.write([sample(HOUR + 10 * number) for number in range(500)])
    node = Node(tmp_path)
    for start in (HOUR, HOUR + 7, HOUR + 3599):
        end = HOUR + 5000

        rows = await node.rows(points, start, end)

        assert 1 <= len(rows) <= points
        assert sum(row.drafted for row in rows) >= (end - start) // 10


async def test_old_times_are_answered_from_minutes_and_hours(tmp_path: Path) -> None:
    samples = Samples(tmp_path / "stats.db")
    samples.write([sample(HOUR + 10 * number) for number in range(720)])
    samples._db.execute("DELETE FROM sample10s WHERE t < ?", (HOUR + 3600,))
    node = Node(tmp_path)

    fine = await node.history.query(HistoryQuery(HOUR + 3600, HOUR + 7200, 720))
    coarse = await node.history.query(HistoryQuery(HOUR, HOUR + 7200, 1440))
    samples._db.execute("DELETE FROM minute WHERE t < ?", (HOUR + 3600,))
    coarsest = await node.history.query(HistoryQuery(HOUR, HOUR + 7200, 1440))

    assert (fine.step_seconds, len(fine.rows)) == (10.0, 360)
    assert (coarse.step_seconds, len(coarse.rows)) == (60.0, 120)
    assert (coarsest.step_seconds, len(coarsest.rows)) == (3600.0, 2)
    for answer, count in ((fine, 360), (coarse, 720), (coarsest, 720)):
        assert sum(row.drafted for row in answer.rows) == count


@pytest.mark.parametrize(
    "query",
    [
        HistoryQuery(HOUR, HOUR, 60),
        HistoryQuery(HOUR, HOUR - 1, 60),
        HistoryQuery(-1, HOUR, 60),
        HistoryQuery(0, HOUR, 1),
        HistoryQuery(0, HOUR, MAX_POINTS + 1),
    ],
)
async def test_a_time_that_cannot_be_is_refused(tmp_path: Path, query: HistoryQuery) -> None:
    with pytest.raises(ControlError, match="history"):
        await Node(tmp_path).history.query(query)


def test_tables_keep_their_last_rows_and_hours_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        samples_module, "TABLES", {"sample10s": (10, 6), "minute": (60, 2), "hour": (3600, None)}
    )
    samples = Samples(tmp_path / "stats.db")
    samples.write([sample(HOUR + 600 * number) for number in range(12)])

    samples.prune()

    def count(table: str) -> int:
        return int(samples._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    assert (count("sample10s"), count("minute"), count("hour")) == (6, 2, 2)
    assert samples.first("sample10s") == HOUR + 3600


def test_a_sample_of_the_same_ten_seconds_adds_up(tmp_path: Path) -> None:
    samples = Samples(tmp_path / "stats.db")

    samples.write([sample(HOUR)])
    samples.write([sample(HOUR)])

    (row,) = samples.rows("hour", HOUR, HOUR + 3600, 3600)
    assert row.drafted == 2


async def test_a_damaged_file_is_put_aside_and_named_and_a_new_one_begun(tmp_path: Path) -> None:
    samples = Samples(tmp_path / "stats.db")
    samples.write([sample(HOUR - 10 * number) for number in range(3000)])
    samples.close()
    with (tmp_path / "stats.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20 * 4096)
    node = Node(tmp_path)

    await node.step()

    (folder,) = tmp_path.glob("damaged-*")
    assert (folder / "stats.db").exists()
    assert node.said("history.damaged")[0]["kept"] == str(folder)
    assert len(await node.rows()) == 1
    await node.history.close()
    ((_, kind, detail),) = Samples(tmp_path / "stats.db").events()
    assert kind == "damaged"
    assert folder.name in detail


async def test_damage_that_comes_while_it_is_open_is_met_as_well(tmp_path: Path) -> None:
    node = Node(tmp_path)
    for _ in range(300):
        node.now += 10
        node.history.sample()
    await node.history.flush()
    assert node.history._samples is not None
    node.history._samples._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    node.history._samples._db.execute("PRAGMA cache_size = 0")
    with (tmp_path / "stats.db").open("r+b") as file:
        file.write(b"\xff" * os.path.getsize(tmp_path / "stats.db"))

    await node.step()

    assert len(node.said("history.damaged")) == 1
    assert len(await node.rows()) == 1


def test_what_is_no_database_or_of_another_program_counts_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "stats.db").write_bytes(b"not a database, but long enough for one" * 100)
    with pytest.raises(Damaged, match="not a database"):
        Samples(tmp_path / "stats.db")

    other = Samples(tmp_path / "newer.db")
    other._db.execute("UPDATE meta SET value = '99'")
    with pytest.raises(Damaged, match="schema 99"):
        Samples(tmp_path / "newer.db")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, where the tests may mount one; else a limit on the files' size."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here: see the test by RLIMIT_FSIZE")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_loses_no_sample_of_the_last_while(small_disk: Path) -> None:
    node = Node(small_disk)
    await node.step()
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while file.write(bytes(65_536)) == 65_536:  # less, once the disk is full
            pass

    for _ in range(40):
        await node.step()
    waiting = await node.rows()
    ballast.unlink()
    await node.step()

    assert len(node.said("history.unwritten")) == 1
    assert len(waiting) == 41
    assert not node.history._pending
    assert len(await node.rows()) == 42


async def test_a_file_that_may_not_grow_is_tried_again(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.step()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        for _ in range(3):
            await node.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(node.said("history.unwritten")) == 1

    await node.step()

    assert len(await node.rows()) == 5


async def test_what_waits_in_memory_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")  # where the folder should be
    node = Node(tmp_path / "data")
    for _ in range(KEPT_SAMPLES + 5):
        node.now += 10
        node.history.sample()
    await node.history.flush()

    assert len(await node.rows(MAX_POINTS)) == KEPT_SAMPLES


async def test_another_program_that_holds_the_file_only_delays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "BUSY_SECONDS", 0.0)
    node = Node(tmp_path)
    await node.step()
    other = sqlite3.connect(tmp_path / "stats.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    await node.step()
    other.execute("ROLLBACK")
    await node.step()

    assert len(await node.rows()) == 3


async def test_the_export_is_a_table_with_units_and_no_time_twice(tmp_path: Path) -> None:
    samples = Samples(tmp_path / "stats.db")
    samples.write([sample(HOUR + 10 * number) for number in range(1080)])
    samples._db.execute("DELETE FROM minute WHERE t < ?", (HOUR + 3600 + 1800,))
    node = Node(tmp_path)
    target = tmp_path / "my days.csv"
    target.write_text("old")

    written = await node.history.export(str(target))

    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert written.bytes == target.stat().st_size
    assert rows[0]["length_s"] == "3600"
    assert sum(int(row["drafted_guesses"]) for row in rows) == 1080
    assert rows[0]["temperature_celsius"] == "50.0"
    assert rows[0]["power_watts"] == ""


async def test_an_export_onto_a_folder_or_nowhere_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path / "data")
    await node.step()

    with pytest.raises(ControlError, match="is a folder"):
        await node.history.export(str(tmp_path))
    with pytest.raises(ControlError, match="whole path"):
        await node.history.export("days.csv")
    with pytest.raises(ResourceError, match="cannot be written"):
        await node.history.export(str(tmp_path / "data" / "stats.db" / "days.csv"))
