"""Starts the daemon of the same installation, detached, and ends one that is of another version."""

import os
import signal
import sys
from pathlib import Path

from PySide6.QtCore import QDir, QObject, QProcess, QTimer

from gui.store import MISMATCH, Store
from p2p.paths import Folders

LOG = "node-output.log"
END_SECONDS = 10.0
LOOK_MS = 200
START_SECONDS = 15.0  # a cold start took 4 s on a busy machine


class Launcher(QObject):
    """`arguments` go to `nexusnode run`, such as --data DIR."""

    def __init__(self, store: Store, folders: Folders, arguments: list[str]) -> None:
        super().__init__(store)
        self._store = store
        self._folders = folders
        self._arguments = arguments
        self._is_restarting = False
        self._deadline = QTimer(self, singleShot=True, interval=int(END_SECONDS * 1000))
        self._deadline.timeout.connect(self._kill)
        self._patience = QTimer(self, singleShot=True, interval=int(START_SECONDS * 1000))
        self._patience.timeout.connect(lambda: store.expect_node(False))
        store.changed.connect(self._on_changed)

    def start_if_absent(self) -> None:
        """Start a daemon once it is known that none answers. Nothing is restarted unasked."""
        if self._store.is_connected:
            return
        if self._store.trouble is None:  # one may be about to greet
            QTimer.singleShot(LOOK_MS, self, self.start_if_absent)
        elif self._store.trouble[0] != MISMATCH:
            self.start()

    def ensure(self) -> None:
        """The user wants a node: start one unless it answers, restart one of another api."""
        if self._store.is_connected or self._store.is_starting:
            return
        if self._store.trouble is not None and self._store.trouble[0] == MISMATCH:
            self.restart()
        else:
            self.start()

    def start(self) -> None:
        """Start the daemon in a session of its own. A second one ends by itself at the lock."""
        QDir().mkpath(str(self._folders.logs))
        process = QProcess()
        program, *first = command()
        process.setProgram(program)
        process.setArguments([*first, "run", *self._arguments])
        process.setStandardInputFile(QProcess.nullDevice())
        process.setStandardOutputFile(str(self._folders.logs / LOG))
        process.setStandardErrorFile(str(self._folders.logs / LOG))
        process.startDetached()
        self._store.expect_node(True)
        self._patience.start()

    def restart(self) -> None:
        """End the daemon that runs, then start ours."""
        self._is_restarting = True
        self._deadline.start()
        if self._store.is_connected:
            self._store.call("quit")
        else:
            self._kill()

    def _kill(self) -> None:
        """End what does not understand us: its id is the kernel's word on the socket's far end."""
        pid = self._store.bridge.peer_pid
        if pid:
            os.kill(pid, signal.SIGTERM)
        self._on_changed("connection")

    def _on_changed(self, topic: str) -> None:
        if topic == "connection" and self._is_restarting and not self._store.is_connected:
            self._is_restarting = False
            self._deadline.stop()
            self.start()


def command() -> list[str]:
    """Return how this installation's `nexusnode` is called."""
    beside = Path(sys.executable).with_name("nexusnode")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-P", "-m", "nexusnode.cli.main"]
