"""The week's half hours, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gui.hours import SLOTS, WEEK, read_hours, write_hours


@pytest.mark.parametrize(
    ("text", "half_hours"),
    [
        ("mon 00:00-01:00", {0, 1}),
        ("tue 09:15-10:00", {SLOTS + 18, SLOTS + 19}),
        ("mon-tue 23:30-24:00", {47, SLOTS + 47}),
        ("sun 23:30-00:30", {WEEK - 1, 0}),
        ("sat-mon 12:00-12:30", {5 * SLOTS + 24, 6 * SLOTS + 24, 24}),
    ],
)
def test_a_window_covers_its_half_hours(text: str, half_hours: set[int]) -> None:
    assert read_hours([text]) == (half_hours, ())


@pytest.mark.parametrize("text", ["", "noon", "mon 9-10", "xyz 09:00-10:00", "mon 09:60-10:00",
                                  "mon 24:00-01:00", "mon 09:00-24:30"])  # fmt: skip
def test_a_text_that_is_no_window_is_named(text: str) -> None:
    assert read_hours([text, "mon 00:00-00:30"]) == ({0}, (text,))


@given(st.frozensets(st.integers(0, WEEK - 1)))
def test_what_is_written_is_read_back(half_hours: frozenset[int]) -> None:
    assert read_hours(write_hours(half_hours)) == (half_hours, ())


def test_a_whole_week_is_one_window_a_day() -> None:
    assert write_hours(range(WEEK))[0] == "mon 00:00-24:00"
    assert len(write_hours(range(WEEK))) == 7
