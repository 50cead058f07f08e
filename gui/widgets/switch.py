"""An on/off switch: a check box that looks like what it does."""

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QCheckBox

from gui.theme.theme import colour, theme

WIDTH, HEIGHT = 40, 22


class Switch(QCheckBox):
    """Named by the row it stands in; `name` if it stands alone."""

    def __init__(self, name: str = "", is_on: bool = False) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setChecked(is_on)
        self._restyle()

    def sizeHint(self) -> QSize:
        return QSize(theme().px(WIDTH) + 6, theme().px(HEIGHT) + 6)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def hitButton(self, position: object) -> bool:
        return True

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange:
            self._restyle()
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(3, 3, self.width() - 6, self.height() - 6)
        radius = box.height() / 2
        is_on, is_live = self.isChecked(), self.isEnabled()
        painter.setPen(QPen(colour("accent" if is_on and is_live else "border"), 1))
        painter.setBrush(colour(("accent" if is_live else "other") if is_on else "track"))
        painter.drawRoundedRect(box, radius, radius)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour("on_accent" if is_on else "border"))
        knob = box.height() - 6
        left = box.right() - knob - 3 if is_on else box.left() + 3
        painter.drawEllipse(QRectF(left, box.top() + 3, knob, knob))
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(colour("accent"), 2))
            ring = QRectF(self.rect()).adjusted(1, 1, -1, -1)
            painter.drawRoundedRect(ring, ring.height() / 2, ring.height() / 2)

    def _restyle(self) -> None:
        self.setFixedSize(self.sizeHint())
