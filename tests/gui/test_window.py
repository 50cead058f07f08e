"""The real window under X11 against a scripted node: Home, navigation, tray, goodbye."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QSettings, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton

from gui.goodbye import Choice, Goodbye, ask_goodbye
from gui.sample import METERS, NO_HOST, PAUSED, SNAPSHOT
from gui.screens.home import HomePage
from gui.status import status_of
from gui.theme.theme import theme
from gui.tray import Tray
from gui.window import Window
from nexusnode.states import Reason


@pytest.fixture
def window(store, wait_for):
    QSettings().clear()
    made = Window(store, (HomePage,))
    made.show()
    assert QTest.qWaitForWindowExposed(made)
    yield made
    made.may_close = True
    made.close()
    made.deleteLater()


@pytest.fixture
def home(window):
    return window.pages[0]


def texts(widget) -> str:
    """Everything that can be read in a widget now."""
    labels = (*widget.findChildren(QLabel), *widget.findChildren(QPushButton))
    return " | ".join(label.text() for label in labels if label.isVisible())


def test_the_window_opens_at_its_size_with_its_title(window):
    assert (window.width(), window.height()) == (1180, 780)
    assert window.windowTitle() == "Home – Nexus"
    assert (window.minimumWidth(), window.minimumHeight()) == (900, 620)


def test_home_says_what_the_node_does(window, home, wait_for):
    wait_for(lambda: "Running while you are away" in texts(home))
    wait_for(lambda: home.kept.accessibleName().split()[3] != "—")

    assert "71.4" in texts(home)
    assert "limit 120 W" in texts(home)
    assert "Not connected to a market yet" in texts(home)
    assert "Online · 14 peers" in texts(window)


def test_pause_is_one_click_and_shows_at_once(window, home, daemon, wait_for):
    wait_for(lambda: home.hero.main.text().strip() == "Pause")

    QTest.mouseClick(home.hero.main, Qt.MouseButton.LeftButton)
    wait_for(lambda: home.hero.main.text().strip() == "Resume")

    assert daemon.params_of("pause")[0].for_seconds is None
    assert "Paused: by you" in texts(home)
    assert not home.hero.finish.isVisible()


@pytest.mark.parametrize(
    ("reason", "action"),
    [
        (Reason.INPUT, "Run anyway"),
        (Reason.IDLE_UNKNOWN, "Run anyway"),
        (Reason.SNOOZE, "Resume"),
        (Reason.NO_MEMORY, "Change this"),
    ],
)
def test_the_main_action_fits_the_reason(window, home, daemon, wait_for, reason, action):
    daemon.publish("state", replace(PAUSED, reason=reason.value, blockers=(reason.value,)))

    wait_for(lambda: home.hero.main.text().strip() == action)


def test_all_blockers_are_listed_not_only_the_first(window, home, daemon, wait_for):
    both = ("no-memory", "input")
    daemon.publish("state", replace(PAUSED, reason="no-memory", blockers=both))

    wait_for(lambda: "Not enough memory" in texts(home.checks))

    assert "What it waits for" in texts(home.checks)
    assert "You are using the computer" in texts(home.checks)


def test_a_node_without_hosts_says_so(window, home, daemon, wait_for):
    daemon.publish("state", NO_HOST)

    wait_for(lambda: "None has asked for your model yet. 14 peers known." in texts(home))


def test_a_node_that_is_gone_turns_every_live_value_to_a_dash(window, home, daemon, wait_for):
    wait_for(lambda: home.hero.main.text().strip() == "Pause")
    asked = []
    window.node_wanted.connect(lambda: asked.append(True))

    daemon.close()
    wait_for(lambda: "The node is not answering" in texts(home))
    QTest.mouseClick(home.hero.main, Qt.MouseButton.LeftButton)

    assert asked
    assert home.hero.main.text().strip() == "Start again"
    assert "Offline" in texts(window)
    assert not home.checks.isVisible()
    assert "Drafts kept: —" in home.share.accessibleName()
    assert "Power: —" in home.power.accessibleName()


def test_a_node_on_its_way_is_said_to_start_until_it_is_given_up(window, home, daemon, store,
                                                                  wait_for):  # fmt: skip
    daemon.close()
    wait_for(lambda: "The node is not answering" in texts(home))

    store.expect_node(True)
    wait_for(lambda: "Starting the node" in texts(home))
    store.expect_node(False)

    wait_for(lambda: "The node is not answering" in texts(home))


def test_a_refused_wish_is_said_in_the_window(window, home, daemon, wait_for):
    daemon.answers.pop("pause")
    wait_for(lambda: home.hero.main.text().strip() == "Pause")

    QTest.mouseClick(home.hero.main, Qt.MouseButton.LeftButton)

    wait_for(lambda: "no pause in this script" in home.hero.sentence.text())
    assert home.hero.main.isEnabled()


def test_choosing_the_week_asks_for_a_week(window, home, daemon, wait_for):
    wait_for(lambda: daemon.params_of("history.query"))

    home.spans.group.button(2).click()

    def spans():
        asked = daemon.params_of("history.query")
        return {query.to_unix_seconds - query.from_unix_seconds for query in asked}

    wait_for(lambda: 7 * 86_400 in spans())


def test_a_node_of_another_version_brings_an_offer_to_restart(window, store):
    store.version = "0.0.9"
    asked = []
    window.restart_wanted.connect(lambda: asked.append(True))

    store.changed.emit("connection")
    window._restart.click()

    assert window._banner.isVisible()
    assert "0.0.9" in window._banner.accessibleName()
    assert asked


def test_ctrl_p_pauses(window, daemon, wait_for):
    window.toggle_pause()

    wait_for(lambda: daemon.params_of("pause"))


def test_a_hidden_page_does_not_repaint(window, home, daemon, store, wait_for):
    told = []
    store.changed.connect(told.append)
    window.hide()

    daemon.publish("state", replace(SNAPSHOT, state="paused", reason="user-pause"))
    wait_for(lambda: store.snapshot.state == "paused" and "state" in told)
    before = home.hero.title.text()
    window.show()

    assert "Paused" not in before
    wait_for(lambda: home.hero.title.text() == "Paused: by you")


def test_the_tray_says_what_the_window_says_and_offers_four_pauses(store, daemon, wait_for):
    tray = Tray(store)

    names = [action.text() for action in tray.menu.actions() if action.text()]

    assert status_of(store).title in tray.item.toolTip()
    assert [name for name in names if name.startswith("Pause")] == [
        "Pause for 30 minutes",
        "Pause for 2 hours",
        "Pause until tomorrow 06:00",
        "Pause until I resume",
    ]
    next(a for a in tray.menu.actions() if a.text() == "Pause for 2 hours").trigger()
    wait_for(lambda: daemon.params_of("pause"))
    assert daemon.params_of("pause")[0].for_seconds == 7200.0


def test_four_shapes_tell_four_states(store, daemon, wait_for):
    shapes = [status_of(store).shape]
    for snapshot in (PAUSED, replace(SNAPSHOT, missing=("no-model",))):
        daemon.publish("state", snapshot)
        wait_for(lambda snapshot=snapshot: store.snapshot == snapshot)
        shapes.append(status_of(store).shape)
    daemon.close()
    wait_for(lambda: not store.is_connected)
    shapes.append(status_of(store).shape)

    assert shapes == ["solid", "bar", "triangle", "hollow"]


def test_the_goodbye_is_remembered_only_if_ticked(qapp):
    QSettings().clear()
    dialog = Goodbye(None)
    dialog.stop.click()

    assert dialog.choice is Choice.STOP
    QSettings().setValue("goodbye/choice", "keep")
    assert ask_goodbye(None, is_asked=False) is Choice.KEEP
    QSettings().clear()


def test_the_geometry_comes_back(window, store):
    window.resize(1000, 700)
    window.close()

    second = Window(store, (HomePage,))

    assert (second.width(), second.height()) == (1000, 700)
    second.deleteLater()


def test_dark_and_large_restyle_what_is_open(window, home, qapp: QApplication):
    small = home.hero.title.font().pixelSize()
    try:
        theme().choose("dark", 150)

        assert home.hero.title.font().pixelSize() == round(small * 1.5)
        assert window.sidebar.buttons[0].font().pixelSize() == 21
        assert theme().is_dark
    finally:
        theme().choose("light", 100)


def test_meters_without_power_say_so(window, home, daemon, wait_for):
    daemon.publish("meters", replace(METERS, watts=None))

    wait_for(lambda: "No power reading here" in home.power.accessibleName())
