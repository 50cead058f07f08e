"""The line to the daemon: a local socket in Qt's loop, the control dialogue on top of it.

It greets, hands on what arrives, and comes back by itself after a break. No threads; a call that
stays unanswered for `CALL_SECONDS` fails.
"""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtNetwork import QLocalSocket

from nexusnode.control.dialogue import ClientDialogue, Notice, Reply
from nexusnode.control.messages import Welcome
from p2p.errors import ControlError, NexusError, NoDaemon, PeerError

HELLO_SECONDS = 10.0
CALL_SECONDS = 30.0
RETRY_SECONDS = (0.2, 5.0)
CLIENT = "nexus-gui"

Callback = Callable[[Any, NexusError | None], None]


class Bridge(QObject):
    """One connection at a time to `path`.

    Signals: `greeted` carries the `Welcome`, `noticed` a `Notice`, `lost` the error that ended a
    connection (or the try of one). A refused greeting is `lost` with `control.api-mismatch`.
    """

    greeted = Signal(object)
    noticed = Signal(object)
    lost = Signal(object)

    def __init__(self, path: Path, version: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._path = path
        self._version = version
        self._dialogue = ClientDialogue()
        self._waiting: dict[int, tuple[float, Callback]] = {}
        self._delay = RETRY_SECONDS[0]
        self.is_greeted = False
        self.peer_pid: int | None = None
        self._socket = QLocalSocket(self)
        self._socket.connected.connect(self._greet)
        self._socket.readyRead.connect(self._read)
        self._socket.disconnected.connect(self._on_end)
        self._socket.errorOccurred.connect(self._on_error)
        self._retry = QTimer(self, singleShot=True)
        self._retry.timeout.connect(self._connect)
        self._deadline = QTimer(self, singleShot=True, interval=int(HELLO_SECONDS * 1000))
        self._deadline.timeout.connect(self._give_up_hello)
        self._clock = QTimer(self, interval=1000)
        self._clock.timeout.connect(self._expire)

    def start(self) -> None:
        """Connect now, and go on trying until `stop`."""
        self._clock.start()
        self._connect()

    def retry_now(self) -> None:
        """Do not wait for the next try: a daemon has just been started."""
        self._delay = RETRY_SECONDS[0]
        if self._socket.state() == QLocalSocket.LocalSocketState.UnconnectedState:
            self._connect()

    def stop(self) -> None:
        for timer in (self._retry, self._deadline, self._clock):
            timer.stop()
        self.is_greeted = False
        self._socket.blockSignals(True)
        self._socket.abort()
        self._fail_all(NoDaemon("the window is closing"))

    def call(self, method: str, params: Any, then: Callback) -> None:
        """Ask the daemon; `then` gets the result, or the error. Never calls back at once."""
        if not self.is_greeted:
            error = NoDaemon("The node is not answering. Start it again, then repeat this.")
            QTimer.singleShot(0, self, lambda: then(None, error))
            return
        self._send(*self._dialogue.call(method, params), then)

    def _connect(self) -> None:
        self._dialogue = ClientDialogue()
        self._socket.connectToServer(str(self._path))

    def _greet(self) -> None:
        self.peer_pid, uid = _peer(int(self._socket.socketDescriptor()))
        if uid is not None and uid != os.getuid():
            self._break(NoDaemon("Another user answers in this node's place; it is not asked."))
            return
        self._deadline.start()
        self._send(*self._dialogue.hello(CLIENT, self._version), self._on_welcome)

    def _on_welcome(self, welcome: Welcome | None, error: NexusError | None) -> None:
        self._deadline.stop()
        if error is not None:
            self._break(error)
            return
        self._delay = RETRY_SECONDS[0]
        self.is_greeted = True
        self.greeted.emit(welcome)

    def _send(self, call: int, data: bytes, then: Callback) -> None:
        self._waiting[call] = (monotonic() + CALL_SECONDS, then)
        self._socket.write(data)

    def _read(self) -> None:
        try:
            arrived = self._dialogue.receive(bytes(self._socket.readAll().data()))
        except PeerError as error:
            self._break(error)
            return
        for item in arrived:
            if isinstance(item, Notice):
                self.noticed.emit(item)
            else:
                self._settle(item)

    def _settle(self, reply: Reply) -> None:
        _, then = self._waiting.pop(reply.id, (0.0, None))
        if then is not None:
            then(reply.result, reply.refusal)

    def _expire(self) -> None:
        now = monotonic()
        late = [call for call, (due, _) in self._waiting.items() if due < now]
        for call in late:
            _, then = self._waiting.pop(call)
            then(None, NoDaemon(f"The node did not answer within {CALL_SECONDS:.0f} seconds."))

    def _give_up_hello(self) -> None:
        self._break(NoDaemon(f"The node did not greet within {HELLO_SECONDS:.0f} seconds."))

    def _on_end(self) -> None:
        self._break(NoDaemon("The node has ended."))

    def _on_error(self) -> None:
        if self._socket.state() != QLocalSocket.LocalSocketState.ConnectedState:
            self._break(NoDaemon("No node is running for this user."))

    def _break(self, error: NexusError) -> None:
        """End this connection, say why, and try again later. Once per connection."""
        if self._retry.isActive():
            return
        self._retry.start(int(self._delay * 1000))
        self._delay = min(self._delay * 2, RETRY_SECONDS[1])
        self._deadline.stop()
        self.is_greeted = False
        self._socket.abort()
        self._fail_all(error)
        self.lost.emit(error)

    def _fail_all(self, error: NexusError) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, then in waiting.values():
            then(None, error)


def code_of(error: NexusError) -> str:
    """Return the stable code of a refusal or of a broken line."""
    return error.refusal if isinstance(error, ControlError) else error.code


def _peer(descriptor: int) -> tuple[int | None, int | None]:
    """Return process and user at the other end; None where the system cannot say."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or descriptor < 0:
        return None, None
    with socket.socket(fileno=os.dup(descriptor)) as twin:
        pid, uid, _ = struct.unpack("3i", twin.getsockopt(socket.SOL_SOCKET, option, 12))
    return pid, uid
