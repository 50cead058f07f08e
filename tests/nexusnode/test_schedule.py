from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusnode.policy.schedule import is_open, next_change, next_midnight, parse_hours


def unix(*when: int, zone: str = "UTC") -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("texts", "minutes"),
    [
        (["mon 09:00-17:30"], ((540, 1050),)),
        (["tue 22:00-02:00"], ((1440 + 1320, 2 * 1440 + 120),)),
        (["sat-sun 00:00-24:00"], ((5 * 1440, 6 * 1440), (6 * 1440, 7 * 1440))),
        (["sun-mon 8:15-9:00"], ((6 * 1440 + 495, 6 * 1440 + 540), (495, 540))),
        ([" FRI 01:00-01:00 "], ((4 * 1440 + 60, 5 * 1440 + 60),)),
    ],
)
def test_days_and_hours_are_minutes_of_the_week(
    texts: list[str], minutes: tuple[tuple[int, int], ...]
) -> None:
    assert parse_hours(texts) == minutes


@pytest.mark.parametrize(
    "text",
    ["", "mon", "mon 9-17", "day 09:00-10:00", "mon 24:00-10:00", "mon 09:00-24:15",
     "mon 09:60-10:00", "mon 09:05-10:00", "mon-xyz 09:00-10:00", "mon 09:00-10:00 x"],
)  # fmt: skip
def test_what_is_no_stretch_of_the_week_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected days and hours"):
        parse_hours([text])


def test_a_stretch_over_the_end_of_the_week_goes_on_on_monday() -> None:
    hours = parse_hours(["sun 22:00-06:00"])

    assert is_open(hours, UTC, unix(2026, 3, 1, 23))
    assert is_open(hours, UTC, unix(2026, 3, 2, 5, 59))
    assert not is_open(hours, UTC, unix(2026, 3, 2, 6))
    assert next_change(hours, UTC, unix(2026, 3, 2, 1)) == unix(2026, 3, 2, 6)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 2),
        ("Europe/Berlin", (2026, 10, 25), 4),
        ("Europe/Berlin", (2026, 6, 7), 3),
        ("America/New_York", (2026, 3, 8), 2),
        ("America/New_York", (2026, 11, 1), 4),
        ("Australia/Lord_Howe", (2026, 4, 5), 3.5),  # half an hour only
        ("Asia/Kathmandu", (2026, 3, 29), 3),
    ],
)
def test_a_night_with_a_clock_change_has_as_many_hours_as_it_has(
    zone: str, day: tuple[int, int, int], hours: float
) -> None:
    stretch = parse_hours(["sun 01:00-04:00"])
    start, end = unix(*day, 1, 0, zone=zone), unix(*day, 4, 0, zone=zone)

    assert is_open(stretch, ZoneInfo(zone), start)
    assert not is_open(stretch, ZoneInfo(zone), start - 1)
    assert not is_open(stretch, ZoneInfo(zone), end)
    assert next_change(stretch, ZoneInfo(zone), start + 60) == end
    assert end - start == hours * 3600


@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(0, 366 * 86_400),
    st.lists(st.sampled_from(["mon 09:00-17:30", "sat-sun 00:00-24:00", "wed-thu 22:15-02:45"])),
)
def test_nothing_changes_before_the_next_change_and_then_it_does(
    name: str, after: int, texts: list[str]
) -> None:
    hours, zone = parse_hours(texts), ZoneInfo(name)
    now = unix(2026, 1, 1) + after

    change = next_change(hours, zone, now)

    if change is None:
        assert not texts
    else:
        assert now < change <= now + timedelta(days=8).total_seconds()
        assert is_open(hours, zone, change) != is_open(hours, zone, now)
        assert is_open(hours, zone, change - 1) == is_open(hours, zone, now)


def test_the_next_day_begins_at_midnight_of_the_zone_also_when_the_clocks_change() -> None:
    zone = ZoneInfo("Europe/Berlin")

    assert next_midnight(zone, unix(2026, 3, 29, 0, 30, zone="Europe/Berlin")) == unix(
        2026, 3, 29, 22
    )
