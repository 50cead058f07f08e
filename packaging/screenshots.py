"""Take pictures of every page against the made-up node: `make screenshots`.

Starts a virtual screen of its own, so it needs Xvfb and nothing else. A human looks at them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

from PySide6.QtCore import QSettings
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QWidget

from gui.goodbye import Goodbye
from gui.sample import NO_HOST, PAUSED, SNAPSHOT, default_answers
from gui.store import Store
from gui.theme.theme import theme
from gui.tray import Tray
from gui.window import Window
from gui.wizard import Wizard
from nexusnode.control.messages import IdleTest
from nexusnode.control.scripted import ScriptedDaemon

MAX_BYTES = 200_000
SETTLE_SECONDS = 0.6
LOOKS = (("", "light", 100), ("-dark", "dark", 100), ("-150", "light", 150))
ALSO_DARK_AND_LARGE = {"HomePage", "WhenPage", "ModelsPage", "ChatPage"}


@contextmanager
def screen() -> Iterator[None]:
    """Be on a virtual screen while inside."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "2560x1800x24"]
    server = subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        os.environ["DISPLAY"] = f":{pipe.readline().strip()}"
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


class Photographer:
    def __init__(self, application: QApplication, folder: Path) -> None:
        self._application = application
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        due = monotonic() + seconds
        while monotonic() < due:
            self._application.processEvents()

    def take(self, widget: QWidget, name: str) -> None:
        self.settle()
        image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
        file = self._folder / f"{name}.png"
        image.save(str(file), quality=1)  # as the suffix says: PNG
        size = file.stat().st_size
        print(f"{file}  {size // 1000} kB")
        if size > MAX_BYTES:
            raise SystemExit(f"{file}: {size} bytes; {MAX_BYTES} are allowed")


def take_all(photographer: Photographer, store: Store, node: ScriptedDaemon) -> None:
    window = Window(store)
    window.show()
    for look, choice, percent in (
        ("", "light", 100),
        ("-dark", "dark", 100),
        ("-150", "light", 150),
    ):
        theme().choose(choice, percent)
        for index, page in enumerate(window.pages):
            kind = type(page).__name__
            if look and kind not in ALSO_DARK_AND_LARGE:
                continue
            window.show_page(index)
            photographer.take(window, kind.removesuffix("Page").lower() + look)
    theme().choose("light", 100)
    take_states(photographer, window, node)
    take_dialogs(photographer, store, window)
    node.close()
    photographer.settle()
    photographer.take(window, "home-offline")


def take_states(photographer: Photographer, window: Window, node: ScriptedDaemon) -> None:
    window.show_page(0)
    for name, snapshot in (("paused", PAUSED), ("no-host", NO_HOST)):
        node.publish("state", snapshot)
        photographer.take(window, f"home-{name}")
    node.publish("state", replace(SNAPSHOT, state="throttled", duty=0.6))
    window.resize(window.minimumSize())
    photographer.take(window, "home-narrow")
    window.resize(1180, 780)
    node.publish("state", SNAPSHOT)
    photographer.settle()


def take_dialogs(photographer: Photographer, store: Store, window: Window) -> None:
    wizard = Wizard(store, window)
    wizard.show()
    for index in range(len(wizard.steps)):
        photographer.settle(1.2 if index == 2 else SETTLE_SECONDS)
        photographer.take(wizard, f"wizard-{index + 1}")
        if index < len(wizard.steps) - 1:
            wizard.next.click()
    wizard.reject()
    goodbye = Goodbye(window)
    goodbye.show()
    photographer.take(goodbye, "goodbye")
    goodbye.reject()
    tray = Tray(store)
    tray.menu.popup(window.pos())
    photographer.take(tray.menu, "tray")
    tray.menu.hide()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the PNG files go")
    flags = parser.parse_args()
    with screen(), tempfile.TemporaryDirectory(prefix="nexus-") as scratch:
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, scratch)
        application = QApplication(sys.argv[:1])
        application.setQuitOnLastWindowClosed(False)
        photographer = Photographer(application, flags.folder)
        node = ScriptedDaemon(Path(scratch) / "n.sock")
        node.__enter__()
        node.answers.update(default_answers())
        node.answers["idle.test"] = IdleTest("X11", 1.0, "")
        store = Store(node.path, "0.1.0")
        store.start()
        photographer.settle()
        take_all(photographer, store, node)
        store.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
