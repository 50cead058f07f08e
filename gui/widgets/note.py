"""A tinted line of advice inside a page."""

from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton

from gui.theme.tokens import ROW
from gui.widgets.text import Icon, Text

_ICONS = {"accent": "check", "warn": "warn", "bad": "warn"}


class Note(QFrame):
    """`tone` is accent (it is well), warn or bad. `action` is a button at its end."""

    def __init__(self, text: str, tone: str = "accent", action: QPushButton | None = None) -> None:
        super().__init__()
        self.setObjectName("note")
        self._icon = Icon(_ICONS[tone], tone, 18)
        self._text = Text(text, ROW, wrap=True)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 10, 12, 10)
        row.setSpacing(10)
        row.addWidget(self._icon)
        row.addWidget(self._text, 1)
        if action is not None:
            row.addWidget(action)
        self.show_text(text, tone)

    def show_text(self, text: str, tone: str = "accent") -> None:
        self._text.setText(text)
        self._icon.show_icon(_ICONS[tone], tone)
        self.setAccessibleName(text)
        self.setProperty("tone", tone)
        self.style().unpolish(self)
        self.style().polish(self)
