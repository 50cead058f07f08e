"""A week in half hours that is painted with the mouse or with arrows and Space."""

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.hours import DAYS, SLOTS, clock
from gui.theme.theme import colour, font

_MOVES = {
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
}


class WeekGrid(QWidget):
    """Seven rows of 48 half hours. Says `edited` when the user has changed them.

    A drag paints what the half hour under its start was not. The keys: arrows move, with Shift
    they paint on, Space turns one over, Home and End go to the ends of the day.
    """

    edited = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._covered: frozenset[int] = frozenset()
        self._before: frozenset[int] = frozenset()
        self._cursor = 9 * 2
        self._start: tuple[int, int] | None = None
        self._names = tuple(self._day_names())
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self._describe()

    def covered(self) -> frozenset[int]:
        """Return the half hours of the week that run; 0 begins on Monday at 00:00."""
        return self._covered

    def set_covered(self, covered: frozenset[int]) -> None:
        """Show these half hours; not while the user paints."""
        if self._start is None and covered != self._covered:
            self._covered = covered
            self._describe()
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(560, self._top() + len(DAYS) * self._row_height())

    def minimumSizeHint(self) -> QSize:
        return QSize(self._left() + SLOTS * 7, self.sizeHint().height())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        cell = self._cell_at(event)
        if cell is None or event.button() is not Qt.MouseButton.LeftButton:
            return
        self._before = self._covered
        self._start = cell
        self._paint_to(cell)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        cell = self._cell_at(event, nearest=self._start is not None)
        self.setToolTip("" if cell is None else self._cell_words(*cell))
        if self._start is not None and cell is not None:
            self._paint_to(cell)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._start is not None and event.button() is Qt.MouseButton.LeftButton:
            self._start = None
            self._say_edited()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        day, slot = divmod(self._cursor, SLOTS)
        key = Qt.Key(event.key())
        if key in _MOVES:
            down, right = _MOVES[key]
            is_on = self._cursor in self._covered
            day = min(max(day + down, 0), len(DAYS) - 1)
            slot = min(max(slot + right, 0), SLOTS - 1)
            self._cursor = day * SLOTS + slot
            if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
                self._turn({self._cursor}, is_on)
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self._cursor = day * SLOTS + (0 if key == Qt.Key.Key_Home else SLOTS - 1)
        elif key == Qt.Key.Key_Space:
            self._turn({self._cursor}, self._cursor not in self._covered)
        else:
            super().keyPressEvent(event)
            return
        self._describe()
        self.update()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() is QEvent.Type.StyleChange:
            self.updateGeometry()
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width, height = self._cell_width(), self._row_height()
        painter.setFont(font(11, 450))
        painter.setPen(colour("text2"))
        for hour in range(0, 25, 4):
            x = self._left() + hour * 2 * width
            place = QRectF(x - 24, 0, 48, self._top() - 4)
            if hour == 24:
                place.moveRight(self._left() + SLOTS * width)
            side = Qt.AlignmentFlag.AlignRight if hour == 24 else Qt.AlignmentFlag.AlignHCenter
            painter.drawText(place, side | Qt.AlignmentFlag.AlignBottom, clock(hour * 2))
        painter.setFont(font(12, 500))
        for day, name in enumerate(self._names):
            painter.setPen(colour("text2"))
            place = QRectF(0, self._top() + day * height, self._left() - 12, height)
            painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, name)
            for slot in range(SLOTS):
                is_on = day * SLOTS + slot in self._covered
                painter.fillRect(self._cell(day, slot), colour("accent" if is_on else "track"))
        if self.hasFocus():
            painter.setPen(QPen(colour("text"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(
                self._cell(*divmod(self._cursor, SLOTS)).adjusted(-2, -2, 2, 2), 3, 3
            )

    def _paint_to(self, cell: tuple[int, int]) -> None:
        assert self._start is not None
        days = sorted((self._start[0], cell[0]))
        slots = sorted((self._start[1], cell[1]))
        area = {
            day * SLOTS + slot
            for day in range(days[0], days[1] + 1)
            for slot in range(slots[0], slots[1] + 1)
        }
        is_on = self._start[0] * SLOTS + self._start[1] not in self._before
        self._covered = self._before | area if is_on else self._before - area
        self._cursor = cell[0] * SLOTS + cell[1]
        self.update()

    def _turn(self, cells: set[int], is_on: bool) -> None:
        self._covered = self._covered | cells if is_on else self._covered - cells
        self._say_edited()

    def _say_edited(self) -> None:
        self._describe()
        self.edited.emit()

    def _describe(self) -> None:
        """Tell a screen reader where the cursor is and how much of the week runs."""
        self.setAccessibleName(self.tr("Hours of the week"))
        self.setAccessibleDescription(
            self.tr("{cell}. {hours} hours of the week are chosen.").format(
                cell=self._cell_words(*divmod(self._cursor, SLOTS)), hours=len(self._covered) / 2
            )
        )

    def _cell_words(self, day: int, slot: int) -> str:
        is_on = day * SLOTS + slot in self._covered
        return self.tr("{day} {start} to {end}: {state}").format(
            day=self._names[day],
            start=clock(slot),
            end=clock(slot + 1),
            state=self.tr("runs") if is_on else self.tr("rests"),
        )

    def _day_names(self) -> list[str]:
        # Not of QLocale: the texts around it are in the window's language.
        return [
            self.tr("Mon"),
            self.tr("Tue"),
            self.tr("Wed"),
            self.tr("Thu"),
            self.tr("Fri"),
            self.tr("Sat"),
            self.tr("Sun"),
        ]

    def _cell_at(self, event: QMouseEvent, nearest: bool = False) -> tuple[int, int] | None:
        place = event.position()
        slot = int((place.x() - self._left()) // self._cell_width())
        day = int((place.y() - self._top()) // self._row_height())
        if nearest:
            return min(max(day, 0), len(DAYS) - 1), min(max(slot, 0), SLOTS - 1)
        return (day, slot) if 0 <= day < len(DAYS) and 0 <= slot < SLOTS else None

    def _cell(self, day: int, slot: int) -> QRectF:
        width, height = self._cell_width(), self._row_height()
        gap = 2 if slot % 2 else 0  # pairs of half hours read as hours
        x = self._left() + slot * width
        return QRectF(x, self._top() + day * height + 2, width - 1 - gap, height - 4)

    def _cell_width(self) -> float:
        return (self.width() - self._left()) / SLOTS

    def _row_height(self) -> int:
        return max(24, font(12).pixelSize() + 12)

    def _left(self) -> int:
        return font(12).pixelSize() * 4

    def _top(self) -> int:
        return font(11).pixelSize() + 10
