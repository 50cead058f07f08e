"""The application: store, window, tray, wizard and the daemon's start, joined together."""

from PySide6.QtCore import QObject, QSettings, QTimer
from PySide6.QtWidgets import QApplication, QSystemTrayIcon

from gui import appearance
from gui.goodbye import Choice, ask_goodbye
from gui.launch import Launcher
from gui.store import Store
from gui.tray import Tray
from gui.window import Window
from gui.wizard import Wizard
from gui.wizard_steps import HOURS

STOP_MS = 5000
WIZARD_DONE = "wizard/done"


class App(QObject):
    def __init__(self, application: QApplication, store: Store, launcher: Launcher) -> None:
        super().__init__(application)
        self._application = application
        self._store = store
        self._launcher = launcher
        self._wizard: Wizard | None = None
        self.window = Window(store)
        self.tray = Tray(store)
        self.window.closed.connect(lambda: self.say_goodbye(is_asked=False))
        self.window.quit_wanted.connect(lambda: self.say_goodbye(is_asked=True))
        self.window.node_wanted.connect(launcher.ensure)
        self.window.restart_wanted.connect(launcher.restart)
        self.tray.open_wanted.connect(self._open)
        self.tray.node_wanted.connect(launcher.ensure)
        self.tray.stop_wanted.connect(self.stop_node)
        appearance.restore()

    def start(self, is_background: bool) -> None:
        """Show the window first, then look for the daemon: starting one takes seconds."""
        has_tray = QSystemTrayIcon.isSystemTrayAvailable()
        if has_tray:
            self.tray.show()
        if not is_background:
            self.window.show()
        elif not has_tray:
            self.window.showMinimized()
        self._application.commitDataRequest.connect(self._on_logout)
        self._store.start()
        self._launcher.start_if_absent()
        if not is_background and not QSettings().value(WIZARD_DONE, False, bool):
            self.open_wizard()

    def open_wizard(self) -> None:
        self._wizard = Wizard(self._store, self.window)
        self._wizard.finished.connect(self._after_wizard)
        self._wizard.open()

    def _after_wizard(self) -> None:
        """Not again; and who wanted to choose the hours is taken there."""
        QSettings().setValue(WIZARD_DONE, True)
        if self._wizard is not None and self._wizard.answers.when == HOURS:
            self.window.go_to("WhenPage")

    def say_goodbye(self, is_asked: bool) -> None:
        """Leave the node helping, or stop it. The answer to the window's cross is remembered."""
        choice = ask_goodbye(self.window, is_asked)
        if choice is Choice.KEEP:
            if QSystemTrayIcon.isSystemTrayAvailable() and not is_asked:
                self.window.hide()
            else:
                self._end()
        elif choice is Choice.STOP:
            self.stop_node()

    def stop_node(self) -> None:
        """End the daemon, then ourselves: also if it does not answer in time."""
        if not self._store.is_connected:
            self._end()
            return
        pending = self._store.call("quit")
        pending.done.connect(self._end)
        pending.failed.connect(self._end)
        QTimer.singleShot(STOP_MS, self, self._end)

    def _end(self) -> None:
        self.window.may_close = True
        self.window.close()
        self.tray.item.hide()
        self._store.stop()
        self._application.exit(0)

    def _on_logout(self) -> None:
        """Do not hold up the end of a session with a question."""
        self.window.may_close = True

    def _open(self, page: str) -> None:
        self.window.come_forward()
        if page:
            self.window.go_to(page)
