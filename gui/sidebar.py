"""The navigation: brand, pages, and at the foot whether the node is online."""

from PySide6.QtCore import QCoreApplication, QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from gui.store import Store
from gui.theme.theme import colour, icon, theme
from gui.theme.tokens import CONTROL_HEIGHT, MEDIUM, PLAIN, SMALL, STRONG
from gui.widgets.buttons import ToolButton
from gui.widgets.page import Page
from gui.widgets.text import Icon, Text
from gui.words import short_id

WIDTH = 212


class Sidebar(QWidget):
    """`chosen` carries the index of a page."""

    chosen = Signal(int)

    def __init__(self, store: Store, pages: tuple[type[Page], ...]) -> None:
        super().__init__()
        self._store = store
        self._pages = pages
        self.setObjectName("side")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 20, 12, 16)
        column.setSpacing(4)
        brand = QHBoxLayout()
        brand.setContentsMargins(12, 0, 0, 18)
        brand.setSpacing(8)
        brand.addWidget(Icon("logo", "accent", 28))
        brand.addWidget(Text("Nexus", 18, STRONG))
        brand.addStretch(1)
        column.addLayout(brand)
        self.group = QButtonGroup(self)
        self.buttons = tuple(_nav_button(page.shown_title()) for page in pages)
        for index, button in enumerate(self.buttons):
            self.group.addButton(button, index)
            column.addWidget(button)
        column.addStretch(1)
        self._dot = Dot()
        self._online = Text("", SMALL, MEDIUM, "text2", tabular=True)
        self._node = Text("", SMALL, PLAIN, "text2")
        foot = QHBoxLayout()
        foot.setContentsMargins(16, 0, 0, 0)
        foot.setSpacing(8)
        foot.addWidget(self._dot)
        foot.addWidget(self._online, 1)
        column.addLayout(foot)
        self._node.setContentsMargins(16, 0, 0, 0)
        column.addWidget(self._node)
        self.group.idToggled.connect(lambda index, on: self._restyle())
        self.group.idClicked.connect(self.chosen)
        store.changed.connect(self.refresh)
        self._restyle()
        self.refresh()

    def select(self, index: int) -> None:
        self.buttons[index].setChecked(True)

    def refresh(self, topic: str = "") -> None:
        snapshot = self._store.snapshot
        is_online = self._store.is_connected and snapshot is not None
        self._dot.show_online(is_online)
        peers = snapshot.bootstrap_peers if snapshot else 0
        words = _tr("Online · {0} peers") if peers != 1 else _tr("Online · {0} peer")
        self._online.setText(words.format(peers) if is_online else _tr("Offline"))
        self._node.setText(_tr("Node {0}").format(short_id(snapshot.node_id)) if snapshot else "")

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_node"):
            self._restyle()
        super().changeEvent(event)

    def _restyle(self) -> None:
        self.setFixedWidth(theme().px(WIDTH))
        for index, button in enumerate(self.buttons):
            is_on = button.isChecked()
            button.set_weight(MEDIUM if is_on else PLAIN)
            button.setIcon(icon(self._pages[index].icon_name, "accent" if is_on else "text2", 20))
            button.setIconSize(QSize(theme().px(20), theme().px(20)))
            button.setFixedHeight(theme().px(CONTROL_HEIGHT))


class Dot(QWidget):
    """Filled = online, hollow = offline: told by shape as well as by colour."""

    def __init__(self) -> None:
        super().__init__()
        self._is_online = False
        self.setFixedSize(10, 10)

    def show_online(self, is_online: bool) -> None:
        if is_online != self._is_online:
            self._is_online = is_online
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(colour("accent" if self._is_online else "text2"), 2))
        if self._is_online:
            painter.setBrush(colour("accent"))
        painter.drawEllipse(QRectF(1.5, 1.5, 7, 7))


def _nav_button(title: str) -> ToolButton:
    button = ToolButton(f"  {title}", title)  # QToolButton puts icon and text too close
    button.setObjectName("nav")
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    button.setCheckable(True)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return button


def _tr(text: str) -> str:
    return QCoreApplication.translate("Sidebar", text)
