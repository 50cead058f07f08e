"""A conversation as running text, with what nodes drafted and the target kept underlined."""

from dataclasses import dataclass, field

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QTextBlockFormat, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from gui.theme.theme import colour, font, theme
from gui.theme.tokens import BODY, PLAIN, ROW, SMALL, STRONG


@dataclass(slots=True)
class Turn:
    """Who speaks, the pieces of the text with whether a node drafted them, the line below."""

    speaker: str
    pieces: list[tuple[str, bool]] = field(default_factory=list)
    foot: str = ""

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


class Transcript(QTextEdit):
    """Read only; follows the end of the text while the reader is there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.turns: list[Turn] = []
        self.setReadOnly(True)
        self.setAccessibleName(name)
        self.setTabChangesFocus(True)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )

    def begin(self, turn: Turn) -> None:
        """Add a turn; what it holds already is shown."""
        self.turns.append(turn)
        self._write_turn(turn)
        self._go_to_end()

    def append_pieces(self, pieces: list[tuple[str, bool]]) -> None:
        """Go on with the last turn."""
        is_at_end = self._is_at_end()
        self.turns[-1].pieces += pieces
        self._write_pieces(pieces)
        if is_at_end:
            self._go_to_end()

    def end(self, foot: str) -> None:
        """Close the last turn with a line in small type."""
        is_at_end = self._is_at_end()
        self.turns[-1].foot = foot
        self._write_foot(foot)
        if is_at_end:
            self._go_to_end()

    def drop_last(self) -> None:
        self.turns.pop()
        self._write_all()

    def forget(self) -> None:
        self.turns.clear()
        self.clear()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "turns"):
            self._write_all()
        super().changeEvent(event)

    def _write_all(self) -> None:
        self.clear()
        for turn in self.turns:
            self._write_turn(turn)

    def _write_turn(self, turn: Turn) -> None:
        self._new_line(14)
        self._cursor().insertText(turn.speaker, _style(ROW, STRONG, "text2"))
        self._new_line(2)
        self._write_pieces(turn.pieces)
        if turn.foot:
            self._write_foot(turn.foot)

    def _write_pieces(self, pieces: list[tuple[str, bool]]) -> None:
        cursor = self._cursor()
        plain, kept = _style(BODY, PLAIN, "text"), _style(BODY, PLAIN, "text")
        kept.setUnderlineStyle(QTextCharFormat.UnderlineStyle.SingleUnderline)
        kept.setUnderlineColor(colour("accent"))
        for text, is_kept in pieces:
            cursor.insertText(text, kept if is_kept else plain)

    def _write_foot(self, foot: str) -> None:
        self._new_line(4)
        self._cursor().insertText(foot, _style(SMALL, PLAIN, "text2"))

    def _new_line(self, above: int) -> None:
        form = QTextBlockFormat()
        form.setTopMargin(theme().px(above))
        cursor = self._cursor()
        if self.document().isEmpty():
            cursor.setBlockFormat(form)
        else:
            cursor.insertBlock(form)

    def _cursor(self) -> QTextCursor:
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        return cursor

    def _is_at_end(self) -> bool:
        bar = self.verticalScrollBar()
        return bar.value() >= bar.maximum() - 4

    def _go_to_end(self) -> None:
        bar = self.verticalScrollBar()
        bar.setValue(bar.maximum())


def _style(px: int, weight: int, tone: str) -> QTextCharFormat:
    style = QTextCharFormat()
    style.setFont(font(px, weight))
    style.setForeground(colour(tone))
    return style
