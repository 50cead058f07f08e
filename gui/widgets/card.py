"""The white box that groups what belongs together."""

from PySide6.QtWidgets import QFrame, QHBoxLayout, QSpacerItem, QVBoxLayout, QWidget

from gui.theme.tokens import STRONG, TITLE
from gui.widgets.text import Text


class Card(QFrame):
    """Content goes into `box`. A title stands above it, `aside` at its right end; neighbours whose
    titles shall share a baseline get one height of `head`."""

    def __init__(
        self,
        title: str = "",
        aside: QWidget | None = None,
        *,
        padding: int = 20,
        gap: int = 12,
        head: int = 28,
    ) -> None:
        super().__init__()
        self.setObjectName("card")
        self.box = QVBoxLayout(self)
        self.box.setContentsMargins(padding, 14 if title else padding, padding, padding)
        self.box.setSpacing(gap)
        self.heading = Text(title, TITLE, STRONG)
        if title:
            row = QHBoxLayout()
            row.addWidget(self.heading)
            row.addStretch(1)
            if aside is not None:
                row.addWidget(aside)
            row.addSpacerItem(QSpacerItem(0, head))
            self.box.addLayout(row)
            self.setAccessibleName(title)
        else:
            self.heading.hide()

    def set_title(self, title: str) -> None:
        self.heading.setText(title)
        self.setAccessibleName(title)

    def set_tone(self, tone: str) -> None:
        """Draw the border in `bad`, or plain with ""."""
        if (self.property("tone") or "") != tone:
            self.setProperty("tone", tone)
            self.style().unpolish(self)
            self.style().polish(self)


def rule() -> QFrame:
    """Return a thin line between rows."""
    line = QFrame()
    line.setObjectName("rule")
    line.setFixedHeight(1)
    return line
