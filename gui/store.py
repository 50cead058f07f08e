"""What the window knows of the node, and how it asks for more.

The newest values stand here as the dataclasses of the control API; pages read them and hear
`changed`. Events come by the hundred a second, so they only mark a topic; a timer tells the pages.
"""

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from gui.bridge import Bridge, code_of
from nexusnode.control.dialogue import Notice
from nexusnode.control.messages import (
    Meters,
    Models,
    Nothing,
    Schema,
    Settings,
    Snapshot,
    Topics,
    Welcome,
)
from p2p.errors import NexusError

COALESCE_MS = 100
TOPICS = ("state", "meters", "models", "chat")
MISMATCH = "control.api-mismatch"


class Pending(QObject):
    """A call on its way. One of the two signals comes, once, never before `call` has returned."""

    done = Signal(object)
    failed = Signal(str, str)


class Store(QObject):
    """The window's memory of the node.

    Signals: `changed` names a topic: state, meters, models, settings, connection. `chat_event`
    carries each `ChatEvent`, none left out.

    Attributes:
        version: the daemon's, "" before the first greeting.
        is_starting: a node has just been started and is given time to answer.
        trouble: why there is no connection, as (code, sentence); None while there is one.
    """

    changed = Signal(str)
    chat_event = Signal(object)

    def __init__(self, path: Path, version: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.snapshot: Snapshot | None = None
        self.meters: Meters | None = None
        self.models: Models | None = None
        self.settings: Settings | None = None
        self.schema: Schema | None = None
        self.is_connected = False
        self.version = ""
        self.own_version = version
        self.data_dir = ""
        self.trouble: tuple[str, str] | None = None
        self.is_starting = False
        self._pending: set[Pending] = set()
        self._dirty: set[str] = set()
        self._timer = QTimer(self, singleShot=True, interval=COALESCE_MS)
        self._timer.timeout.connect(self._tell)
        self.bridge = Bridge(path, version, self)
        self.bridge.greeted.connect(self._on_welcome)
        self.bridge.lost.connect(self._on_lost)
        self.bridge.noticed.connect(self._on_notice)

    def start(self) -> None:
        self.bridge.start()

    def stop(self) -> None:
        self.bridge.stop()

    def call(self, method: str, params: object = None) -> Pending:
        """Ask the daemon. The result also lands here if it is something the store keeps."""
        pending = Pending(self)
        self._pending.add(pending)

        def then(result: Any, error: NexusError | None) -> None:
            self._pending.discard(pending)
            if error is None:
                self._keep(result)
                pending.done.emit(result)
            else:
                pending.failed.emit(code_of(error), str(error))
            pending.deleteLater()

        self.bridge.call(method, params if params is not None else Nothing(), then)
        return pending

    def expect_node(self, is_starting: bool) -> None:
        """Say that a node is on its way, or that it is not waited for any more."""
        self.is_starting = is_starting
        if is_starting:
            self.bridge.retry_now()
        self._mark("connection")

    def setting(self, key: str) -> str | None:
        """Return a setting as TOML writes it, None while unknown."""
        pairs = self.settings.pairs if self.settings else ()
        return next((pair.value for pair in pairs if pair.key == key), None)

    def _on_welcome(self, welcome: Welcome) -> None:
        self.is_connected = True
        self.is_starting = False
        self.version = welcome.version
        self.data_dir = welcome.data_dir
        self.trouble = None
        self.call("subscribe", Topics(TOPICS))
        for method in ("state.snapshot", "meters", "settings.get", "settings.schema"):
            self.call(method)
        self.call("models.list")
        self._mark("connection")

    def _on_lost(self, error: NexusError) -> None:
        self.is_connected = False
        self.trouble = (code_of(error), str(error))
        self._mark("connection")

    def _on_notice(self, notice: Notice) -> None:
        """Each event but a chat's is the whole newest value: one that was left out is no loss."""
        if notice.topic == "chat":
            self.chat_event.emit(notice.data)
        else:
            self._keep(notice.data)

    def _keep(self, value: object) -> None:
        match value:
            case Snapshot():
                self.snapshot = value
                self._mark("state")
            case Meters():
                self.meters = value
                self._mark("meters")
            case Models():
                self.models = value
                self._mark("models")
            case Settings():
                self.settings = value
                self._mark("settings")
            case Schema():
                self.schema = value
                self._mark("settings")

    def _mark(self, topic: str) -> None:
        self._dirty.add(topic)
        if not self._timer.isActive():
            self._timer.start()

    def _tell(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for topic in sorted(dirty):
            self.changed.emit(topic)
