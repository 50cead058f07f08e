"""`stats.db`: what this node did, every ten seconds, by the minute and by the hour, in SQLite.

Blocking, and used by one thread at a time; `history.py` is its shell. Ten-second rows are kept for
48 h of running, minutes for 30 days of it, hours for ever (8,760 rows a year).
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nexusnode.control.messages import HistoryRow
from p2p.paths import make_private

FILE = "stats.db"
SCHEMA = 1
SAMPLE_SECONDS = 10
MAX_EVENTS = 10_000
BUSY_SECONDS = 2.0  # another program that reads the file
# Rows, not ages: a clock that was wrong for a day must not empty a table.
TABLES = {"sample10s": (10, 48 * 360), "minute": (60, 30 * 1440), "hour": (3600, None)}
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COLUMNS = (
    "t INTEGER PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL, drafted INTEGER NOT NULL,"
    " credited INTEGER NOT NULL, committed INTEGER NOT NULL, celsius REAL, watts REAL,"
    " received INTEGER NOT NULL, sent INTEGER NOT NULL"
)
_CREATE = (
    *(f"CREATE TABLE IF NOT EXISTS {table}({_COLUMNS}) STRICT" for table in TABLES),
    "CREATE TABLE IF NOT EXISTS event(t INTEGER NOT NULL, kind TEXT NOT NULL,"
    " detail TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)
# A second sample of the same ten seconds, as after a clock was set back, adds to the first.
_INSERT = (
    "INSERT INTO sample10s VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(t) DO UPDATE SET"
    " state = excluded.state, reason = excluded.reason, drafted = drafted + excluded.drafted,"
    " credited = credited + excluded.credited, committed = committed + excluded.committed,"
    " celsius = excluded.celsius, watts = excluded.watts, received = received + excluded.received,"
    " sent = sent + excluded.sent"
)


class Damaged(Exception):
    """The file is no database any more, or one that this program does not know."""


@dataclass(slots=True)
class Bucket:
    """Rows of one stretch, added up. A temperature or power that nothing reports stays None."""

    start: int
    sums: list[int] = field(default_factory=lambda: [0] * 5)
    means: list[list[float]] = field(default_factory=lambda: [[0.0, 0], [0.0, 0]])
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, row: HistoryRow, weight: int = 1) -> None:
        numbers = (row.drafted, row.credited, row.committed, row.received_bytes, row.sent_bytes)
        for place, number in enumerate(numbers):
            self.sums[place] += number
        for mean, value in zip(self.means, (row.celsius, row.watts), strict=True):
            if value is not None:
                mean[0] += value * weight
                mean[1] += weight
        self.kinds[row.state, row.reason] += weight

    def row(self) -> HistoryRow:
        ((state, reason), _), *_ = self.kinds.most_common(1)
        celsius, watts = (total / count if count else None for total, count in self.means)
        drafted, credited, committed, received, sent = self.sums
        return HistoryRow(
            self.start, state, reason, drafted, credited, committed, celsius, watts, received, sent
        )


def gather(rows: Iterable[tuple[HistoryRow, int]], start: int, step: int) -> list[HistoryRow]:
    """Return rows of `step` seconds, counted from `start`, made of finer rows and their weights."""
    buckets: dict[int, Bucket] = {}
    for row, weight in rows:
        begins = start + (row.unix_seconds - start) // step * step
        buckets.setdefault(begins, Bucket(begins)).add(row, weight)
    return [buckets[begins].row() for begins in sorted(buckets)]


class Samples:
    """The open database. Every method may raise `sqlite3.Error` or `Damaged`."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and check it."""
        make_private(path.parent)
        self._db = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            with _damage_named():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def write(self, rows: Sequence[HistoryRow]) -> None:
        """Add ten-second rows and bring their minutes and hours up to date: all or nothing."""
        with self._transaction():
            self._db.executemany(_INSERT, [_values(row) for row in rows])
            for fine, coarse in (("sample10s", "minute"), ("minute", "hour")):
                step = TABLES[coarse][0]
                for start in sorted({row.unix_seconds // step * step for row in rows}):
                    made = gather(self._read(fine, start, start + step, step), start, step)
                    self._db.executemany(
                        f"INSERT OR REPLACE INTO {coarse} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        [_values(row) for row in made],
                    )

    def note(self, unix_seconds: int, kind: str, detail: str) -> None:
        """Record an event."""
        with self._transaction():
            self._db.execute("INSERT INTO event VALUES (?, ?, ?)", (unix_seconds, kind, detail))

    def prune(self) -> None:
        """Forget what is past its time and give the space back."""
        with self._transaction():
            for table, (_, rows) in TABLES.items():
                if rows is not None:
                    self._db.execute(
                        f"DELETE FROM {table} WHERE t <="
                        f" (SELECT t FROM {table} ORDER BY t DESC LIMIT 1 OFFSET {rows})"
                    )
            self._db.execute(
                "DELETE FROM event WHERE rowid <= (SELECT max(rowid) FROM event) - ?", (MAX_EVENTS,)
            )
        with _damage_named():
            self._db.execute("PRAGMA incremental_vacuum").fetchall()

    def rows(self, table: str, start: int, end: int, step: int) -> list[HistoryRow]:
        """Return rows of `step` seconds from `start` on, of one of `TABLES`."""
        with _damage_named():
            return gather(self._read(table, start, end, step), start, step)

    def first(self, table: str) -> int | None:
        """Return the time of a table's first row."""
        with _damage_named():
            found = self._db.execute(f"SELECT min(t) FROM {table}").fetchone()[0]
        return None if found is None else int(found)

    def events(self) -> list[tuple[int, str, str]]:
        """Return time, kind and detail of all events, oldest first."""
        with _damage_named():
            return self._db.execute("SELECT t, kind, detail FROM event ORDER BY rowid").fetchall()

    def _prepare(self) -> None:
        """WAL, where the disk can do it: a network drive cannot, and gets the older journal."""
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = ""
        with suppress(sqlite3.OperationalError):
            mode = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.execute("PRAGMA synchronous = NORMAL")
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise Damaged(str(found))
        with self._transaction():
            for statement in _CREATE:
                self._db.execute(statement)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
            (known,) = self._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        if known != str(SCHEMA):
            raise Damaged(f"it is of schema {known}, this program writes {SCHEMA}")

    def _read(
        self, table: str, start: int, end: int, step: int
    ) -> Iterator[tuple[HistoryRow, int]]:
        """Yield sums by stretch, state and reason, each with the number of rows in it."""
        found = self._db.execute(
            f"SELECT ? + (t - ?) / ? * ?, state, reason, sum(drafted), sum(credited),"
            f" sum(committed), avg(celsius), avg(watts), sum(received), sum(sent), count(*)"
            f" FROM {table} WHERE t >= ? AND t < ? GROUP BY 1, 2, 3",
            (start, start, step, step, start, end),
        )
        for *values, count in found:
            yield HistoryRow(*values), count

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Make all of the block's changes or none."""
        with _damage_named():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def put_aside(path: Path, now: float) -> Path:
    """Move a database with all its files to a folder beside it, and return that folder."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    folder = path.with_name(f"damaged-{stamp}")
    make_private(folder)
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(folder / (path.name + suffix))
    return folder


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise Damaged(str(error)) from error
        raise


def _values(row: HistoryRow) -> tuple[object, ...]:
    return (
        row.unix_seconds,
        row.state,
        row.reason,
        row.drafted,
        row.credited,
        row.committed,
        row.celsius,
        row.watts,
        row.received_bytes,
        row.sent_bytes,
    )
