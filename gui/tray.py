"""The icon beside the clock: four shapes, a menu, the state as its tooltip."""

from collections.abc import Callable
from datetime import datetime, timedelta

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QHBoxLayout, QMenu, QSystemTrayIcon, QWidget, QWidgetAction

from gui.screens.hero import OVERRIDABLE, OVERRIDE_SECONDS
from gui.status import Status, status_of
from gui.store import Store
from gui.theme.theme import font, icon, pixmap
from gui.theme.tokens import MEDIUM, PLAIN, ROW, STRONG
from gui.widgets.text import Icon, Text
from nexusnode.control.messages import Pause, RunAnyway
from nexusnode.states import Reason, State

MORNING_HOUR = 6
TONES = {"solid": "accent", "bar": "warn", "triangle": "bad", "hollow": "text2"}


class Tray(QObject):
    """Signals: `open_wanted` carries the class name of a page, "" = as it was."""

    open_wanted = Signal(str)
    node_wanted = Signal()
    stop_wanted = Signal()

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store
        self._shown: object = None
        self.menu = QMenu()
        self.item = QSystemTrayIcon(self)
        self.item.setContextMenu(self.menu)
        self.item.activated.connect(self._on_click)
        store.changed.connect(lambda topic: self.refresh())
        self.refresh()

    def show(self) -> None:
        self.item.show()

    def refresh(self) -> None:
        status, live = status_of(self._store), self._live()
        self.item.setToolTip(f"Nexus – {status.title}. {status.sentence}")
        if (status, live) != self._shown and not self.menu.isVisible():
            self._shown = (status, live)
            self.item.setIcon(QIcon(pixmap(f"tray-{status.shape}", TONES[status.shape], 32)))
            self._fill(status, live)

    def _fill(self, status: Status, live: str) -> None:
        self.menu.clear()
        self.menu.setFont(font(ROW, PLAIN))
        self.menu.addAction(self._head(status, live))
        self.menu.addSeparator()
        self._add_actions()
        self.menu.addSeparator()
        self._add("home", self.tr("Open Nexus"), lambda: self.open_wanted.emit(""))
        self._add("clock", self.tr("When to run…"), lambda: self.open_wanted.emit("WhenPage"))
        self.menu.addSeparator()
        self._add("cross", self.tr("Quit and stop the node"), self.stop_wanted.emit)

    def _head(self, status: Status, live: str) -> QWidgetAction:
        """A disabled action would grey its icon, so the state is a widget."""
        head = QWidget()
        row = QHBoxLayout(head)
        row.setContentsMargins(5, 7, 12, 7)
        row.setSpacing(9)
        row.addWidget(Icon(status.icon, status.tone, 16))
        row.addWidget(Text(status.title, ROW, STRONG))
        row.addWidget(Text(live, ROW, MEDIUM, "text2", tabular=True))
        row.addStretch(1)
        action = QWidgetAction(self.menu)
        action.setDefaultWidget(head)
        action.setEnabled(False)
        return action

    def _add_actions(self) -> None:
        snapshot = self._store.snapshot
        if not self._store.is_connected or snapshot is None:
            self._add("play", self.tr("Start again"), self.node_wanted.emit)
        elif snapshot.state != State.PAUSED.value:
            self._add("pause", self.tr("Pause for 30 minutes"), self._pause(1800.0))
            self._add("", self.tr("Pause for 2 hours"), self._pause(7200.0))
            self._add("", self.tr("Pause until tomorrow 06:00"), self._pause_until_morning)
            self._add("", self.tr("Pause until I resume"), self._pause(None))
            if snapshot.state != State.FINISHING.value:
                self._add("finish", self.tr("Finish, then pause"), self._call("finish"))
        elif Reason(snapshot.reason) in OVERRIDABLE:
            anyway = self._call("run_anyway", RunAnyway(OVERRIDE_SECONDS))
            self._add("play", self.tr("Run anyway"), anyway)
            self._add("pause", self.tr("Pause until I resume"), self._pause(None))
        else:
            self._add("play", self.tr("Resume"), self._call("resume"))

    def _add(self, icon_name: str, text: str, run: Callable[[], object]) -> None:
        action = QAction(text, self.menu)
        if icon_name:
            action.setIcon(icon(icon_name, "text2", 16))
        action.triggered.connect(lambda checked=False: run())
        self.menu.addAction(action)

    def _call(self, method: str, params: object = None) -> Callable[[], object]:
        return lambda: self._store.call(method, params)

    def _pause(self, seconds: float | None) -> Callable[[], object]:
        return self._call("pause", Pause(seconds, None))

    def _pause_until_morning(self) -> None:
        self._store.call("pause", Pause(None, int(next_morning(datetime.now()).timestamp())))

    def _live(self) -> str:
        meters = self._store.meters
        if meters is None or not self._store.is_connected:
            return ""
        watts = f"{meters.watts:.0f} W" if meters.watts is not None else ""
        heat = f"{meters.celsius:.0f} °C" if meters.celsius is not None else ""
        return " · ".join(part for part in (watts, heat) if part)

    def _on_click(self, why: QSystemTrayIcon.ActivationReason) -> None:
        if why == QSystemTrayIcon.ActivationReason.Trigger:
            self.open_wanted.emit("")


def next_morning(now: datetime) -> datetime:
    """Return tomorrow 06:00 in the user's own zone."""
    day = now + timedelta(days=1)
    return day.replace(hour=MORNING_HOUR, minute=0, second=0, microsecond=0)
