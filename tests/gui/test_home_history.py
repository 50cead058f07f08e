"""What the plot makes of the past, and the day's sums."""

from datetime import datetime

import pytest

from gui.screens.checklist import length
from gui.screens.history import kept_tokens, kilowatt_hours, series_of
from gui.tray import next_morning
from gui.widgets.plot import ceiling
from nexusnode.control.messages import History, HistoryRow


def row(minute: int, credited: int = 0, reason: str = "ok", watts: float | None = None):
    state = "running" if reason == "ok" else "paused"
    return HistoryRow(minute * 60, state, reason, 0, credited, 0, None, watts, 0, 0)


def test_runs_and_pauses_are_told_apart():
    past = History(60.0, (row(0, 100), row(1, 200), row(2, reason="input"), row(3, 300)))

    series = series_of(past, 0, 240, None)

    assert [[value for _, value in run] for run in series.runs] == [[100, 100, 200], [300, 300]]
    assert [(band.start, band.end, band.text) for band in series.bands] == [
        (120, 180, "You were working")
    ]


def test_a_gap_without_rows_breaks_the_line():
    series = series_of(History(60.0, (row(0, 100), row(10, 100))), 0, 660, None)

    assert len(series.runs) == 2
    assert not series.bands


def test_rates_are_per_minute_whatever_the_step():
    series = series_of(History(3600.0, (row(0, 6000),)), 0, 3600, None)

    assert series.runs[0][-1] == (3600.0, 100.0)


def test_the_day_sums_up():
    day = History(1800.0, (row(0, 10, watts=100.0), row(30, 20, watts=300.0)))

    assert kept_tokens(day) == 30
    assert kilowatt_hours(day) == pytest.approx(0.2)
    assert kilowatt_hours(History(60.0, (row(0, 1),))) is None


@pytest.mark.parametrize(
    ("value", "top"), [(0, 4), (4, 4), (5, 6), (61, 80), (80, 80), (81, 100), (799, 800)]
)
def test_the_axis_ends_at_a_round_number(value, top):
    assert ceiling(value) == top


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(12, "12 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "2 h")],
)
def test_spans_are_said_as_people_do(qapp, seconds, said):
    assert length(seconds) == said


def test_tomorrow_morning_is_a_wall_time_also_over_a_month_end():
    assert next_morning(datetime(2026, 11, 30, 23, 5)) == datetime(2026, 12, 1, 6, 0)
