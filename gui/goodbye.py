"""What shall become of the node when the window closes: asked once, then remembered."""

from enum import Enum

from PySide6.QtCore import QCoreApplication, QSettings
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QSystemTrayIcon,
    QVBoxLayout,
    QWidget,
)

from gui.theme.tokens import BODY, PLAIN, STRONG, TITLE
from gui.widgets.buttons import Button, PrimaryButton, Tick
from gui.widgets.text import Text

REMEMBERED = "goodbye/choice"


class Choice(Enum):
    KEEP = "keep"
    STOP = "stop"
    STAY = "stay"


class Goodbye(QDialog):
    def __init__(self, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.choice = Choice.STAY
        self.setWindowTitle(_tr("Close Nexus"))
        self.keep = PrimaryButton(_tr("Close window, keep helping"))
        self.stop = Button(_tr("Stop the node"))
        self.remember = Tick(_tr("Do this from now on when I close the window"), is_on=True)
        self.keep.clicked.connect(lambda: self._take(Choice.KEEP))
        self.stop.clicked.connect(lambda: self._take(Choice.STOP))
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 24, 24, 24)
        column.setSpacing(16)
        column.addWidget(Text(_tr("Shall the node go on helping?"), TITLE, STRONG))
        column.addWidget(Text(_explanation(), BODY, PLAIN, "text2", wrap=True))
        column.addWidget(self.remember)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.stop)
        row.addWidget(self.keep)
        column.addLayout(row)
        self.setMinimumWidth(480)

    def _take(self, choice: Choice) -> None:
        self.choice = choice
        self.accept()


def ask_goodbye(parent: QWidget | None, is_asked: bool) -> Choice:
    """Return the remembered choice, or ask. `is_asked`: the user wants the question itself."""
    known = QSettings().value(REMEMBERED, "", str)
    if known and not is_asked:
        return Choice(known)
    dialog = Goodbye(parent)
    dialog.exec()
    if dialog.choice is not Choice.STAY and dialog.remember.isChecked():
        QSettings().setValue(REMEMBERED, dialog.choice.value)
    return dialog.choice


def _explanation() -> str:
    if QSystemTrayIcon.isSystemTrayAvailable():
        return _tr("It works in the background, and Nexus stays beside the clock.")
    return _tr(
        "It works in the background. This desktop shows no icon for it: open Nexus again from"
        " your programs to see or stop it."
    )


def _tr(text: str) -> str:
    return QCoreApplication.translate("Goodbye", text)
