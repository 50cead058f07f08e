"""One window per user and data folder: the second start raises the first and ends."""

from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

WAIT_MS = 1000
RAISE = b"raise\n"


class Instance(QObject):
    """`raised` comes when another start asked for the window."""

    raised = Signal()

    def __init__(self, path: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._path = str(path)
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._on_connection)

    def claim(self) -> bool:
        """Return whether this is the first. If not, the first has been asked to show itself."""
        other = QLocalSocket()
        other.connectToServer(self._path)
        if other.waitForConnected(WAIT_MS):
            other.write(RAISE)
            other.waitForBytesWritten(WAIT_MS)
            other.disconnectFromServer()
            return False
        QLocalServer.removeServer(self._path)
        return self._server.listen(self._path)

    def release(self) -> None:
        self._server.close()

    def _on_connection(self) -> None:
        connection = self._server.nextPendingConnection()
        connection.disconnected.connect(connection.deleteLater)
        self.raised.emit()
