"""Controls for one setting each, chosen by the row of the daemon's table that they show."""

import tomllib
from functools import partial
from typing import cast

from PySide6.QtCore import QSignalBlocker, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLayout,
    QLineEdit,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from gui.theme.theme import pixmap, theme
from gui.theme.tokens import MEDIUM, ROW
from gui.widgets.buttons import QuietButton
from gui.widgets.switch import Switch
from gui.widgets.text import Text
from gui.words import breakable
from nexusnode.control.messages import SettingView
from p2p.settings import Value

SETTLE_MS = 400  # a dragged slider or a held key is one change
MAX_SLIDER_STEPS = 1000


def value_of(text: str) -> Value:
    """Return what a value written as TOML says. The daemon wrote it: it can be read."""
    value = tomllib.loads(f"value = {text}")["value"]
    return tuple(value) if isinstance(value, list) else cast(Value, value)


class Field(QWidget):
    """Base of the controls. `edited` carries the new value once the user has settled on it."""

    edited = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._box = QHBoxLayout(self)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._box.setSpacing(12)
        self._name = name
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(lambda: self.edited.emit(self.value()))

    def value(self) -> Value:
        raise NotImplementedError

    def show_value(self, value: Value, is_sure: bool = False) -> None:
        """Show what the daemon has, unless the user is changing it; `is_sure`: even then."""
        raise NotImplementedError

    def _add(self, control: QWidget, stretch: int = 0) -> None:
        control.setAccessibleName(self._name)
        self._box.addWidget(control, stretch, Qt.AlignmentFlag.AlignVCenter)
        if self.focusProxy() is None:
            self.setFocusProxy(control)


class SwitchField(Field):
    """True or false."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._switch = Switch(name)
        self._box.addStretch(1)
        self._add(self._switch)
        self._switch.clicked.connect(lambda: self.edited.emit(self.value()))

    def value(self) -> Value:
        return self._switch.isChecked()

    def show_value(self, value: Value, is_sure: bool = False) -> None:
        self._switch.setChecked(bool(value))


class Choice(QComboBox):
    """A combo box with the design's arrow: a style sheet could only name a file of one colour."""

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        arrow = pixmap("chevron", "text2", 18)
        side = theme().px(18)
        painter = QPainter(self)
        painter.drawPixmap(self.width() - side - 8, (self.height() - side) // 2, arrow)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll the page instead: who scrolls past must not change a setting."""
        event.ignore()


class ChoiceField(Field):
    """One of several words, shown as `labels` says."""

    def __init__(self, name: str, choices: tuple[str, ...], labels: dict[str, str]) -> None:
        super().__init__(name)
        self._combo = Choice()
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self._combo.setSizeAdjustPolicy(policy)
        longest = max((len(labels.get(choice, choice)) for choice in choices), default=0)
        self._combo.setMinimumContentsLength(min(longest, 16))
        for choice in choices:
            self._combo.addItem(labels.get(choice, choice), choice)
        self._add(self._combo)
        self._combo.activated.connect(lambda: self.edited.emit(self.value()))

    def value(self) -> Value:
        return str(self._combo.currentData())

    def show_value(self, value: Value, is_sure: bool = False) -> None:
        self._combo.setCurrentIndex(self._combo.findData(value))


class Slider(QSlider):
    """As wide as a design would have it, narrower where there is no room."""

    def sizeHint(self) -> QSize:
        return QSize(160, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(48, super().minimumSizeHint().height())

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


class WholeNumber(QSpinBox):
    """A spin box that the wheel scrolls past."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


class RealNumber(QDoubleSpinBox):
    """A spin box that the wheel scrolls past."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


class NumberField(Field):
    """A number with its unit; a slider beside it where both bounds make one useful."""

    def __init__(self, name: str, row: SettingView, unit: str, zero: str = "") -> None:
        super().__init__(name)
        self._is_whole = row.kind == "int"
        self._step = 1.0 if self._is_whole else 0.05 if (row.high or 2) <= 1 else 0.5
        low, high = row.low or 0.0, row.high if row.high is not None else 1e9
        self._spin: QSpinBox | QDoubleSpinBox = WholeNumber() if self._is_whole else RealNumber()
        if isinstance(self._spin, QDoubleSpinBox):
            self._spin.setDecimals(2 if self._step < 0.1 else 1)
            self._spin.setRange(low, high)
            self._spin.setSingleStep(self._step)
        else:
            self._spin.setRange(int(low), int(min(high, 2**31 - 1)))
        self._spin.setKeyboardTracking(False)
        self._spin.setSuffix(f" {unit}" if unit else "")
        self._spin.setSpecialValueText(zero if low == 0 else "")
        self._spin.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._spin.lineEdit().setTextMargins(8, 0, 8, 0)  # a style sheet's padding is not heard
        self._spin.setMinimumWidth(theme().px(132))  # one width, so that sliders end on one line
        self._slider: QSlider | None = None
        steps = (high - low) / self._step
        if steps <= MAX_SLIDER_STEPS:
            self._slider = Slider(Qt.Orientation.Horizontal)
            self._slider.setRange(round(low / self._step), round(high / self._step))
            self._slider.setPageStep(max(1, round(steps / 10)))
            self._slider.valueChanged.connect(self._on_slider)
            self._add(self._slider, 1)
        else:
            self._box.addStretch(1)
        self._add(self._spin)
        self._spin.valueChanged.connect(self._on_spin)

    def value(self) -> Value:
        number = self._spin.value()
        return int(number) if self._is_whole else round(float(number), 4)

    def show_value(self, value: Value, is_sure: bool = False) -> None:
        is_busy = self._settle.isActive() or self._spin.hasFocus()
        if isinstance(value, int | float) and (is_sure or not is_busy):
            self._settle.stop()
            self._set(float(value))

    def _set(self, number: float) -> None:
        with QSignalBlocker(self._spin):
            if isinstance(self._spin, QSpinBox):
                self._spin.setValue(round(number))
            else:
                self._spin.setValue(number)
        if self._slider is not None:
            with QSignalBlocker(self._slider):
                self._slider.setValue(round(number / self._step))

    def _on_slider(self, steps: int) -> None:
        self._set(steps * self._step)
        self._settle.start()

    def _on_spin(self) -> None:
        self._set(float(self._spin.value()))
        self._settle.start()


class TextField(Field):
    """A line of text, taken when the user leaves it or presses Enter."""

    def __init__(self, name: str, placeholder: str = "") -> None:
        super().__init__(name)
        self._line = QLineEdit()
        self._line.setPlaceholderText(placeholder)
        self._shown: Value = ""
        self._add(self._line, 1)
        self._line.editingFinished.connect(self._on_finished)

    def value(self) -> Value:
        return self._line.text().strip()

    def show_value(self, value: Value, is_sure: bool = False) -> None:
        self._shown = value
        if is_sure or not self._line.hasFocus():
            self._line.setText(str(value))

    def _on_finished(self) -> None:
        if self.value() != self._shown:
            self._shown = self.value()
            self.edited.emit(self._shown)


class ListField(Field):
    """A list of texts: each with a button that takes it out, and a line to add another."""

    def __init__(self, name: str, placeholder: str = "") -> None:
        super().__init__(name)
        self._items: tuple[str, ...] = ()
        column = QVBoxLayout()
        column.setSpacing(8)
        self._box.addLayout(column, 1)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        column.addLayout(self._rows)
        adding = QHBoxLayout()
        adding.setSpacing(8)
        column.addLayout(adding)
        self._line = QLineEdit()
        self._line.setPlaceholderText(placeholder)
        self._line.setAccessibleName(name)
        self._line.returnPressed.connect(self._on_add)
        adding.addWidget(self._line, 1)
        add = QuietButton(self.tr("Add"))
        add.setAccessibleName(self.tr("Add to: {name}").format(name=name))
        add.clicked.connect(self._on_add)
        adding.addWidget(add)

    def value(self) -> Value:
        return self._items

    def show_value(self, value: Value, is_sure: bool = False) -> None:
        if isinstance(value, tuple) and value != self._items:
            self._items = value
            self._show_rows()

    def _show_rows(self) -> None:
        clear(self._rows)
        for item in self._items:
            row = QHBoxLayout()
            row.addWidget(Text(breakable(item), ROW, MEDIUM, wrap=True), 1)
            remove = QuietButton(self.tr("Remove"))
            remove.setAccessibleName(self.tr("Remove {item}").format(item=item))
            remove.clicked.connect(partial(self._on_remove, item))
            row.addWidget(remove)
            self._rows.addLayout(row)

    def _on_add(self) -> None:
        item = self._line.text().strip()
        self._line.clear()
        if item and item not in self._items:
            self._change((*self._items, item))

    def _on_remove(self, item: str) -> None:
        self._change(tuple(kept for kept in self._items if kept != item))
        self._line.setFocus()

    def _change(self, items: tuple[str, ...]) -> None:
        self._items = items
        self._show_rows()
        self.edited.emit(items)


def clear(layout: QLayout) -> None:
    """Take everything out of a layout and end its widgets."""
    while (item := layout.takeAt(0)) is not None:
        if (widget := item.widget()) is not None:
            widget.hide()
            widget.deleteLater()
        elif (inner := item.layout()) is not None:
            clear(inner)
