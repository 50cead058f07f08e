"""Keeps one sensor honest: a deadline for every reading, a rest after failures, and why it is
silent."""

from collections.abc import Callable
from typing import NoReturn

import trio

from nexusnode.sensors.sensor import CannotTell, Reading, Sensor

DEADLINE_SECONDS = 2.0  # a blocking display once froze BOINC's main thread (BOINC #7064)
MAX_FAILURES = 3
SURVEY_SECONDS = 60.0  # a silent one is asked again so often: somebody may have logged in


class Watch:
    """One supervised sensor. `reading` is None while it cannot tell; `why_not` then says why.

    Args:
        changed: called after each question; must not block.
    """

    def __init__(
        self, sensor: Sensor, boot_clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self.sensor = sensor
        self.reading: Reading | None = None
        self.why_not = "It has not been asked yet."
        self._boot_clock = boot_clock
        self._changed = changed
        self._failures = 0
        self._read_at = 0.0
        self._asking = trio.Lock()

    @property
    def last_input(self) -> float | None:
        """Boot seconds of the last input, by what was read last; None = it does not say."""
        if self.reading is None or self.reading.idle_seconds is None:
            return None
        return self._read_at - self.reading.idle_seconds

    async def run(self) -> NoReturn:
        """Ask for ever, as often as the sensor says; rarely while it cannot tell."""
        try:
            while True:
                await self.ask()
                silent = self.reading is None and self._failures >= MAX_FAILURES
                await trio.sleep(SURVEY_SECONDS if silent else self.sensor.period_seconds)
        finally:
            with trio.CancelScope(shield=True):
                await self.sensor.close()

    async def ask(self) -> None:
        """Ask once. What was said last stands for the first failures, not for the third."""
        async with self._asking:
            await self._ask()

    async def _ask(self) -> None:
        try:
            with trio.fail_after(DEADLINE_SECONDS):
                self.reading = await self.sensor.read()
            self._read_at = self._boot_clock()
        except trio.TooSlowError:
            await self._failed(f"It did not answer within {DEADLINE_SECONDS:.0f} s.")
        except (CannotTell, OSError, trio.BrokenResourceError) as error:
            await self._failed(str(error))
        except BaseException as error:
            if isinstance(error, Exception):  # a bug: what was said last must not stand for ever
                self._failures = MAX_FAILURES
                await self._failed(f"It failed with {type(error).__name__}.")
                self._changed()
            else:  # cancelled: half an answer must not be read as the next one
                with trio.CancelScope(shield=True):
                    await self.sensor.close()
            raise
        else:
            self._failures, self.why_not = 0, ""
        self._changed()

    async def _failed(self, why: str) -> None:
        self._failures += 1
        self.why_not = why
        if self.reading is None or self._failures >= MAX_FAILURES:
            self.reading, self._failures = None, MAX_FAILURES
        with trio.CancelScope(shield=True):
            await self.sensor.close()
