"""Widgets side by side, in as many equal columns as there is room for."""

from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QWidget

from gui.theme.tokens import GAP


class Wrap(QWidget):
    """Goes from all in one line to halves of it to one column: four, two, one."""

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        self._widgets = widgets
        self._columns = 0
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(GAP)
        self._place(len(widgets))

    def minimumSizeHint(self) -> QSize:
        widest = max(widget.minimumSizeHint().width() for widget in self._widgets)
        return QSize(widest, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        widest = self.minimumSizeHint().width()
        columns = len(self._widgets)
        while columns > 1 and columns * (widest + GAP) - GAP > event.size().width():
            columns = -(-columns // 2)
        self._place(columns)

    def _place(self, columns: int) -> None:
        if columns == self._columns:
            return
        for column in range(self._columns):
            self._grid.setColumnStretch(column, 0)
        self._columns = columns
        for index, widget in enumerate(self._widgets):
            self._grid.addWidget(widget, *divmod(index, columns))
        for column in range(columns):
            self._grid.setColumnStretch(column, 1)
