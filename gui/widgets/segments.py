"""A choice of a few that shows all of them side by side."""

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QToolButton, QWidget

from gui.theme.theme import font
from gui.theme.tokens import MEDIUM, SMALL


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
            button = QToolButton()
            button.setText(text)
            button.setCheckable(True)
            button.setChecked(index == 0)
            button.setObjectName("segment")
            button.setAccessibleName(f"{name}: {text}")
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self.group.addButton(button, index)
            row.addWidget(button)
        self.group.idClicked.connect(self.chosen)
        self._restyle()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "group"):
            self._restyle()
        super().changeEvent(event)

    def _restyle(self) -> None:
        for button in self.group.buttons():
            button.setFont(font(SMALL, MEDIUM))
