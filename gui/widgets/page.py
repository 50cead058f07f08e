"""What every page of the window is: a scrolling column that repaints only while it is seen."""

from PySide6.QtCore import QCoreApplication, Qt, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from gui.store import Store
from gui.theme.tokens import GAP, PAGE_MARGIN, STATE, STRONG
from gui.widgets.text import Text


class Page(QWidget):
    """Subclasses set `title` (English, translated in context "pages") and `icon_name`, add cards to
    `body`, and show the store's values in `refresh`, which is called when one has changed.

    Signals: `page_wanted` carries the class name of a page to go to, `node_wanted` asks for the
    node to be started (or restarted).
    """

    page_wanted = Signal(str)
    node_wanted = Signal()

    title = ""
    icon_name = ""
    has_heading = True

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self._is_stale = True
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        inside = QWidget()
        inside.setObjectName("page_body")
        self.body = QVBoxLayout(inside)
        self.body.setContentsMargins(PAGE_MARGIN, PAGE_MARGIN, PAGE_MARGIN, PAGE_MARGIN)
        self.body.setSpacing(GAP)
        self.view = QScrollArea()
        self.view.setWidgetResizable(True)
        self.view.setFrameShape(QFrame.Shape.NoFrame)
        self.view.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.view.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.view)
        if self.has_heading:
            self.body.addWidget(Text(self.shown_title(), STATE, STRONG))
        self.setAccessibleName(self.shown_title())
        store.changed.connect(self._on_changed)

    @classmethod
    def shown_title(cls) -> str:
        """Return the title in the user's language."""
        return QCoreApplication.translate("pages", cls.title)

    def refresh(self) -> None:
        """Show what the store holds now. Called while the page is visible only."""

    @property
    def is_seen(self) -> bool:
        return self.isVisible() and not self.window().isMinimized()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._refresh_if_seen()

    def _on_changed(self, topic: str) -> None:
        """Refresh once for all topics that are told in one go."""
        if not self._is_stale:
            self._is_stale = True
            QTimer.singleShot(0, self, self._refresh_if_seen)

    def _refresh_if_seen(self) -> None:
        if self._is_stale and self.is_seen:
            self._is_stale = False
            self.refresh()
