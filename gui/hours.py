"""The week in half hours: what the grid of "When to run" shows, read from `run.hours` and written.

Pure. The daemon alone decides by these texts (`run.timezone` says whose clock they are in).
"""

import re
from collections.abc import Iterable

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SLOTS = 48  # half hours of a day
WEEK = len(DAYS) * SLOTS
_FORM = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? +(\d\d?):(\d\d)-(\d\d?):(\d\d)")


def read_hours(texts: Iterable[str]) -> tuple[frozenset[int], tuple[str, ...]]:
    """Return the half hours of the week that run, and the texts that are not understood.

    Half hour 0 begins on Monday at 00:00. One that is covered in part counts as covered. An end
    that is not after its start belongs to the next day ("fri 23:00-02:00").
    """
    covered: set[int] = set()
    unread = []
    for text in texts:
        found = _FORM.fullmatch(text.strip().lower())
        window = _window(*found.groups()) if found else None
        if window is None:
            unread.append(text)
            continue
        days, start, end = window
        for day in days:
            covered |= {(day * SLOTS + slot) % WEEK for slot in range(start // 30, -(-end // 30))}
    return frozenset(covered), tuple(unread)


def write_hours(covered: Iterable[int]) -> tuple[str, ...]:
    """Return texts that `read_hours` reads as these half hours: one for each stretch of a day."""
    wanted = frozenset(covered)
    texts = []
    for day, name in enumerate(DAYS):
        slot = 0
        while slot < SLOTS:
            if day * SLOTS + slot not in wanted:
                slot += 1
                continue
            start = slot
            while slot < SLOTS and day * SLOTS + slot in wanted:
                slot += 1
            texts.append(f"{name} {clock(start)}-{clock(slot)}")
    return tuple(texts)


def clock(slot: int) -> str:
    """Return when a half hour of a day begins; that after the last is 24:00."""
    return f"{slot // 2:02d}:{slot % 2 * 30:02d}"


def _window(first: str, last: str | None, *times: str) -> tuple[tuple[int, ...], int, int] | None:
    """Return days, start and end in minutes of the day; the end may lie past midnight."""
    if first not in DAYS or (last or first) not in DAYS:
        return None
    start_hour, start_minute, end_hour, end_minute = map(int, times)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if max(start_minute, end_minute) > 59 or start >= 24 * 60 or end > 24 * 60:
        return None
    begin = DAYS.index(first)
    length = (DAYS.index(last or first) - begin) % len(DAYS) + 1
    days = tuple((begin + offset) % len(DAYS) for offset in range(length))
    return days, start, end if end > start else end + 24 * 60
