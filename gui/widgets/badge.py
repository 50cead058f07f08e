"""A word in a tinted pill: "Fits", "In use"."""

from gui.theme.tokens import MEDIUM, SMALL
from gui.widgets.text import Text


class Badge(Text):
    """`tone` is accent, warn or bad; the word says the same as the colour."""

    def __init__(self) -> None:
        super().__init__("", SMALL, MEDIUM)
        self.setObjectName("badge")

    def show_text(self, text: str, tone: str) -> None:
        self.setText(text)
        self.set_tone(tone)
