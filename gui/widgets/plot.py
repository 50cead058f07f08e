"""One line over time, its pauses as named bands. Drawn by hand: a chart library weighs 59 MB.

The points come thinned from the daemon, so a repaint draws a few hundred segments at most.
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from PySide6.QtCore import QCoreApplication, QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QLinearGradient, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.theme.theme import colour, font, theme
from gui.theme.tokens import AXIS, MEDIUM, SMALL

LINES = 4


@dataclass(frozen=True, slots=True)
class Band:
    """A pause from one moment to another (unix seconds)."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """`runs` are stretches of (unix seconds, value); the time shown is `start` to `end`."""

    start: float
    end: float
    runs: tuple[tuple[tuple[float, float], ...], ...] = ()
    bands: tuple[Band, ...] = ()


class Plot(QWidget):
    """Greyed up to its last point while `is_live` is off."""

    def __init__(self) -> None:
        super().__init__()
        self._series = Series(0.0, 1.0)
        self._is_live = True
        self._empty = ""
        self.setMinimumHeight(130)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_series(self, series: Series, is_live: bool, sentence: str, empty: str = "") -> None:
        """`sentence` says the same in words; `empty` stands in a plot without a point."""
        if (series, is_live, empty) != (self._series, self._is_live, self._empty):
            self._series, self._is_live, self._empty = series, is_live, empty
            self.update()
        self.setAccessibleName(sentence)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        px = theme().px
        top = ceiling(max((v for run in self._series.runs for _, v in run), default=0.0))
        painter.setFont(font(AXIS, tabular=True))
        left = painter.fontMetrics().horizontalAdvance(f"{top:,.0f}") + px(10)
        area = QRectF(left, px(8), self.width() - left - 8, self.height() - px(32))
        if self._series.runs or self._series.bands or not self._empty:
            self._draw_axes(painter, area, top)
        for band in self._series.bands:
            self._draw_band(painter, area, band)
        for run in self._series.runs:
            self._draw_run(painter, area, top, run)
        if not self._series.runs and not self._series.bands and self._empty:
            painter.setFont(font(SMALL))
            painter.setPen(colour("text2"))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(area, int(flags), self._empty)

    def _x(self, area: QRectF, moment: float) -> float:
        span = max(1.0, self._series.end - self._series.start)
        share = (moment - self._series.start) / span
        return area.left() + area.width() * max(0.0, min(1.0, share))

    def _draw_axes(self, painter: QPainter, area: QRectF, top: float) -> None:
        px = theme().px
        for index in range(LINES + 1):
            y = round(area.bottom() - area.height() * index / LINES) + 0.5
            painter.setPen(QPen(colour("line"), 1))
            painter.drawLine(QLineF(area.left(), y, area.right(), y))
            painter.setPen(colour("text2"))
            box = QRectF(0, y - px(8), area.left() - px(8), px(16))
            flags = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(box, int(flags), f"{top * index / LINES:,.0f}")
        sides = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignHCenter)
        width = px(90)
        for index in range(LINES + 1):
            share = index / LINES
            x = area.left() + area.width() * share - (0, width / 2)[index > 0]
            side = sides[index > 0]
            if index == LINES:
                x, side = area.right() - width, Qt.AlignmentFlag.AlignRight
            box = QRectF(x, self.height() - px(17), width, px(16))
            painter.drawText(box, int(side), self._moment_text(share))

    def _moment_text(self, share: float) -> str:
        series = self._series
        if share == 1.0:
            return QCoreApplication.translate("Plot", "now")
        when = datetime.fromtimestamp(series.start + share * (series.end - series.start))
        return f"{when:%a %d}" if series.end - series.start > 2 * 86_400 else f"{when:%H:%M}"

    def _draw_band(self, painter: QPainter, area: QRectF, band: Band) -> None:
        left, right = self._x(area, band.start), self._x(area, band.end)
        box = QRectF(left, area.top(), right - left, area.height())
        painter.fillRect(box, colour("warn_tint" if self._is_live else "track"))
        painter.setFont(font(SMALL, MEDIUM))
        painter.setPen(colour("warn" if self._is_live else "text2"))
        flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
        inside = box.adjusted(4, 0, -4, 0)
        needed = painter.boundingRect(inside, flags, band.text)
        if needed.width() <= inside.width() and needed.height() <= inside.height():
            painter.drawText(inside, flags, band.text)

    def _draw_run(
        self, painter: QPainter, area: QRectF, top: float, run: tuple[tuple[float, float], ...]
    ) -> None:
        points = [
            QPointF(self._x(area, moment), area.bottom() - area.height() * value / top)
            for moment, value in run
        ]
        ink = colour("accent" if self._is_live else "other")
        path = QPainterPath(QPointF(points[0].x(), area.bottom()))
        for point in points:
            path.lineTo(point)
        path.lineTo(points[-1].x(), area.bottom())
        painter.fillPath(path, _fade(ink, area))
        painter.setPen(QPen(ink, 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        # Segments, not one polyline: Qt's stroker took 60 % of a core on 1440 points at 10 Hz.
        painter.drawLines([QLineF(a, b) for a, b in pairwise(points)])
        if self._is_live and run is self._series.runs[-1] and run[-1][0] >= self._last_moment():
            painter.setPen(QPen(colour("card"), 2))
            painter.setBrush(ink)
            painter.drawEllipse(points[-1], 5, 5)

    def _last_moment(self) -> float:
        """Return how late a last point must be to count as now."""
        return self._series.end - (self._series.end - self._series.start) / 30


def ceiling(value: float) -> float:
    """Return a round number at or above `value` that four lines divide well."""
    step = 1.0
    while True:
        for factor in (1, 2, 4, 6, 8):
            if step * factor >= max(value, 4.0):
                return step * factor
        step *= 10


def _fade(ink: QColor, area: QRectF) -> QLinearGradient:
    gradient = QLinearGradient(0, area.top(), 0, area.bottom())
    for at, alpha in ((0, 70), (1, 6)):
        shade = QColor(ink)
        shade.setAlpha(alpha)
        gradient.setColorAt(at, shade)
    return gradient
