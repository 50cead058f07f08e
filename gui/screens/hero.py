"""Home's first card: what the node does, why, and the one thing to do about it."""

from PySide6.QtCore import QCoreApplication, Signal
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QVBoxLayout

from gui.status import status_of
from gui.store import Store
from gui.theme.tokens import BODY, PLAIN, STATE, STRONG
from gui.widgets.buttons import Button, PrimaryButton
from gui.widgets.card import Card
from gui.widgets.disc import Disc
from gui.widgets.text import Text
from nexusnode.control.messages import Pause, RunAnyway
from nexusnode.states import Reason, State

OVERRIDE_SECONDS = 3600.0
OVERRIDABLE = {Reason.INPUT, Reason.FULLSCREEN, Reason.SCHEDULE, Reason.IDLE_UNKNOWN}
WISHES = {Reason.USER_PAUSE, Reason.SNOOZE, Reason.PAUSE_UNKNOWN, Reason.FINISH}
# Where the setting lies that a pause comes from.
PLACES = {
    Reason.BATTERY: "WhenPage",
    Reason.EXCLUSIVE_APP: "WhenPage",
    Reason.HOT: "ResourcesPage",
    Reason.NO_MEMORY: "ResourcesPage",
    Reason.METERED: "WhenPage",
    Reason.BANDWIDTH: "ResourcesPage",
    Reason.DISK: "ResourcesPage",
}


class Hero(Card):
    """Signals as those of `Page`."""

    page_wanted = Signal(str)
    node_wanted = Signal()

    def __init__(self, store: Store) -> None:
        super().__init__(padding=16)
        self._store = store
        self._intent = ""
        self.disc = Disc()
        self.title = Text("", STATE, STRONG, wrap=True)
        self.sentence = Text("", BODY, PLAIN, "text2", wrap=True)
        self.finish = Button(_tr("Finish, then pause"))
        self.main = PrimaryButton(_tr("Pause"), "pause-solid")
        words = QVBoxLayout()
        words.setSpacing(8)
        words.addStretch(1)
        words.addWidget(self.title)
        words.addWidget(self.sentence)
        words.addStretch(1)
        row = QHBoxLayout()
        row.setSpacing(16)
        row.addWidget(self.disc)
        row.addSpacing(4)
        row.addLayout(words, 1)
        self._buttons = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._buttons.setSpacing(12)
        self._buttons.addWidget(self.finish)
        self._buttons.addWidget(self.main)
        row.addLayout(self._buttons)
        self.box.addLayout(row)
        self.finish.clicked.connect(lambda: self._send("finish"))
        self.main.clicked.connect(self._act)

    def set_narrow(self, is_narrow: bool) -> None:
        """Stack the buttons, so that the words keep room."""
        way = QBoxLayout.Direction
        self._buttons.setDirection(way.BottomToTop if is_narrow else way.LeftToRight)

    def refresh(self) -> None:
        status = status_of(self._store)
        self.title.setText(status.title)
        self.sentence.setText(status.sentence)
        self.setAccessibleName(f"{status.title}. {status.sentence}")
        self.disc.show_state(status.icon, status.tone, status.duty)
        self.disc.setAccessibleName(status.title)
        self.set_tone("bad" if status.tone == "bad" else "")
        snapshot = self._store.snapshot
        runs = (State.RUNNING.value, State.THROTTLED.value)
        is_running = snapshot is not None and snapshot.state in runs
        self.finish.setVisible(self._store.is_connected and is_running)
        self._offer()

    def _offer(self) -> None:
        """Choose the main action: what helps most in this state."""
        snapshot = self._store.snapshot
        if self._store.is_starting:
            self._set("", "", "")
        elif not self._store.is_connected:
            mismatch = (self._store.trouble or ("", ""))[0] == "control.api-mismatch"
            text = _tr("Restart the node") if mismatch else _tr("Start again")
            self._set("start", text, "play-solid")
        elif snapshot is None:
            self._set("", "", "")
        elif snapshot.state != State.PAUSED.value:
            self._set("pause", _tr("Pause"), "pause-solid")
        elif (reason := Reason(snapshot.reason)) in WISHES:
            self._set("resume", _tr("Resume"), "play-solid")
        elif reason in OVERRIDABLE:
            self._set("run_anyway", _tr("Run anyway"), "play-solid")
        elif reason in PLACES:
            self._set(PLACES[reason], _tr("Change this"), "sliders")
        else:
            self._set("", "", "")

    def _set(self, intent: str, text: str, icon: str) -> None:
        self.main.setVisible(bool(intent))
        if intent:
            self._intent = intent
            self.main.set_text(text, icon)

    def _act(self) -> None:
        match self._intent:
            case "start":
                self.node_wanted.emit()
            case "pause":
                self._send("pause", Pause(None, None))
            case "run_anyway":
                self._send("run_anyway", RunAnyway(OVERRIDE_SECONDS))
            case "resume":
                self._send("resume")
            case page:
                self.page_wanted.emit(page)

    def _send(self, method: str, params: object = None) -> None:
        self.main.setEnabled(False)
        self.finish.setEnabled(False)
        pending = self._store.call(method, params)
        pending.done.connect(self._settled)
        pending.failed.connect(self._failed)

    def _settled(self) -> None:
        self.main.setEnabled(True)
        self.finish.setEnabled(True)
        self.refresh()

    def _failed(self, code: str, sentence: str) -> None:
        self._settled()
        self.sentence.setText(sentence)


def _tr(text: str) -> str:
    return QCoreApplication.translate("Home", text)
