"""A thin bar of shares, such as whose the memory is."""

from PySide6.QtCore import QRectF
from PySide6.QtGui import QPainter, QPainterPath, QPaintEvent
from PySide6.QtWidgets import QWidget

from gui.theme.theme import colour

HEIGHT = 8


class Meter(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self._parts: tuple[tuple[float, str], ...] = ()
        self.setFixedHeight(HEIGHT)

    def show_parts(self, parts: tuple[tuple[float, str], ...], sentence: str) -> None:
        """Each part is a share (0 to 1) and a colour token; `sentence` says it in words."""
        self._parts = parts
        self.setAccessibleName(sentence)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        clip = QPainterPath()
        clip.addRoundedRect(QRectF(self.rect()), HEIGHT / 2, HEIGHT / 2)
        painter.setClipPath(clip)
        painter.fillRect(self.rect(), colour("track"))
        left = 0.0
        for share, token in self._parts:
            width = self.width() * share
            painter.fillRect(QRectF(left, 0, width, HEIGHT), colour(token))
            left += width + 2
