"""The hours of the week in which the node may run, on a clock that people read.

Stretches begin and end on quarter hours. What is asked for is found by walking real quarter hours,
so that a night with a clock change has as many as it has.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
WEEK = 7 * DAY
QUARTER = 15
_QUARTER_SECONDS = QUARTER * 60
_FORM = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? +(\d\d?):(\d\d)-(\d\d?):(\d\d)")

Hours = tuple[tuple[int, int], ...]


def parse_hours(texts: Iterable[str]) -> Hours:
    """Return the stretches of "mon 09:00-17:30", "mon-fri 18:00-02:00", in minutes of the week.

    Raises:
        ValueError: says which text cannot be read and what is expected.
    """
    return tuple(stretch for text in texts for stretch in _stretches(text))


def is_open(hours: Hours, zone: tzinfo, unix_seconds: float) -> bool:
    """Whether the node may run at that time; no hours = always."""
    if not hours:
        return True
    local = datetime.fromtimestamp(unix_seconds, UTC).astimezone(zone)
    minute = local.weekday() * DAY + local.hour * 60 + local.minute
    return any(start <= minute < end or start <= minute + WEEK < end for start, end in hours)


def next_change(hours: Hours, zone: tzinfo, unix_seconds: float) -> float | None:
    """Return when `is_open` changes next; None = not within a week."""
    if not hours:
        return None
    return _change_after(hours, zone, int(unix_seconds // _QUARTER_SECONDS))


def next_midnight(zone: tzinfo, unix_seconds: float) -> float:
    """Return when the next day begins."""
    local = datetime.fromtimestamp(unix_seconds, UTC).astimezone(zone)
    day = local.date() + timedelta(days=1)
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


@lru_cache(maxsize=16)  # asked every second, and the answer holds for a quarter of an hour
def _change_after(hours: Hours, zone: tzinfo, quarter: int) -> float | None:
    now = is_open(hours, zone, quarter * _QUARTER_SECONDS)
    for later in range(quarter + 1, quarter + WEEK // QUARTER + 8):
        if is_open(hours, zone, later * _QUARTER_SECONDS) != now:
            return float(later * _QUARTER_SECONDS)
    return None


def _stretches(text: str) -> list[tuple[int, int]]:
    found = _FORM.fullmatch(text.strip().lower())
    first, last, *times = found.groups() if found else ("", "", "0", "0", "0", "0")
    last = last or first
    start_hour, start_minute, end_hour, end_minute = map(int, times)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if (
        {first, last} - set(DAYS)
        or max(start_minute, end_minute) > 59
        or start >= DAY
        or end > DAY
        or start % QUARTER
        or end % QUARTER
    ):
        raise ValueError(
            f'"{text[:40]}": expected days and hours such as "mon-fri 18:00-23:30",'
            " on quarter hours"
        )
    if end <= start:  # over midnight
        end += DAY
    begin = DAYS.index(first)
    days = (DAYS.index(last) - begin) % 7 + 1
    return [((begin + day) % 7 * DAY + start, (begin + day) % 7 * DAY + end) for day in range(days)]
