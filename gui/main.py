"""`nexus-gui`: the window of a node. With --background only the icon beside the clock."""

import argparse
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PySide6.QtCore import QLibraryInfo, QLocale, QTimer, QTranslator
from PySide6.QtWidgets import QApplication

from gui.app import App
from gui.instance import Instance
from gui.launch import Launcher
from gui.store import Store
from gui.theme.theme import pixmap
from p2p.paths import folders, make_private, socket_path


def main(arguments: list[str] | None = None) -> int:
    """Run until the user quits. Returns the exit status."""
    flags = _parser().parse_args(arguments)
    application = QApplication(sys.argv[:1])
    application.setApplicationName("Nexus")
    application.setOrganizationName("nexus")
    application.setDesktopFileName("org.nexusnode.Nexus")
    application.setQuitOnLastWindowClosed(False)
    home = folders("node", flags.data)
    socket = socket_path(home.data)
    make_private(socket.parent)
    instance = Instance(socket.with_name(f"{socket.stem}-gui.sock"), application)
    if not instance.claim():
        return 0
    application.setWindowIcon(pixmap("logo", "accent", 64))
    _translate(application)
    store = Store(socket, package_version(), application)
    run = ["--data", str(flags.data)] if flags.data else []
    app = App(application, store, Launcher(store, home, run))
    instance.raised.connect(app.window.come_forward)
    _quit_on_signals(application)
    app.start(flags.background)
    status = application.exec()
    instance.release()
    return status


def package_version() -> str:
    try:
        return version("nexusnode")
    except PackageNotFoundError:
        return "unknown"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nexus-gui", description=__doc__)
    parser.add_argument("--background", action="store_true", help="only the icon in the tray")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the node's own folder")
    return parser


def _translate(application: QApplication) -> None:
    """Have Qt's own buttons speak the user's language."""
    translator = QTranslator(application)
    folder = QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)
    if translator.load(QLocale(), "qtbase", "_", folder):
        application.installTranslator(translator)


def _quit_on_signals(application: QApplication) -> None:
    """Let SIGINT and SIGTERM end the window: Python sees them only when Qt's loop turns.

    `exit`, not `quit`: the latter asks the window, which would ask the user. By a timer, as one
    that comes before the loop turns would be lost.
    """

    def end(number: int, frame: object) -> None:
        QTimer.singleShot(0, application, lambda: application.exit(0))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    wake = QTimer(application, interval=500)
    wake.timeout.connect(lambda: None)
    wake.start()


if __name__ == "__main__":
    raise SystemExit(main())
