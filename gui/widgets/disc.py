"""The state's disc: its ring is the share of the time that the node may draft."""

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from gui.theme.theme import colour, pixmap, theme

SIZE = 88


class Disc(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self._look = ("clock", "warn", 0.0)
        self.setFixedSize(theme().px(SIZE), theme().px(SIZE))

    def show_state(self, icon: str, tone: str, duty: float) -> None:
        """`tone` is accent, warn or bad; `duty` 0 to 1."""
        if (icon, tone, duty) != self._look:
            self._look = (icon, tone, duty)
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        icon, tone, duty = self._look
        self.setFixedSize(theme().px(SIZE), theme().px(SIZE))
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ring = QRectF(self.rect()).adjusted(4, 4, -4, -4)
        painter.setPen(QPen(colour("track"), 5))
        painter.drawEllipse(ring)
        painter.setPen(QPen(colour(tone), 5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        if duty > 0:
            painter.drawArc(ring, 90 * 16, -int(360 * 16 * min(1.0, duty)))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour("tint" if tone == "accent" else f"{tone}_tint"))
        painter.drawEllipse(ring.adjusted(9, 9, -9, -9))
        glyph = theme().px(32)
        painter.drawPixmap(
            (self.width() - glyph) // 2, (self.height() - glyph) // 2, pixmap(icon, tone, 32)
        )
