"""Buttons: the one main action, ordinary ones, and flat ones that look like links."""

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QCursor
from PySide6.QtWidgets import QCheckBox, QPushButton, QRadioButton, QToolButton

from gui.store import Pending
from gui.theme.theme import font, icon, theme
from gui.theme.tokens import BODY, MEDIUM, PLAIN, ROW, STRONG

ICON = 18


class Button(QPushButton):
    """An ordinary button. `while_pending` shows that an intent is on its way."""

    weight, px, tone = MEDIUM, BODY, "text"

    def __init__(self, text: str, icon_name: str = "") -> None:
        super().__init__()
        self._icon_name = icon_name
        self._is_waiting = False
        self._is_wanted = True
        self._words = ""
        self.setCursor(QCursor(Qt.CursorShape.PointingHandCursor))
        self.setAutoDefault(False)
        self.set_text(text, icon_name)
        self._restyle()

    def set_text(self, text: str, icon_name: str = "") -> None:
        """Show other words, which are the accessible name as well."""
        self.setText(f" {text}" if icon_name else text)
        self.setAccessibleName(text)
        if icon_name != self._icon_name:
            self._icon_name = icon_name
            self._restyle()

    def setEnabled(self, is_enabled: bool) -> None:
        """Nobody enables a button whose answer is still on its way."""
        self._is_wanted = is_enabled
        super().setEnabled(is_enabled and not self._is_waiting)

    def while_pending(self, pending: Pending, words: str = "") -> None:
        """Be disabled, saying `words`, until the answer has come."""
        self._words = self.text()
        self._is_waiting = True
        super().setEnabled(False)
        if words:
            self.setText(words)
        pending.done.connect(self._settle)
        pending.failed.connect(self._settle)

    def _settle(self) -> None:
        self._is_waiting = False
        self.setText(self._words)
        self.setEnabled(self._is_wanted)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_icon_name"):
            self._restyle()
        super().changeEvent(event)

    def _restyle(self) -> None:
        self.setFont(font(self.px, self.weight))
        self.setIconSize(QSize(theme().px(ICON), theme().px(ICON)))
        if self._icon_name:
            self.setIcon(icon(self._icon_name, self.tone, ICON))


class PrimaryButton(Button):
    """The main action of a page; one at most."""

    weight, tone = STRONG, "on_accent"

    def __init__(self, text: str, icon_name: str = "") -> None:
        super().__init__(text, icon_name)
        self.setObjectName("primary")


class QuietButton(Button):
    """Flat, in the accent colour. A QLabel link would be no button to keyboard and screen
    reader."""

    weight, px, tone = MEDIUM, ROW, "accent"

    def __init__(self, text: str, icon_name: str = "") -> None:
        super().__init__(text, icon_name)
        self.setObjectName("quiet")


class ToolButton(QToolButton):
    """A small button in the design's type."""

    def __init__(self, text: str, name: str, px: int = BODY, weight: int = PLAIN) -> None:
        super().__init__()
        self._type = (px, weight)
        self.setText(text)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFont(font(*self._type))

    def set_weight(self, weight: int) -> None:
        self._type = (self._type[0], weight)
        self.setFont(font(*self._type))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_type"):
            self.setFont(font(*self._type))
        super().changeEvent(event)


class Radio(QRadioButton):
    """One of several choices, in the design's type."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setAccessibleName(text)
        self.setFont(font(BODY, MEDIUM))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange:
            self.setFont(font(BODY, MEDIUM))
        super().changeEvent(event)


class Tick(QCheckBox):
    """Something to agree to, in the design's type."""

    def __init__(self, text: str, is_on: bool = False) -> None:
        super().__init__(text)
        self.setAccessibleName(text)
        self.setChecked(is_on)
        self.setFont(font(BODY))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange:
            self.setFont(font(BODY))
        super().changeEvent(event)
