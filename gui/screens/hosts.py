"""Home's table of the hosts this node drafts for, and the card of this computer."""

from PySide6.QtCore import QCoreApplication, Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QWidget

from gui.store import Store
from gui.theme.tokens import MEDIUM, PLAIN, ROW, SMALL
from gui.widgets.buttons import QuietButton
from gui.widgets.card import Card, rule
from gui.widgets.meter import Meter
from gui.widgets.text import Icon, Text
from gui.words import UNKNOWN, short_id
from nexusnode.control.messages import HostView
from nexusnode.states import HostState

GB = 1 << 30
SHOWN = 4


class Hosts(Card):
    def __init__(self, store: Store) -> None:
        super().__init__(_tr("Hosts you help"), gap=10)
        self._store = store
        self._empty = Text("", ROW, PLAIN, "text2", wrap=True)
        self._table = QWidget()
        self._grid = QGridLayout(self._table)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(16)
        self._grid.setVerticalSpacing(10)
        self._grid.setColumnStretch(1, 1)
        heads = (_tr("Host"), _tr("State"), _tr("Answers"), _tr("Drafts kept"), _tr("Kept tokens"))
        for column, head in enumerate(heads):
            self._grid.addWidget(Text(head, SMALL, MEDIUM, "text2"), 0, column, _side(column))
        self._rows: list[tuple[QWidget, tuple[Text, ...]]] = []
        self.box.addWidget(self._empty)
        self.box.addWidget(self._table)
        self.box.addStretch(1)

    def refresh(self) -> None:
        snapshot = self._store.snapshot
        hosts = snapshot.hosts if snapshot else ()
        busiest = sorted(hosts, key=lambda host: -host.credited)[:SHOWN]
        self._table.setVisible(bool(hosts))
        self._empty.setVisible(not hosts)
        self._empty.setText(self._why_empty(snapshot.bootstrap_peers if snapshot else 0))
        while len(self._rows) < len(busiest):
            self._add_row()
        for index, (line, cells) in enumerate(self._rows):
            is_used = index < len(busiest)
            texts = self._cells(busiest[index]) if is_used else ("",) * len(cells)
            line.setVisible(is_used)
            for cell, text in zip(cells, texts, strict=True):
                cell.setVisible(is_used)
                cell.setText(text)

    def _why_empty(self, peers: int) -> str:
        if self._store.is_starting:
            return _tr("The node is starting.")
        if not self._store.is_connected:
            return _tr("The node is not running, so no host is connected.")
        known = _tr("{0} peers known.") if peers != 1 else _tr("{0} peer known.")
        text = _tr("Looking for hosts. None has asked for your model yet.")
        return f"{text} {known.format(peers)}"

    def _add_row(self) -> None:
        """Rows are reused: their figures change by the second, their number rarely."""
        place, line = 2 * len(self._rows) + 1, rule()
        self._grid.addWidget(line, place, 0, 1, 5)
        cells = tuple(
            Text("", ROW, MEDIUM if column == 0 else PLAIN, tabular=column > 1)
            for column in range(5)
        )
        for column, cell in enumerate(cells):
            self._grid.addWidget(cell, place + 1, column, _side(column))
        self._rows.append((line, cells))

    def _cells(self, host: HostView) -> tuple[str, str, str, str, str]:
        is_live = self._store.is_connected
        share = f"{host.credited / host.committed:.1%}" if host.committed and is_live else UNKNOWN
        return (
            short_id(host.peer),
            _state_text(host.state) if is_live else UNKNOWN,
            f"{host.sessions}" if is_live else UNKNOWN,
            share.replace("%", " %"),
            f"{host.credited:,}",
        )


class Device(Card):
    """`page_wanted` as of `Page`."""

    page_wanted = Signal(str)

    def __init__(self, store: Store) -> None:
        self.change = QuietButton(_tr("Change limits"))
        super().__init__(_tr("This computer"), self.change, gap=8)
        self._store = store
        self.change.clicked.connect(lambda: self.page_wanted.emit("ResourcesPage"))
        self._device = Text("", ROW, MEDIUM)
        self._total = Text("", SMALL, PLAIN, "text2")
        self._meter = Meter()
        self._memory = Text("", SMALL, PLAIN, "text2", wrap=True, tabular=True)
        self._model = Text("", ROW, MEDIUM)
        self._detector = Text("", ROW, PLAIN, wrap=True)
        self.box.addLayout(_line(Icon("chip", "text2", 18), self._device, self._total))
        self.box.addWidget(self._meter)
        self.box.addWidget(self._memory)
        self.box.addLayout(_line(Icon("cube", "text2", 18), self._model))
        self.box.addLayout(_line(Icon("keyboard", "text2", 18), self._detector))
        self.box.addStretch(1)

    def refresh(self) -> None:
        snapshot, meters = self._store.snapshot, self._store.meters
        is_live = self._store.is_connected
        self._model.setText((snapshot.model if snapshot else "") or _tr("No draft model"))
        if meters is None or not is_live:
            self._device.setText(device_text(meters.device if meters else ""))
            self._total.setText("")
            self._memory.setText(_tr("Memory in use: {0}").format(UNKNOWN))
            self._meter.show_parts((), self._memory.text())
            self._detector.setText(UNKNOWN)
            return
        self._device.setText(device_text(meters.device))
        self._total.setText(f"{meters.memory_total_bytes / GB:.0f} GB")
        self._show_memory()
        if meters.detector:
            self._detector.setText(_tr("Sees that you are away by {0}").format(meters.detector))
        else:
            self._detector.setText(_tr("Cannot see whether you are away"))

    def _show_memory(self) -> None:
        snapshot, meters = self._store.snapshot, self._store.meters
        assert meters is not None
        total = max(1, meters.memory_total_bytes)
        used = max(0, total - meters.memory_free_bytes)
        ours = min(used, snapshot.worker.rss_bytes if snapshot else 0)
        text = _tr("Nexus {0}  ·  other programs {1}  ·  free {2} GB").format(
            *(f"{part / GB:.1f}" for part in (ours, used - ours, meters.memory_free_bytes))
        )
        parts = ((ours / total, "accent"), ((used - ours) / total, "other"))
        self._memory.setText(text)
        self._meter.show_parts(parts, text)


def _state_text(state: str) -> str:
    texts = {
        HostState.DIALLING: _tr("Connecting"),
        HostState.GREETING: _tr("Connecting"),
        HostState.SERVING: _tr("Drafting for it"),
        HostState.WAITING: _tr("Waits to try again"),
        HostState.REFUSED: _tr("Does not want this node"),
    }
    return texts[HostState(state)]


def device_text(device: str) -> str:
    """Return a device as people call it: a node without a graphics card says "cpu"."""
    return _tr("Processor") if device in ("", "cpu") else device


def _line(icon: Icon, *texts: Text) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(10)
    row.addWidget(icon)
    for text in texts:
        row.addWidget(text, 1 if text.wordWrap() else 0)
    if not texts[-1].wordWrap():
        row.addStretch(1)
    return row


def _side(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column > 1 else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


def _tr(text: str) -> str:
    return QCoreApplication.translate("Home", text)
