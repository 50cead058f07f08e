"""What stands at the top of a page: that the node is gone, or why it refused something."""

from PySide6.QtWidgets import QVBoxLayout, QWidget

from gui.store import Store
from gui.widgets.note import Note


class Notices(QWidget):
    """Takes no room while there is nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        self._offline = Note(
            self.tr("The node is not answering. Nothing can be changed until it runs again."),
            "warn",
        )
        self._restart = Note("", "warn")
        self._refusal = Note("", "bad")
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(8)
        for note in (self._offline, self._restart, self._refusal):
            note.hide()
            box.addWidget(note)
        self.hide()

    def show_connection(self, store: Store) -> None:
        self._offline.setVisible(not store.is_connected)
        self._settle()

    def show_restart(self, titles: list[str]) -> None:
        """Say which settings wait for the node's next start."""
        words = self.tr("Takes effect when the node starts again: {settings}.")
        if titles:
            self._restart.show_text(words.format(settings=", ".join(titles)), "warn")
        self._restart.setVisible(bool(titles))
        self._settle()

    def show_refusal(self, sentence: str) -> None:
        """Show why something was not done; "" takes the note away."""
        if sentence:
            self._refusal.show_text(sentence, "bad")
        self._refusal.setVisible(bool(sentence))
        self._settle()

    def refusal(self) -> str:
        return "" if self._refusal.isHidden() else self._refusal.accessibleName()

    def _settle(self) -> None:
        notes = (self._offline, self._restart, self._refusal)
        self.setVisible(not all(note.isHidden() for note in notes))
