"""The joined application, in process: first run, hand-over to the tray, stop."""

import pytest
from PySide6.QtCore import QSettings
from PySide6.QtTest import QTest

from gui.app import WIZARD_DONE, App
from gui.launch import Launcher
from p2p.paths import folders


@pytest.fixture
def app(qapp, store, tmp_path):
    QSettings().clear()
    made = App(qapp, store, Launcher(store, folders("node", tmp_path / "n"), []))
    yield made
    made.window.may_close = True
    made.window.close()
    made.window.deleteLater()
    made.deleteLater()
    QSettings().clear()


def test_the_first_start_opens_the_wizard_once(app, wait_for):
    app.start(is_background=False)
    assert app._wizard is not None
    assert app._wizard.isVisible()

    app._wizard.reject()
    wait_for(lambda: not app._wizard.isVisible())

    assert QSettings().value(WIZARD_DONE, False, bool)


def test_a_start_in_the_background_shows_no_page_and_no_wizard(app):
    app.start(is_background=True)

    assert app._wizard is None
    assert not app.window.isVisible() or app.window.isMinimized()


def test_stopping_asks_the_node_to_quit_and_closes(app, daemon, wait_for):
    app.window.show()
    assert QTest.qWaitForWindowExposed(app.window)

    app.stop_node()
    wait_for(lambda: daemon.params_of("quit"))

    wait_for(lambda: not app.window.isVisible())


def test_keep_helping_closes_the_window_and_not_the_node(app, daemon, wait_for):
    QSettings().setValue("goodbye/choice", "keep")
    app.window.show()
    assert QTest.qWaitForWindowExposed(app.window)

    app.window.close()
    wait_for(lambda: not app.window.isVisible())

    assert not daemon.params_of("quit")
