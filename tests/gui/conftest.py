"""The real window on a real (virtual) screen, against a scripted node on a real socket."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QEventLoop, QSettings, QTimer
from PySide6.QtWidgets import QApplication

from gui.sample import default_answers
from gui.store import Store
from gui.theme.theme import theme
from nexusnode.control.scripted import ScriptedDaemon

DEADLINE_SECONDS = 10.0
WaitFor = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="session")
def screen() -> Iterator[str]:
    """A virtual X screen of our own; its number comes from the server, so nothing collides."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1200x24", "-nolisten", "tcp"],
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        display = f":{pipe.readline().strip()}"
    yield display
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="session")
def qapp(screen: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QApplication]:
    """The one application of the test run, on X11 as a user's is."""
    os.environ["DISPLAY"] = screen
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    QSettings.setPath(
        QSettings.Format.IniFormat,
        QSettings.Scope.UserScope,
        str(tmp_path_factory.mktemp("settings")),
    )
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QCoreApplication.setOrganizationName("nexus-test")
    application = QApplication(["nexus-gui"])
    application.setQuitOnLastWindowClosed(False)
    theme().choose("light")
    yield application
    application.closeAllWindows()


@pytest.fixture
def wait_for(qapp: QApplication) -> WaitFor:
    """Run Qt's loop until something is true; fail after `DEADLINE_SECONDS`."""

    def wait(is_true: Callable[[], object]) -> None:
        due = monotonic() + DEADLINE_SECONDS
        tick = QTimer(interval=5)
        tick.start()
        while not is_true():
            assert monotonic() < due, "what was waited for did not come"
            qapp.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)

    return wait


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    """A node that answers as the sample does; change `answers` at will."""
    with ScriptedDaemon(tmp_path / "n.sock") as node:
        node.answers.update(default_answers())
        yield node


@pytest.fixture
def store(qapp: QApplication, daemon: ScriptedDaemon, wait_for: WaitFor) -> Iterator[Store]:
    """A connected store that has heard the node's first values."""
    made = Store(daemon.path, "0.1.0")
    made.start()
    wait_for(lambda: made.snapshot and made.meters and made.models and made.settings)
    yield made
    made.stop()
    made.deleteLater()
