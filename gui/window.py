"""The main window: navigation, pages, shortcuts, where it stood last time."""

from PySide6.QtCore import QSettings, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from gui.screens import PAGES
from gui.sidebar import Sidebar
from gui.store import Store
from gui.widgets.buttons import Button
from gui.widgets.note import Note
from gui.widgets.page import Page
from nexusnode.control.messages import Pause
from nexusnode.states import State

MIN_SIZE = (900, 620)
SIZE = (1180, 780)
GEOMETRY = "window/geometry"


class Window(QMainWindow):
    """Signals: `quit_wanted` (Ctrl+Q), `closed` (the window's own cross), `node_wanted`,
    `restart_wanted` (the node is of another version)."""

    quit_wanted = Signal()
    closed = Signal()
    node_wanted = Signal()
    restart_wanted = Signal()

    def __init__(self, store: Store, pages: tuple[type[Page], ...] = PAGES) -> None:
        super().__init__()
        self._store = store
        self.may_close = False
        self.sidebar = Sidebar(store, pages)
        self.stack = QStackedWidget()
        self.pages = tuple(page(store) for page in pages)
        for page in self.pages:
            self.stack.addWidget(page)
            page.page_wanted.connect(self.go_to)
            page.node_wanted.connect(self.node_wanted)
        self._restart = Button(self.tr("Restart the node"))
        self._restart.clicked.connect(self.restart_wanted)
        self._banner = Note("", "warn", self._restart)
        right = QVBoxLayout()
        right.setContentsMargins(0, 0, 0, 0)
        right.setSpacing(0)
        self._banner_frame = QWidget()
        frame = QVBoxLayout(self._banner_frame)
        frame.setContentsMargins(24, 12, 24, 0)
        frame.addWidget(self._banner)
        right.addWidget(self._banner_frame)
        right.addWidget(self.stack, 1)
        root = QWidget()
        root.setObjectName("root")
        root.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        row = QHBoxLayout(root)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.sidebar)
        row.addLayout(right, 1)
        self.setCentralWidget(root)
        self.sidebar.chosen.connect(self.show_page)
        self.setMinimumSize(*MIN_SIZE)
        self.resize(*SIZE)
        geometry = QSettings().value(GEOMETRY)
        if geometry is not None:
            self.restoreGeometry(geometry)
        self._make_shortcuts()
        store.changed.connect(self._on_changed)
        self._on_changed("connection")
        self.show_page(0)

    def show_page(self, index: int) -> None:
        self.sidebar.select(index)
        self.stack.setCurrentIndex(index)
        title = self.pages[index].shown_title()
        self.setWindowTitle(f"{title} – Nexus")

    def go_to(self, name: str) -> None:
        """Show the page of a class name; one that this window lacks is not gone to."""
        for index, page in enumerate(self.pages):
            if type(page).__name__ == name:
                self.show_page(index)

    def toggle_pause(self) -> None:
        """Ctrl+P: pause until resumed, or resume."""
        snapshot = self._store.snapshot
        if snapshot is None or not self._store.is_connected:
            return
        if snapshot.state == State.PAUSED.value:
            self._store.call("resume")
        else:
            self._store.call("pause", Pause(None, None))

    def come_forward(self) -> None:
        if self.isMinimized():
            self.showNormal()
        self.show()
        self.raise_()
        self.activateWindow()

    def closeEvent(self, event: QCloseEvent) -> None:
        QSettings().setValue(GEOMETRY, self.saveGeometry())
        if self.may_close:
            event.accept()
        else:
            event.ignore()
            # Later: a window cannot be closed from inside its own close event.
            QTimer.singleShot(0, self, self.closed.emit)

    def _make_shortcuts(self) -> None:
        for index in range(min(9, len(self.pages))):
            keys = QShortcut(QKeySequence(f"Ctrl+{index + 1}"), self)
            keys.activated.connect(lambda index=index: self.show_page(index))
        QShortcut(QKeySequence("Ctrl+P"), self).activated.connect(self.toggle_pause)
        QShortcut(QKeySequence("Ctrl+Q"), self).activated.connect(self.quit_wanted)

    def _on_changed(self, topic: str) -> None:
        if topic != "connection":
            return
        version, own = self._store.version, self._store.own_version
        differs = self._store.is_connected and version != own
        self._banner_frame.setVisible(differs)
        if differs:
            text = self.tr("The node is version {0}, this window {1}. Restart the node to update.")
            self._banner.show_text(text.format(version, own), "warn")
