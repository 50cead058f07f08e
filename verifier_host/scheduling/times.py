"""t(R), how long a step of R rows takes here and now: measured, monotone, guessed in the gaps.

Attention makes it grow with the tokens that are cached, too, so there is a table for each of a few
ranges of them.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from math import inf
from statistics import median

import numpy as np

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CACHED = (512, 2048, 8192, 32_768)  # tokens of a step's sessions, at most; one table more for more
LATE_STEPS = 15  # whose median counts: one pause of a busy machine must not move it
LEAST_STEPS = 3  # before a bucket counts as measured, for the same reason
FORGOTTEN_STEPS = 512  # older ones no longer count: what once was slow is tried again
# t(R) / t(1) before anything is measured: fp32 on two cores with AVX-512; then linear.
SHAPE = (1.0, 1.0, 1.0, 1.04, 1.13, 1.8, 2.97, 5.9, 11.8, 23.6)
_FIRST_GUESS_SECONDS = 0.05


def shape_of(measured: Sequence[tuple[int, float]]) -> tuple[float, ...]:
    """Return t(R) / t(1) by bucket from a trial at load; beyond its last size as `SHAPE` grows.

    Args:
        measured: (rows, seconds), rows rising from 1.
    """
    if not measured:
        return SHAPE
    sizes, seconds = zip(*measured, strict=True)
    last = sizes[-1]
    known = np.interp(BUCKETS, sizes, np.maximum.accumulate(seconds)) / seconds[0]
    beyond = np.interp(last, BUCKETS, SHAPE)
    return tuple(
        float(ratio if rows <= last else ratio * SHAPE[at] / beyond)
        for at, (rows, ratio) in enumerate(zip(BUCKETS, known, strict=True))
    )


class StepTimes:
    """The tables; `look` says which of them the rest speaks of."""

    def __init__(self, max_rows: int, shape: Sequence[float] = SHAPE) -> None:
        self._tables = [Table(max_rows, shape) for _ in range(len(CACHED) + 1)]
        self._at = 0
        self._now = self._tables[0]

    def look(self, cached: int) -> None:
        """Speak of steps whose sessions have `cached` tokens in all."""
        self._at = bisect_left(CACHED, cached)
        self._now = self._nearest()

    def record(self, rows: int, seconds: float) -> None:
        """Learn from one step."""
        self._tables[self._at].record(rows, seconds)
        self._now = self._nearest()

    def seconds(self, rows: int) -> float:
        """Return what a step of `rows` is expected to take."""
        curve = self.curve
        return curve[min(rows, len(curve) - 1)]

    @property
    def curve(self) -> list[float]:
        """[max_rows + 1] seconds of a step of R rows; never falls with R; curve[0] = curve[1]."""
        return self._now.curve

    @property
    def measured(self) -> tuple[tuple[int, float], ...]:
        """(rows, median seconds) of each bucket that has been measured."""
        return self._now.measured

    def _nearest(self) -> "Table":
        """The table that was asked for, or the nearest that knows anything, smaller ones first."""
        own = self._tables[self._at]
        if own.measured:
            return own
        ranked = sorted(range(len(self._tables)), key=lambda at: (abs(at - self._at), at))
        return next((self._tables[at] for at in ranked if self._tables[at].measured), own)


class Table:
    """Medians of late steps by bucket of rows, and the curve through them."""

    def __init__(self, max_rows: int, shape: Sequence[float]) -> None:
        self._shape = shape
        self._late: list[deque[tuple[int, float]]] = [deque(maxlen=LATE_STEPS) for _ in BUCKETS]
        self._medians: list[float | None] = [None] * len(BUCKETS)
        self._rows = np.arange(max_rows + 1)
        self._steps = 0
        self.measured: tuple[tuple[int, float], ...] = ()
        self.curve: list[float] = []
        self._draw()

    def record(self, rows: int, seconds: float) -> None:
        bucket = min(bisect_left(BUCKETS, rows), len(BUCKETS) - 1)
        self._steps += 1
        self._late[bucket].append((self._steps, seconds))
        self._medians[bucket] = self._median(bucket)
        oldest = self._steps % len(BUCKETS)  # one at a time: no step pays for all
        self._medians[oldest] = self._median(oldest)
        self._draw()

    def _median(self, bucket: int) -> float | None:
        since = self._steps - FORGOTTEN_STEPS
        late = [seconds for step, seconds in self._late[bucket] if step > since]
        return median(late) if len(late) >= LEAST_STEPS else None

    def _draw(self) -> None:
        found = zip(BUCKETS, self._medians, strict=True)
        self.measured = tuple((rows, seconds) for rows, seconds in found if seconds is not None)
        known = [
            (index, seconds / self._shape[index])
            for index, seconds in enumerate(self._medians)
            if seconds is not None
        ]
        scale = known[0][1] if known else _FIRST_GUESS_SECONDS
        knots = []
        for index, shape in enumerate(self._shape):
            scale = next((found for at, found in known if at == index), scale)
            knots.append(scale * shape)
        # What is guessed between two measured buckets is not above the second.
        limit = inf
        for index in reversed(range(len(knots))):
            measured = self._medians[index]
            limit = limit if measured is None else measured
            knots[index] = min(knots[index], limit)
        monotone = np.maximum.accumulate(np.array(knots))
        self.curve = np.interp(self._rows, BUCKETS, monotone).tolist()
