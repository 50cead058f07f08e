"""The theme in use: which palette, how large the text is. One per application, asked by `theme()`.

A change sets the style sheet anew, so every widget hears `StyleChange` and restyles itself.
"""

from functools import lru_cache
from importlib import resources
from typing import cast

from PySide6.QtCore import QByteArray, QObject, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from gui.theme.sheet import sheet
from gui.theme.tokens import BODY, DARK, LIGHT, PLAIN, Palette

FAMILY = "Inter"
MIN_PERCENT, MAX_PERCENT = 100, 200


class Theme(QObject):
    """Belongs to the application. `choice` is system, light or dark."""

    def __init__(self, application: QApplication) -> None:
        super().__init__(application)
        self.setObjectName("theme")
        self._application = application
        self._choice = "system"
        self.percent = MIN_PERCENT
        for file in resources.files("gui.theme").joinpath("fonts").iterdir():
            if file.name.endswith(".otf"):
                QFontDatabase.addApplicationFontFromData(QByteArray(file.read_bytes()))
        application.setStyle("Fusion")
        application.styleHints().colorSchemeChanged.connect(self._apply)
        self._apply()

    @property
    def is_dark(self) -> bool:
        if self._choice == "system":
            return self._application.styleHints().colorScheme() == Qt.ColorScheme.Dark
        return self._choice == "dark"

    @property
    def palette(self) -> Palette:
        return DARK if self.is_dark else LIGHT

    def choose(self, choice: str, percent: int = MIN_PERCENT) -> None:
        """Use `choice` of system, light, dark, and text of `percent` (100 to 200)."""
        percent = max(MIN_PERCENT, min(MAX_PERCENT, percent))
        if (choice, percent) != (self._choice, self.percent):
            self._choice, self.percent = choice, percent
            self._apply()

    def px(self, size: float) -> int:
        """Return a measure of the design at the user's text size."""
        return round(size * self.percent / 100)

    def _apply(self) -> None:
        _drawing.cache_clear()
        self._application.setFont(_font(self.px(BODY), PLAIN))
        self._application.setStyleSheet(sheet(self.palette, self.percent))


def theme() -> Theme:
    """Return the application's theme, made at the first call."""
    application = cast(QApplication, QApplication.instance())
    found = application.findChild(Theme, "theme")
    return found if isinstance(found, Theme) else Theme(application)


def font(px: int, weight: int = PLAIN, tabular: bool = False) -> QFont:
    """Return Inter of `px` pixels at 100 %. `tabular` makes all digits equally wide."""
    return _font(theme().px(px), weight, tabular)


def colour(token: str) -> QColor:
    return QColor(theme().palette[token])


def pixmap(name: str, token: str, px: int) -> QPixmap:
    """Return a drawing of `icons/`, `px` wide at 100 %, sharp on every screen."""
    screen = QGuiApplication.primaryScreen()
    ratio = screen.devicePixelRatio() if screen else 1.0
    return _drawing(name, theme().palette[token], theme().px(px), ratio)


def icon(name: str, token: str = "text2", px: int = 20) -> QIcon:
    return QIcon(pixmap(name, token, px))


def _font(px: int, weight: int, tabular: bool = False) -> QFont:
    made = QFont(FAMILY)
    made.setPixelSize(px)
    made.setWeight(QFont.Weight(weight))
    if tabular:
        made.setFeature(QFont.Tag("tnum"), 1)
    return made


@lru_cache(maxsize=256)
def _drawing(name: str, shade: str, px: int, ratio: float) -> QPixmap:
    file = resources.files("gui.theme").joinpath("icons", f"{name}.svg")
    svg = file.read_text().replace("#000", shade)
    made = QPixmap(round(px * ratio), round(px * ratio))
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    QSvgRenderer(QByteArray(svg.encode())).render(painter)
    painter.end()
    made.setDevicePixelRatio(ratio)
    return made
