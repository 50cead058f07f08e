"""Words and drawings in the design's type and colours."""

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from gui.theme.theme import font, pixmap, theme
from gui.theme.tokens import BODY, PLAIN


class Text(QLabel):
    """A label. `tone` is a colour token: text, text2, accent, on_accent, warn or bad."""

    def __init__(
        self,
        text: str = "",
        px: int = BODY,
        weight: int = PLAIN,
        tone: str = "text",
        *,
        wrap: bool = False,
        tabular: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._type = (px, weight, tabular)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("tone", tone)
        self.setWordWrap(wrap)
        if wrap:
            policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
            policy.setHeightForWidth(True)
            self.setSizePolicy(policy)
        self._restyle()

    def set_tone(self, tone: str) -> None:
        if self.property("tone") != tone:
            self.setProperty("tone", tone)
            self.style().unpolish(self)
            self.style().polish(self)

    def set_weight(self, weight: int) -> None:
        if weight != self._type[1]:
            self._type = (self._type[0], weight, self._type[2])
            self._restyle()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_type"):
            self._restyle()
        super().changeEvent(event)

    def _restyle(self) -> None:
        wanted = font(*self._type)
        if self.font() != wanted:
            self.setFont(wanted)


class Icon(QLabel):
    """A drawing in a colour of the palette. It says nothing to a screen reader: the text beside
    it does."""

    def __init__(self, name: str, tone: str = "text2", px: int = 20) -> None:
        super().__init__()
        self._drawing = (name, tone, px)
        self._restyle()

    def show_icon(self, name: str, tone: str) -> None:
        if (name, tone) != self._drawing[:2]:
            self._drawing = (name, tone, self._drawing[2])
            self._restyle()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_drawing"):
            self._restyle()
        super().changeEvent(event)

    def _restyle(self) -> None:
        name, tone, px = self._drawing
        self.setFixedSize(theme().px(px), theme().px(px))
        self.setPixmap(pixmap(name, tone, px))
