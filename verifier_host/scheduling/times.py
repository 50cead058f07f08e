"""t(R), how long a step of R rows takes here and now: measured, monotone, guessed in the gaps."""

from bisect import bisect_left
from collections import deque
from math import inf
from statistics import median

import numpy as np

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LATE_STEPS = 15  # whose median counts: one pause of a busy machine must not move it
LEAST_STEPS = 3  # before a bucket counts as measured, for the same reason
FORGOTTEN_STEPS = 512  # older ones no longer count: what once was slow is tried again
# t(R) / t(1) before anything is measured: measured on two cores in fp32; then linear.
_SHAPE = (1.0, 1.0, 1.0, 1.04, 1.13, 1.8, 2.97, 5.9, 11.8, 23.6)
_FIRST_GUESS_SECONDS = 0.05


class StepTimes:
    """Medians of late steps by bucket of rows, and the curve through them.

    Attributes:
        curve: [max_rows + 1] seconds of a step of R rows; never falls with R; curve[0] = curve[1].
    """

    def __init__(self, max_rows: int) -> None:
        self._late: list[deque[tuple[int, float]]] = [deque(maxlen=LATE_STEPS) for _ in BUCKETS]
        self._steps = 0
        self._medians: list[float | None] = [None] * len(BUCKETS)
        self._rows = np.arange(max_rows + 1)
        self.curve: list[float] = []
        self._draw()

    def record(self, rows: int, seconds: float) -> None:
        """Learn from one step."""
        bucket = min(bisect_left(BUCKETS, rows), len(BUCKETS) - 1)
        self._steps += 1
        self._late[bucket].append((self._steps, seconds))
        self._medians[bucket] = self._median(bucket)
        oldest = self._steps % len(BUCKETS)  # one at a time: no step pays for all
        self._medians[oldest] = self._median(oldest)
        self._draw()

    def seconds(self, rows: int) -> float:
        """Return what a step of `rows` is expected to take."""
        return self.curve[min(rows, len(self.curve) - 1)]

    @property
    def measured(self) -> tuple[tuple[int, float], ...]:
        """(rows, median seconds) of each bucket that has been measured."""
        return tuple(
            (rows, seconds)
            for rows, seconds in zip(BUCKETS, self._medians, strict=True)
            if seconds is not None
        )

    def _median(self, bucket: int) -> float | None:
        since = self._steps - FORGOTTEN_STEPS
        late = [seconds for step, seconds in self._late[bucket] if step > since]
        return median(late) if len(late) >= LEAST_STEPS else None

    def _draw(self) -> None:
        known = [
            (index, seconds / _SHAPE[index])
            for index, seconds in enumerate(self._medians)
            if seconds is not None
        ]
        scale = known[0][1] if known else _FIRST_GUESS_SECONDS
        knots = []
        for index, shape in enumerate(_SHAPE):
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
