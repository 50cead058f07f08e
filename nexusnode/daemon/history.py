"""The node's own history: a sample every ten seconds, kept in `stats.db`, asked for by the window.

Nothing of it leaves this machine. A disk that does not take it costs nothing for the first hour and
a half: samples wait in memory. A damaged file is put aside and named, and a new one is begun.
"""

import csv
import io
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from nexusnode.control.messages import History as Answer
from nexusnode.control.messages import HistoryQuery, HistoryRow, HostView, Meters, Snapshot, Written
from nexusnode.daemon.export import write_chosen
from nexusnode.daemon.samples import (
    FILE,
    SAMPLE_SECONDS,
    TABLES,
    Damaged,
    Samples,
    gather,
    put_aside,
)
from p2p.errors import ControlError, NexusError, ResourceError
from p2p.log import Log

KEPT_SAMPLES = 600  # in memory, while the disk takes none: 100 minutes
PRUNE_SAMPLES = 360  # an hour
MAX_POINTS = 4096
CSV_HEADER = (
    "start_unix_s", "length_s", "state", "reason", "drafted_guesses", "kept_tokens",
    "committed_tokens", "temperature_celsius", "power_watts", "received_bytes", "sent_bytes",
)  # fmt: skip
_PIECE = 1 << 16
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the node is and has counted now. Counts rise; one that fell has begun again from 0.

    `celsius` and `watts` are None, and bytes 0, where nothing tells them.
    """

    state: str
    reason: str
    hosts: tuple[HostView, ...]
    celsius: float | None = None
    watts: float | None = None
    received_bytes: int = 0
    sent_bytes: int = 0


class History:
    """Owns the database and its one writer.

    Args:
        read: the node as it is now.
        clock: wall time in seconds.
    """

    def __init__(
        self, data: Path, read: Callable[[], Reading], clock: Callable[[], float], log: Log
    ) -> None:
        self._path = data / FILE
        self._read = read
        self._clock = clock
        self._log = log
        self._counters = _Counters()
        self._pending: deque[HistoryRow] = deque(maxlen=KEPT_SAMPLES)
        self._samples: Samples | None = None
        self._limiter = trio.CapacityLimiter(1)
        self._is_failing = False
        self._since_prune = 0

    async def run(self) -> None:
        """Take a sample every ten seconds, until cancelled."""
        self._counters.take(self._read())
        await self.flush()
        while True:
            await trio.sleep(SAMPLE_SECONDS)
            self.sample()
            await self.flush()

    def sample(self) -> None:
        """Put what happened since the last sample among those to be written."""
        reading = self._read()
        at = int(self._clock()) // SAMPLE_SECONDS * SAMPLE_SECONDS
        drafted, credited, committed, received, sent = self._counters.take(reading)
        self._pending.append(
            HistoryRow(
                at,
                reading.state,
                reading.reason,
                drafted,
                credited,
                committed,
                reading.celsius,
                reading.watts,
                received,
                sent,
            )
        )

    async def flush(self) -> None:
        """Write what waits. A disk that does not take it is tried again with the next sample."""
        await self._in_thread(self._write)

    async def close(self) -> None:
        """Write the last seconds and close the file."""
        self.sample()
        await self.flush()
        await self._in_thread(self._drop)

    async def query(self, query: HistoryQuery) -> Answer:
        """Return at most `points` rows over the time asked for; stretches without any are left out.

        Raises:
            ControlError: the time or the number of points cannot be.
        """
        start, end, points = query.from_unix_seconds, query.to_unix_seconds, query.points
        if end <= start or not 0 <= start < end < 1 << 40:
            raise ControlError("history: the end must be after the beginning, both since 1970")
        if not 2 <= points <= MAX_POINTS:
            raise ControlError(f"history: {points} points; 2 to {MAX_POINTS} are possible")
        return await self._in_thread(partial(self._query, start, end, points))

    async def export(self, path: str) -> Written:
        """Write everything as CSV: hours, and minutes as far back as they are kept."""
        size = await self._in_thread(lambda: write_chosen(path, _csv(self._everything())))
        return Written(str(Path(path).expanduser()), size)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter)

    # In the thread.

    def _write(self) -> None:
        rows = list(self._pending)
        try:
            self._attempt(lambda samples: samples.write(rows))
            for _ in rows:
                self._pending.popleft()
            self._since_prune += len(rows)
            if self._since_prune >= PRUNE_SAMPLES:
                self._since_prune = 0
                self._attempt(Samples.prune)
        except (sqlite3.Error, OSError, NexusError) as error:
            if not self._is_failing:
                self._log.warning("history.unwritten", reason=str(error))
            self._is_failing = True
        else:
            self._is_failing = False

    def _attempt(self, call: Callable[[Samples], _T]) -> _T:
        """Call with the open database; a damaged one is put aside first and the call made again."""
        try:
            return call(self._opened())
        except Damaged as error:
            self._drop()
            now = self._clock()
            folder = put_aside(self._path, now)
            self._log.warning("history.damaged", reason=str(error), kept=str(folder))
            samples = self._opened()
            samples.note(int(now), "damaged", f"{error}; kept in {folder.name}")
            return call(samples)

    def _opened(self) -> Samples:
        if self._samples is None:
            self._samples = Samples(self._path)
        return self._samples

    def _drop(self) -> None:
        if self._samples is not None:
            self._samples.close()
            self._samples = None

    def _query(self, start: int, end: int, points: int) -> Answer:
        waiting = list(self._pending)
        try:
            table, step, start = self._attempt(lambda it: _resolution(it, start, end, points))
            rows = self._attempt(lambda it: it.rows(table, start, end, step))
        except (sqlite3.Error, OSError, NexusError):  # said already, when it was written to
            table, rows = "sample10s", []
            step = _steps(SAMPLE_SECONDS, start, end, points)
            start = start // step * step
        weight = step // TABLES[table][0]
        waiting = [row for row in waiting if start <= row.unix_seconds < end]
        if waiting:
            both = [*((row, weight) for row in rows), *((row, 1) for row in waiting)]
            rows = gather(both, start, step)
        return Answer(float(step), tuple(rows))

    def _everything(self) -> list[tuple[int, HistoryRow]]:
        """Return all that is known with the length of each row, no time twice."""
        self._write()
        try:
            return self._attempt(_lengths_and_rows)
        except (sqlite3.Error, OSError) as error:
            raise ResourceError(f"{self._path}: cannot be read ({error})") from error


class _Counters:
    """From counters that rise to what was added since the last look."""

    def __init__(self) -> None:
        self._hosts: dict[str, tuple[int, int, int]] = {}
        self._bytes = (0, 0)

    def take(self, reading: Reading) -> list[int]:
        """Return what drafted, credited, committed, received and sent have grown by."""
        grown = [0, 0, 0]
        hosts = {host.peer: (host.drafted, host.credited, host.committed) for host in reading.hosts}
        for peer, counts in hosts.items():
            grown = [a + b for a, b in zip(grown, self._since(peer, counts), strict=True)]
        self._hosts = hosts
        now = (reading.received_bytes, reading.sent_bytes)
        grown += [
            count - before if count >= before else count
            for count, before in zip(now, self._bytes, strict=True)
        ]
        self._bytes = now
        return grown

    def _since(self, peer: str, counts: tuple[int, int, int]) -> tuple[int, ...]:
        """A host that was forgotten and found again counts from nothing."""
        before = self._hosts.get(peer, (0, 0, 0))
        if any(count < old for count, old in zip(counts, before, strict=True)):
            before = (0, 0, 0)
        return tuple(count - old for count, old in zip(counts, before, strict=True))


def _resolution(samples: Samples, start: int, end: int, points: int) -> tuple[str, int, int]:
    """Return the table to ask, the step, and the multiple of it before `start`.

    The coarsest table that is fine enough; a coarser one where that does not reach back so far.
    """
    names = list(TABLES)
    fine = [name for name in names if TABLES[name][0] <= (end - start) / points] or names[:1]
    table = fine[-1]
    begins = samples.first(table)
    for coarser in names[names.index(table) + 1 :]:
        first = samples.first(coarser)
        if begins is None or first is None or start >= begins:
            break
        if first + TABLES[coarser][0] <= begins:
            table, begins = coarser, first
    step = _steps(TABLES[table][0], start, end, points)
    return table, step, start // step * step


def _steps(base: int, start: int, end: int, points: int) -> int:
    """Return the multiple of `base` that makes at most `points` steps of the time, though the first
    begins before it."""
    return math.ceil((end - start) / (points - 1) / base) * base


def _lengths_and_rows(samples: Samples) -> list[tuple[int, HistoryRow]]:
    first_minute = samples.first("minute") or 0
    hour = TABLES["hour"][0]
    first_hour = samples.first("hour") or 0
    # Hours that were pruned to minutes in part are given whole, as hours.
    border = first_minute if first_hour + hour > first_minute else -(-first_minute // hour) * hour
    rows = [(hour, row) for row in samples.rows("hour", 0, border // hour * hour, hour)]
    return rows + [(60, row) for row in samples.rows("minute", border, 1 << 40, 60)]


def _csv(rows: list[tuple[int, HistoryRow]]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(CSV_HEADER)
    for seconds, row in rows:
        start, *rest = (getattr(row, field.name) for field in fields(row))
        writer.writerow([start, seconds, *rest])
        if text.tell() > _PIECE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def reading(snapshot: Snapshot, meters: Meters | None = None) -> Reading:
    """Return what history keeps of a snapshot, and of the meters where there are any."""
    plain = Reading(snapshot.state, snapshot.reason, snapshot.hosts)
    if meters is None:
        return plain
    return replace(
        plain,
        celsius=meters.celsius,
        watts=meters.watts,
        received_bytes=meters.received_bytes,
        sent_bytes=meters.sent_bytes,
    )
