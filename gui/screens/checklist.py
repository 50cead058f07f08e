"""Home's list of everything that must hold for the node to run, and what does not."""

from collections.abc import Iterator
from dataclasses import dataclass

from PySide6.QtCore import QCoreApplication
from PySide6.QtWidgets import QHBoxLayout, QWidget

from gui.status import blocker_words, words_of
from gui.store import Store
from gui.theme.tokens import MEDIUM, PLAIN, ROW, SMALL
from gui.widgets.card import Card
from gui.widgets.text import Icon, Text
from nexusnode.control.messages import Meters, Snapshot
from nexusnode.states import Reason, State


@dataclass(frozen=True, slots=True)
class Check:
    """One line. `holds` None: nothing here can tell, which forbids nothing."""

    icon: str
    text: str
    detail: str
    holds: bool | None


class Checklist(Card):
    def __init__(self, store: Store) -> None:
        super().__init__(_tr("Why it is running"), gap=4, head=34)
        self._store = store
        self._shown: tuple[Check, ...] = ()
        self._lines: list[Line] = []

    def refresh(self) -> None:
        snapshot = self._store.snapshot
        if snapshot is None:
            return
        is_clear = snapshot.state != State.PAUSED.value and not snapshot.missing
        self.set_title(_tr("Why it is running") if is_clear else _tr("What it waits for"))
        checks = tuple(checks_of(self._store, snapshot, self._store.meters))
        if checks != self._shown:
            self._shown = checks
            self._show()

    def _show(self) -> None:
        """Reuse the lines: their texts change by the second, their number rarely."""
        while len(self._lines) < len(self._shown):
            line = Line()
            self._lines.append(line)
            self.box.addStretch(1)
            self.box.addWidget(line)
        for index, line in enumerate(self._lines):
            line.setVisible(index < len(self._shown))
            if index < len(self._shown):
                line.show_check(self._shown[index])


class Line(QWidget):
    """One condition: drawing, words, a figure, and whether it holds."""

    def __init__(self) -> None:
        super().__init__()
        self._icon = Icon("check", "text2", 18)
        self._words = Text("", ROW, PLAIN, wrap=True)
        self._detail = Text("", SMALL, PLAIN, "text2", tabular=True)
        self._mark = Icon("check", "accent", 18)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        row.addWidget(self._icon)
        row.addWidget(self._words, 1)
        row.addWidget(self._detail)
        row.addWidget(self._mark)

    def show_check(self, check: Check) -> None:
        self._icon.show_icon(check.icon, "text2")
        self._words.setText(check.text)
        self._words.set_weight(MEDIUM if check.holds is False else PLAIN)
        self._detail.setText(check.detail)
        self._detail.setVisible(bool(check.detail))
        self._mark.setVisible(check.holds is not None)
        self._mark.show_icon(*(("check", "accent") if check.holds else ("clock", "warn")))
        said = {True: _tr("yes"), False: _tr("waiting for this"), None: _tr("unknown")}
        self.setAccessibleName(f"{check.text} {check.detail}: {said[check.holds]}")


def checks_of(store: Store, snapshot: Snapshot, meters: Meters | None) -> Iterator[Check]:
    """Yield what blocks first, then the conditions that always stand here."""
    blockers = {Reason(value) for value in snapshot.blockers} - {Reason.OK}
    standing = tuple(_standing(store, meters))
    grouped = {reason for reasons, _ in standing for reason in reasons}
    for missing in snapshot.missing[:1] if snapshot.state != State.PAUSED.value else ():
        words = words_of(snapshot)
        yield Check(words.icon, words.title, "", not missing)
    for reason in sorted(blockers - grouped, key=list(Reason).index):
        yield _blocked(reason, snapshot)
    for reasons, check in standing:
        hit = next((reason for reason in Reason if reason in reasons & blockers), None)
        yield _blocked(hit, snapshot) if hit else check


def _standing(store: Store, meters: Meters | None) -> Iterator[tuple[set[Reason], Check]]:
    idle = {Reason.INPUT, Reason.IDLE_UNKNOWN}
    yield idle, _idle_check(store, meters)
    yield {Reason.BATTERY}, _sensed(meters, "power", "plug", _tr("On mains power"))
    yield (
        {Reason.METERED, Reason.BANDWIDTH},
        _sensed(meters, "network", "wifi", _tr("Network is not metered")),
    )
    games = {Reason.FULLSCREEN, Reason.EXCLUSIVE_APP}
    yield games, Check("game", _tr("No game or full-screen program"), "", True)
    yield {Reason.HOT}, _heat_check(store, meters)
    yield {Reason.SCHEDULE}, Check("calendar", _tr("Your hours allow this time"), "", True)


def _idle_check(store: Store, meters: Meters | None) -> Check:
    if store.setting("run.when") == '"always"':
        return Check("keyboard", _tr("Runs while you work, too"), "", True)
    if meters is None or meters.idle_seconds is None:
        return Check("keyboard", _tr("You are away"), "", True)
    text = _tr("No input for {0}").format(length(meters.idle_seconds))
    minutes = store.setting("run.idle_minutes")
    detail = _tr("starts at {0} min").format(minutes) if minutes else ""
    return Check("keyboard", text, detail, True)


def _heat_check(store: Store, meters: Meters | None) -> Check:
    if meters is None or meters.celsius is None:
        return Check("thermo", _tr("No temperature to read here"), "", None)
    limit = store.setting("limits.hot_celsius")
    detail = _tr("limit {0} °C").format(limit) if limit else ""
    return Check("thermo", _tr("Temperature {0} °C").format(round(meters.celsius)), detail, True)


def _sensed(meters: Meters | None, kind: str, icon: str, text: str) -> Check:
    """Say `text`, or that nothing here can tell: then the condition forbids nothing."""
    sensors = [s for s in (meters.sensors if meters else ()) if s.kind == kind]
    if sensors and not any(sensor.works for sensor in sensors):
        return Check(icon, text, _tr("cannot tell"), None)
    return Check(icon, text, "", True)


def _blocked(reason: Reason, snapshot: Snapshot) -> Check:
    words = blocker_words(reason.value, snapshot)
    text = words.title.split(": ", 1)[-1]
    return Check(words.icon, text[:1].upper() + text[1:], "", False)


def length(seconds: float) -> str:
    """Return a time span as people say it."""
    if seconds < 90:
        return _tr("{0} s").format(round(seconds))
    if seconds < 5400:
        return _tr("{0} min").format(round(seconds / 60))
    return _tr("{0} h").format(round(seconds / 3600))


def _tr(text: str) -> str:
    return QCoreApplication.translate("Home", text)
