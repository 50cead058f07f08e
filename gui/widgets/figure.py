"""One large number with what it counts above and what it means below."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout

from gui.theme.tokens import BODY, FIGURE, MEDIUM, PLAIN, ROW, SMALL, STRONG
from gui.widgets.card import Card
from gui.widgets.text import Icon, Text


class Figure(Card):
    """Reads out as one sentence. "—" stands for what is not known."""

    def __init__(self, icon_name: str, title: str) -> None:
        super().__init__(padding=16, gap=6)
        self._title = title
        self._value = Text("—", FIGURE, STRONG, tabular=True)
        self._unit = Text("", BODY, PLAIN, "text2")
        self._unit.setContentsMargins(0, 0, 0, 4)
        self._below = Text("", SMALL, PLAIN, "text2", wrap=True)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(Icon(icon_name, "text2", 18))
        head.addWidget(Text(title, ROW, MEDIUM, "text2"), 1)
        number = QHBoxLayout()
        number.setSpacing(6)
        number.addWidget(self._value, 0, Qt.AlignmentFlag.AlignBottom)
        number.addWidget(self._unit, 0, Qt.AlignmentFlag.AlignBottom)
        number.addStretch(1)
        self.box.addLayout(head)
        self.box.addLayout(number)
        self.box.addWidget(self._below)
        self.box.addStretch(1)
        self.show_value("—")

    def show_value(self, value: str, unit: str = "", below: str = "") -> None:
        self._value.setText(value)
        self._unit.setText(unit)
        self._below.setText(below)
        self.setAccessibleName(f"{self._title}: {value} {unit}. {below}".strip())
