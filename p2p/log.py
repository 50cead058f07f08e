"""Structured events on stdlib logging: a dotted name and fields, as a line for people or as JSON.

Never prompts, text, keys or a peer's raw bytes: an event says what happened, not what was in it.
"""

import json
import logging
import sys
import time
from collections import deque
from dataclasses import dataclass

RING_EVENTS = 2_000  # what window and diagnostics can look back on
Field = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `unix_seconds` is wall time, for people."""

    unix_seconds: float
    level: str
    name: str
    fields: tuple[tuple[str, Field], ...]

    def line(self) -> str:
        """Return the event as a line for people."""
        at = time.strftime("%H:%M:%S", time.localtime(self.unix_seconds))
        rest = " ".join(f"{key}={value}" for key, value in self.fields)
        return f"{at} {self.level.lower():7} {self.name} {rest}".rstrip()

    def json(self) -> str:
        """Return the event as one line of JSON."""
        head: dict[str, Field] = {"t": self.unix_seconds, "level": self.level, "event": self.name}
        return json.dumps(head | dict(self.fields))


class Log:
    """Where a process's events go: standard error, and a ring that can be read back."""

    def __init__(self, logger: logging.Logger, ring: deque[Event]) -> None:
        self._logger = logger
        self._ring = ring

    def event(self, name: str, /, level: int = logging.INFO, **fields: Field) -> None:
        """Record that `name` happened."""
        record = Event(time.time(), logging.getLevelName(level), name, tuple(fields.items()))
        self._ring.append(record)
        self._logger.log(level, name, extra={"nexus_event": record})

    def warning(self, name: str, /, **fields: Field) -> None:
        """Record something that an operator should look at."""
        self.event(name, logging.WARNING, **fields)

    def failure(self, name: str, error: BaseException, /, **fields: Field) -> None:
        """Record a bug, with its traceback."""
        self.event(name, logging.ERROR, error=f"{type(error).__name__}: {error}", **fields)
        self._logger.error("traceback of %s", name, exc_info=error)

    def recent(self) -> tuple[Event, ...]:
        """Return the last events, oldest first."""
        return tuple(self._ring)


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, "nexus_event", None)
        if not isinstance(event, Event):
            text = super().format(record)
            event = Event(record.created, record.levelname, "log", (("text", text),))
        return event.json() if self._as_json else event.line()


def open_log(role: str, *, as_json: bool = False, level: int = logging.INFO) -> Log:
    """Return the log of this process, writing to standard error. Call it once, at start."""
    logger = logging.getLogger(f"nexus.{role}")
    logger.setLevel(level)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json))
    logger.handlers = [handler]
    return Log(logger, deque(maxlen=RING_EVENTS))


def quiet_log(role: str = "quiet") -> Log:
    """Return a log that only keeps its ring: for tests, and commands with words of their own."""
    logger = logging.getLogger(f"nexus.{role}")
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    return Log(logger, deque(maxlen=RING_EVENTS))
