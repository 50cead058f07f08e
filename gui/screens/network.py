"""Network: who this node is, whom it drafts for, how much it sends and receives."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QWidget

from gui.store import Store
from gui.theme.tokens import BODY, MEDIUM, ROW, SMALL
from gui.widgets.buttons import QuietButton
from gui.widgets.card import Card, rule
from gui.widgets.fields import clear
from gui.widgets.figure import Figure
from gui.widgets.notices import Notices
from gui.widgets.page import Page
from gui.widgets.row import Row
from gui.widgets.text import Text
from gui.widgets.wrap import Wrap
from gui.words import UNKNOWN, breakable, number, share, short_id, size
from nexusnode.control.messages import HostView


class NetworkPage(Page):
    """The page. Without a connection every live value is "—"."""

    title = "Network"
    icon_name = "mesh"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.notices = Notices()
        self._hosts: tuple[tuple[HostView, ...], bool] | None = None
        self._received = Figure("wifi", self.tr("Received today"))
        self._sent = Figure("wifi", self.tr("Sent today"))
        self._kept = Figure("bolt", self.tr("Drafts kept"))
        self._peers = Figure("mesh", self.tr("Entry points"))
        self._copy = QuietButton(self.tr("Copy"))
        self._copy.clicked.connect(self._on_copy)
        self._own = Row(self.tr("This node's id"), self._copy)
        self._copy.setAccessibleName(self.tr("Copy the id of this node"))
        own = Card(self.tr("This node"), gap=8)
        own.box.addWidget(self._own)
        own.box.addWidget(rule())
        own.box.addWidget(
            Row(
                self.tr("Reachable from outside"),
                Text(UNKNOWN),
                self.tr("Not tested, and not needed: the node calls the hosts, not they it."),
            )
        )
        self._table = QGridLayout()
        self._table.setHorizontalSpacing(16)
        self._table.setVerticalSpacing(8)
        self._table.setColumnStretch(1, 1)
        self._nobody = Text("", BODY, tone="text2", wrap=True)
        hosts = Card(self.tr("Hosts you help"))
        hosts.box.addWidget(self._nobody)
        hosts.box.addLayout(self._table)
        self.body.addWidget(self.notices)
        self.body.addWidget(Wrap(self._received, self._sent, self._kept, self._peers))
        self.body.addWidget(hosts)
        self.body.addWidget(own)
        self.body.addStretch(1)

    def refresh(self) -> None:
        self.notices.show_connection(self.store)
        snapshot = self.store.snapshot
        is_live = self.store.is_connected and snapshot is not None
        self._own.set_hint(breakable(snapshot.node_id) if snapshot else self.tr("Not known yet."))
        self._copy.setEnabled(snapshot is not None)
        self._show_figures()
        hosts = snapshot.hosts if snapshot else ()
        if (hosts, is_live) != self._hosts:
            self._hosts = (hosts, is_live)
            self._show_hosts(hosts, is_live)

    def _show_figures(self) -> None:
        meters = self.store.meters if self.store.is_connected else None
        snapshot = self.store.snapshot if self.store.is_connected else None
        if meters is None:
            for figure in (self._received, self._sent, self._kept):
                figure.show_value(UNKNOWN, below=self.tr("Not known while the node is away."))
        else:
            for figure, count in (
                (self._received, meters.received_bytes),
                (self._sent, meters.sent_bytes),
            ):
                value, _, unit = size(count).rpartition(" ")
                figure.show_value(value, unit, self.tr("since midnight"))
            kept = share(meters.credited, meters.committed).removesuffix(" %")
            is_known = meters.committed > 0
            below = (
                self.tr("of the answers' tokens, last hour")
                if is_known
                else self.tr("No answer in the last hour.")
            )
            self._kept.show_value(kept, "%" if is_known else "", below)
        if snapshot is None:
            self._peers.show_value(UNKNOWN, below=self.tr("Not known while the node is away."))
        else:
            peers = number(snapshot.bootstrap_peers)
            self._peers.show_value(peers, below=self.tr("Peers through which hosts are found."))

    def _show_hosts(self, hosts: tuple[HostView, ...], is_live: bool) -> None:
        clear(self._table)
        self._nobody.setVisible(not hosts)
        self._nobody.setText(
            self.tr("Looking for hosts. None has asked for your model yet.")
            if is_live
            else self.tr("Not known while the node is not answering.")
        )
        if not hosts:
            return
        titles = (
            self.tr("Host"),
            self.tr("State"),
            self.tr("Drafts kept"),
            self.tr("Tokens kept"),
        )
        for column, title in enumerate(titles):
            self._put(Text(title, SMALL, MEDIUM, "text2", wrap=True), 0, column)
        for line, host in enumerate(hosts):
            self._table.addWidget(rule(), 2 * line + 1, 0, 1, len(titles))
            self._show_host(2 * line + 2, host, is_live)

    def _show_host(self, line: int, host: HostView, is_live: bool) -> None:
        name = Text(short_id(host.peer), ROW, MEDIUM)
        name.setToolTip(f"{host.peer}\n{host.address}")
        state = self._state_words(host.state) if is_live else UNKNOWN
        if host.reason and is_live:
            state = f"{state}: {host.reason}"
        self._put(name, line, 0)
        self._put(Text(state, ROW, tone="text2", wrap=True), line, 1)
        kept = share(host.credited, host.committed)
        for column, text in (
            (2, kept if is_live else UNKNOWN),
            (3, number(host.credited)),
        ):
            self._put(Text(text, ROW, tabular=True), line, column)

    def _put(self, widget: QWidget, line: int, column: int) -> None:
        if column == 1:
            self._table.addWidget(widget, line, column)
            return
        side = Qt.AlignmentFlag.AlignRight if column > 1 else Qt.AlignmentFlag.AlignLeft
        self._table.addWidget(widget, line, column, side | Qt.AlignmentFlag.AlignVCenter)

    def _state_words(self, state: str) -> str:
        words = {
            "dialling": self.tr("Connecting"),
            "greeting": self.tr("Introducing itself"),
            "serving": self.tr("Drafting for it"),
            "waiting": self.tr("Tries again soon"),
            "refused": self.tr("Does not want drafts"),
        }
        return words.get(state, state)

    def _on_copy(self) -> None:
        if self.store.snapshot is not None:
            QGuiApplication.clipboard().setText(self.store.snapshot.node_id)
