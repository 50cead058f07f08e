"""What the plot and the day's figures make of the rows of `history.query`. No widgets here."""

from datetime import datetime

from PySide6.QtCore import QCoreApplication

from gui.status import translated
from gui.widgets.plot import Band, Series
from nexusnode.control.messages import History, HistoryRow, Snapshot
from nexusnode.states import Reason, State, describe

SPANS = (3600, 86_400, 7 * 86_400)


def series_of(history: History, start: float, end: float, snapshot: Snapshot | None) -> Series:
    """Split the rows into running stretches (kept tokens per minute) and named pauses."""
    step = max(1.0, history.step_seconds)
    runs: list[tuple[tuple[float, float], ...]] = []
    bands: list[Band] = []
    for is_paused, rows in _stretches(history.rows, step):
        first, last = rows[0].unix_seconds, rows[-1].unix_seconds + step
        if is_paused:
            bands.append(Band(first, last, _band_text(rows[0].reason, snapshot)))
        else:
            points = [(row.unix_seconds + step, row.credited * 60 / step) for row in rows]
            runs.append(((float(first), points[0][1]), *points))
    return Series(start, end, tuple(runs), tuple(bands))


def midnight() -> int:
    """Return when today began, in unix seconds."""
    return int(datetime.now().replace(hour=0, minute=0, second=0, microsecond=0).timestamp())


def kept_tokens(history: History) -> int:
    return sum(row.credited for row in history.rows)


def kilowatt_hours(history: History) -> float | None:
    """Return the device's energy over the rows; None if no row tells its power."""
    watts = [row.watts for row in history.rows if row.watts is not None]
    return sum(watts) * history.step_seconds / 3_600_000 if watts else None


def _stretches(rows: tuple[HistoryRow, ...], step: float) -> list[tuple[bool, list[HistoryRow]]]:
    found: list[tuple[bool, list[HistoryRow]]] = []
    for row in rows:
        is_paused = row.state == State.PAUSED.value
        follows = found and row.unix_seconds - found[-1][1][-1].unix_seconds < 2.5 * step
        if follows and found[-1][0] == is_paused:
            found[-1][1].append(row)
        else:
            found.append((is_paused, [row]))
    return found


def _band_text(reason: str, snapshot: Snapshot | None) -> str:
    if reason == Reason.INPUT.value:
        return QCoreApplication.translate("Home", "You were working")
    title = describe(Reason(reason), (), "").title
    if snapshot is not None:
        title = translated(describe(Reason(reason), (), ""), snapshot).title
    return title.split(": ", 1)[-1].capitalize()
