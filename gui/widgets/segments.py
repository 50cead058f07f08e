"""A choice of a few that shows all of them side by side."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QWidget

from gui.theme.tokens import MEDIUM, SMALL
from gui.widgets.buttons import ToolButton


class Segments(QWidget):
    """`chosen` carries the index."""

    chosen = Signal(int)

    def __init__(self, name: str, texts: tuple[str, ...]) -> None:
        super().__init__()
        self.setObjectName("segments")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName(name)
        row = QHBoxLayout(self)
        row.setContentsMargins(3, 3, 3, 3)
        row.setSpacing(2)
        self.group = QButtonGroup(self)
        for index, text in enumerate(texts):
            button = ToolButton(text, f"{name}: {text}", SMALL, MEDIUM)
            button.setObjectName("segment")
            button.setCheckable(True)
            button.setChecked(index == 0)
            self.group.addButton(button, index)
            row.addWidget(button)
        self.group.idClicked.connect(self.chosen)
