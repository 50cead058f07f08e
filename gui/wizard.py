"""The first run: five short steps, at most three decisions, each with a default that is safe.

Nothing is sent to the node before the last step, and then everything at once.
"""

from PySide6.QtCore import QTimer
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QDialog, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from gui.store import Store
from gui.theme.theme import theme
from gui.theme.tokens import MEDIUM, SMALL
from gui.widgets.buttons import Button, PrimaryButton, QuietButton
from gui.widgets.note import Note
from gui.widgets.text import Text
from gui.wizard_steps import Answers, Computer, Limits, Step, Summary, Welcome, When, patch_of
from nexusnode.control.messages import Autostart, ModelPull, RunAnyway, SettingsPatch

SIZE = (680, 500)
TRIAL_SECONDS = 600.0
IDLE_TEST_MS = 1000
SKIPPABLE_FROM = 2


class Wizard(QDialog):
    """Closing it, or skipping, leaves the defaults: run only while the user is away."""

    def __init__(self, store: Store, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self.answers = Answers()
        self.setWindowTitle(self.tr("Welcome to Nexus"))
        steps = (Welcome, Computer, When, Limits, Summary)
        self.steps: tuple[Step, ...] = tuple(step(store, self.answers) for step in steps)
        self.stack = QStackedWidget()
        for step in self.steps:
            self.stack.addWidget(step)
        self.place = Text("", SMALL, MEDIUM, "text2")
        self.trouble = Note("", "bad")
        self.trouble.hide()
        self._is_waiting = False
        self.skip = QuietButton(self.tr("Skip, keep the defaults"))
        self.back = Button(self.tr("Back"))
        self.next = PrimaryButton(self.tr("Next"))
        self.skip.clicked.connect(self.reject)
        self.back.clicked.connect(lambda: self._go(self.stack.currentIndex() - 1))
        self.next.clicked.connect(self._forward)
        self._lay_out()
        self._clock = QTimer(self, interval=IDLE_TEST_MS)
        self._clock.timeout.connect(self._test_idle)
        self._clock.start()
        store.changed.connect(self._refresh)
        self._go(0)

    def closeEvent(self, event: QCloseEvent) -> None:
        self.reject()

    def done(self, result: int) -> None:
        self._clock.stop()
        super().done(result)

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.setSpacing(12)
        buttons.addWidget(self.place)
        buttons.addStretch(1)
        buttons.addWidget(self.skip)
        buttons.addWidget(self.back)
        buttons.addWidget(self.next)
        column = QVBoxLayout(self)
        column.setContentsMargins(32, 28, 32, 24)
        column.setSpacing(16)
        column.addWidget(self.stack, 1)
        column.addWidget(self.trouble)
        column.addLayout(buttons)
        self.resize(*(theme().px(side) for side in SIZE))

    def _go(self, index: int) -> None:
        self.stack.setCurrentIndex(index)
        last = len(self.steps) - 1
        self.place.setText(self.tr("Step {0} of {1}").format(index + 1, last + 1))
        self.back.setVisible(index > 0)
        self.skip.setVisible(SKIPPABLE_FROM <= index < last)
        self.next.set_text(self.tr("Start") if index == last else self.tr("Next"))
        self.trouble.hide()
        self._refresh()
        self.next.setFocus()

    def _refresh(self, topic: str = "") -> None:
        self.steps[self.stack.currentIndex()].refresh()
        is_last = self.stack.currentIndex() == len(self.steps) - 1
        is_waiting = is_last and not self._store.is_connected
        self.next.setEnabled(not is_waiting)
        if is_waiting:
            self.trouble.show_text(self.tr("Waiting for the node to answer…"), "warn")
            self.trouble.show()
        elif self._is_waiting:  # and not what the node has refused
            self.trouble.hide()
        self._is_waiting = is_waiting

    def _forward(self) -> None:
        index = self.stack.currentIndex()
        if index < len(self.steps) - 1:
            self._go(index + 1)
        else:
            self._start()

    def _test_idle(self) -> None:
        step = self.steps[self.stack.currentIndex()]
        if isinstance(step, When) and self._store.is_connected:
            self._store.call("idle.test").done.connect(step.show_idle)

    def _start(self) -> None:
        """Send the choices; the trial run begins once the node has taken them."""
        self.next.setEnabled(False)
        pairs = patch_of(self.answers, self._store)
        if not pairs:
            self._settings_done()
            return
        pending = self._store.call("settings.set", SettingsPatch(pairs, None))
        pending.done.connect(self._settings_done)
        pending.failed.connect(self._failed)

    def _settings_done(self) -> None:
        if self.answers.autostart:
            self._store.call("autostart", Autostart(True))
        if self.answers.model:
            self._store.call("models.pull", ModelPull(self.answers.model, ""))
        pending = self._store.call("run_anyway", RunAnyway(TRIAL_SECONDS))
        pending.done.connect(self.accept)
        pending.failed.connect(self._failed)

    def _failed(self, code: str, sentence: str) -> None:
        self.next.setEnabled(True)
        self.trouble.show_text(sentence, "bad")
        self.trouble.show()
