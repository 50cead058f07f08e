"""A setting: its name and meaning on the left, what changes it on the right."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from gui.theme.tokens import BODY, MEDIUM, PLAIN, ROW
from gui.widgets.text import Text


class Row(QWidget):
    """Names `control` for screen readers: `label` is its name, `hint` its description."""

    def __init__(self, label: str, control: QWidget, hint: str = "") -> None:
        super().__init__()
        self.control = control
        self.label = Text(label, BODY, MEDIUM, wrap=True)
        self.hint = Text(hint, ROW, PLAIN, "text2", wrap=True)
        self.label.setBuddy(control)
        control.setAccessibleName(label)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self.label)
        words.addWidget(self.hint)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 4, 0, 4)
        row.setSpacing(20)
        row.addLayout(words, 1)
        row.addWidget(control, 0, Qt.AlignmentFlag.AlignVCenter)
        self.set_hint(hint)

    def set_hint(self, hint: str) -> None:
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))
        self.control.setAccessibleDescription(hint)
