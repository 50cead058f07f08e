"""The pages beside Home: what goes out when the user acts, what is shown for each answer."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QTextCharFormat, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QScrollBar,
    QTextEdit,
)

from gui import appearance
from gui.hours import SLOTS
from gui.sample import METERS, MODELS, SNAPSHOT
from gui.sample_pages import STORAGE
from gui.screens import PAGES
from gui.screens.chat import ChatPage
from gui.screens.diagnostics import DiagnosticsPage
from gui.screens.home import HomePage
from gui.screens.models import ModelsPage
from gui.screens.network import NetworkPage
from gui.screens.resources import ResourcesPage
from gui.screens.settings import SettingsPage
from gui.screens.when import WhenPage
from gui.store import Pending
from gui.theme.theme import theme
from gui.widgets.buttons import Button
from gui.widgets.fields import Field
from gui.widgets.week import WeekGrid
from nexusnode.control.messages import (
    ChatEnd,
    ChatEvent,
    ChatToken,
    FileTarget,
    IdleTest,
    ModelName,
    ModelPull,
    Pair,
    Schema,
    SettingsPatch,
    Storage,
)
from p2p.errors import ControlError

USABLE = (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    WeekGrid,
)
REFUSAL = ControlError("The disk is full. Free 2 GB, then try again.", "resource.disk")


@pytest.fixture
def show(qapp, store, wait_for):
    """Show a page of a class, connected and filled."""
    shown = []
    wait_for(lambda: store.schema)
    told = []
    store.changed.connect(told.append)
    store.call("settings.get")
    wait_for(lambda: "settings" in told)  # no later telling repairs what a page shows wrongly

    def make(kind):
        page = kind(store)
        page.resize(968, 780)
        page.show()
        shown.append(page)
        wait_for(page.isVisible)
        qapp.processEvents()  # what a page builds when it is shown appears after that
        return page

    yield make
    for page in shown:
        page.hide()
        page.deleteLater()


def button(page, name):
    """Return the one visible button with this accessible name."""
    found = [
        item
        for item in page.findChildren(QAbstractButton)
        if item.accessibleName() == name and item.isVisible()
    ]
    assert len(found) == 1, f"{name}: {[item.accessibleName() for item in found]}"
    return found[0]


def field(page, name):
    return next(item for item in page.findChildren(Field) if item.accessibleName() == name)


def words(page):
    shown = [item.text() for item in page.findChildren(QLabel) if item.isVisible()]
    return "\n".join(shown).replace("\u200b", "")


def sent(daemon, wait_for, method, count=1):
    """Wait for the call and return the params of the last."""
    wait_for(lambda: len(daemon.params_of(method)) >= count)
    return daemon.params_of(method)[-1]


def pairs(patch):
    return {pair.key: pair.value for pair in patch.pairs}


# When to run


def test_a_switch_sends_its_setting(show, daemon, wait_for):
    page = show(WhenPage)

    QTest.mouseClick(button(page, "Run on battery"), Qt.MouseButton.LeftButton, pos=QPoint(10, 10))

    assert pairs(sent(daemon, wait_for, "settings.set")) == {"run.on_battery": "true"}


def test_a_refused_setting_is_put_back_and_says_why(show, daemon, store, wait_for):
    daemon.answers["settings.set"] = REFUSAL
    page = show(WhenPage)
    switch = button(page, "Run on battery")

    switch.click()
    wait_for(page.notices.refusal)

    assert page.notices.refusal() == str(REFUSAL)
    assert not switch.isChecked()


def test_a_setting_that_the_node_does_not_know_is_not_shown(show, daemon, store, wait_for):
    rows = tuple(row for row in store.schema.rows if row.key != "run.on_battery")
    daemon.answers["settings.schema"] = Schema(rows)
    store.call("settings.schema")
    wait_for(lambda: store.schema.rows == rows)

    page = show(WhenPage)

    assert "Run on battery" not in words(page)
    assert "Pause for full screen" in words(page)


def test_a_drag_over_the_grid_paints_half_hours(show, daemon, wait_for):
    page = show(WhenPage)
    grid = page.findChild(WeekGrid)

    QTest.mousePress(grid, Qt.MouseButton.LeftButton, pos=cell(grid, 3, 2))
    QTest.mouseMove(grid, cell(grid, 4, 3))
    QTest.mouseRelease(grid, Qt.MouseButton.LeftButton, pos=cell(grid, 4, 3))

    hours = pairs(sent(daemon, wait_for, "settings.set"))["run.hours"]
    assert '"thu 01:00-02:00", "fri 01:00-02:00"' in hours


def test_arrows_and_space_turn_a_half_hour_over(show, daemon, wait_for):
    grid = show(WhenPage).findChild(WeekGrid)
    grid.setFocus()

    for key in (Qt.Key.Key_Home, Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Space):
        QTest.keyClick(grid, key)

    assert 1 * SLOTS + 1 in grid.covered()
    assert "Tue 00:30 to 01:00: runs" in grid.accessibleDescription()
    assert '"tue 00:30-01:00"' in pairs(sent(daemon, wait_for, "settings.set"))["run.hours"]


def test_an_empty_grid_warns_and_is_not_sent(show, store, daemon, wait_for):
    page = show(WhenPage)
    grid = page.findChild(WeekGrid)

    grid.set_covered(frozenset({0}))
    QTest.mouseClick(grid, Qt.MouseButton.LeftButton, pos=cell(grid, 0, 0))

    assert "This never runs." in words(page)
    store.call("storage")
    sent(daemon, wait_for, "storage")  # what was sent before has arrived too
    assert not daemon.params_of("settings.set")


def test_without_chosen_hours_the_list_is_empty(show, daemon, wait_for):
    button(show(WhenPage), "Only at chosen hours").click()

    assert pairs(sent(daemon, wait_for, "settings.set")) == {"run.hours": "[]"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (IdleTest("X11", 1.0, ""), "It works: X11 saw you 1 second ago."),
        (IdleTest("X11", 300.0, ""), "X11 saw nobody for 5 minutes, yet you have just pressed"),
        (IdleTest("", None, "Wayland tells nobody."), "Wayland tells nobody."),
        (ControlError("The sensors do not answer.", "control.busy"), "The sensors do not answer."),
    ],
)
def test_the_test_button_says_what_the_detector_sees(show, daemon, wait_for, found, said):
    daemon.answers["idle.test"] = found
    page = show(WhenPage)

    button(page, "Test whether you are seen").click()

    wait_for(lambda: said in words(page))


def test_without_a_detector_the_page_says_that_it_waits(show, store, daemon, wait_for):
    daemon.publish("meters", replace(METERS, detector="", idle_seconds=None))
    wait_for(lambda: store.meters.detector == "")

    assert "Nothing here can tell. It waits rather than guess." in words(show(WhenPage))


# Models


@pytest.mark.parametrize(
    ("state", "name", "method"),
    [
        ("absent", "Get", "models.pull"),
        ("loading", "Pause", "models.pause"),
        ("loading", "Cancel", "models.cancel"),
        ("paused", "Resume", "models.resume"),
        ("failed", "Cancel", "models.cancel"),
        ("ready", "Use", "settings.set"),
    ],
)
def test_a_models_buttons_ask_for_what_they_say(show, store, daemon, wait_for, state, name, method):
    model = replace(MODELS.models[1], state=state, done_bytes=1000, reason="It broke off.")
    daemon.answers[method] = replace(MODELS, models=(model,))
    daemon.publish("models", replace(MODELS, models=(model,)))
    wait_for(lambda: store.models.models == (model,))
    page = show(ModelsPage)

    button(page, f"{name}: {model.name}").click()

    params = sent(daemon, wait_for, method)
    expected = {"models.pull": ModelPull(model.name, "")}.get(method, ModelName(model.name))
    if method == "settings.set":
        assert params.pairs == (Pair("models.draft", f'"{model.name}"'),)
    else:
        assert params == expected


def test_a_download_shows_how_far_it_is(show, store, daemon, wait_for):
    model = replace(
        MODELS.models[1],
        state="loading",
        file_bytes=500_000_000,
        done_bytes=125_000_000,
        bytes_per_second=5e6,
        seconds_left=75.0,
    )
    daemon.publish("models", replace(MODELS, models=(model,)))
    wait_for(lambda: store.models.models == (model,))

    assert "125 MB / 500 MB · 5 MB/s · 75 seconds left" in words(show(ModelsPage))


def test_an_address_needs_its_hash(show, daemon, wait_for):
    page = show(ModelsPage)
    page._source.setText("https://example.org/m.gguf")
    get = button(page, "Get this model")

    get.click()
    assert "An address needs its SHA-256" in page.notices.refusal()
    page._hash.setText("AB" * 32)
    get.click()

    assert sent(daemon, wait_for, "models.pull") == ModelPull(
        "https://example.org/m.gguf", "ab" * 32
    )


def test_why_a_model_cannot_be_fetched_stands_on_the_page(show, daemon, wait_for):
    daemon.answers["models.pull"] = REFUSAL
    page = show(ModelsPage)

    button(page, f"Get: {MODELS.models[1].name}").click()

    wait_for(lambda: page.notices.refusal() == str(REFUSAL))


def test_a_model_in_use_offers_nothing_to_lose(show):
    page = show(ModelsPage)

    assert "In use" in words(page)
    assert not [b for b in page.findChildren(QAbstractButton) if "smollm2" in b.accessibleName()]


# Chat


def ask(page, daemon, wait_for, question="Why?"):
    page._question.setPlainText(question)
    QTest.keyClick(page._question, Qt.Key.Key_Return)
    params = sent(daemon, wait_for, "chat.start", len(daemon.params_of("chat.start")) or 1)
    wait_for(lambda: page._chat is not None)
    return params


def test_an_answer_streams_with_what_was_drafted_underlined(show, daemon, wait_for):
    page = show(ChatPage)

    params = ask(page, daemon, wait_for)
    daemon.publish("chat", ChatEvent(1, (ChatToken("Be", ""), ChatToken("cause", "n")), None))
    daemon.publish("chat", ChatEvent(2, (ChatToken(" other", "n"),), None))
    daemon.publish("chat", ChatEvent(1, (), ChatEnd("stop", "", "", 2, 1, 3, 1)))
    wait_for(lambda: "2 tokens" in page._transcript.toPlainText())

    assert [(turn.role, turn.text) for turn in params.turns] == [("user", "Why?")]
    assert "Because\n" in page._transcript.toPlainText()
    assert "50.0 % drafted and kept" in page._transcript.toPlainText()
    assert underlined(page._transcript) == "cause"


def test_the_next_question_carries_what_was_said(show, daemon, wait_for):
    page = show(ChatPage)
    ask(page, daemon, wait_for)
    daemon.publish("chat", ChatEvent(1, (ChatToken("So.", ""),), None))
    daemon.publish("chat", ChatEvent(1, (), ChatEnd("stop", "", "", 1, 0, 0, 1)))
    wait_for(lambda: page._send.isVisible())

    page._question.setPlainText("And?")
    page._send.click()
    params = sent(daemon, wait_for, "chat.start", 2)

    assert [(turn.role, turn.text) for turn in params.turns] == [
        ("user", "Why?"),
        ("assistant", "So."),
        ("user", "And?"),
    ]


def test_stop_stops_the_chat(show, daemon, wait_for):
    page = show(ChatPage)
    ask(page, daemon, wait_for)

    button(page, "Stop").click()

    assert sent(daemon, wait_for, "chat.stop").chat == 1


def test_a_refused_question_comes_back_to_the_line(show, daemon, wait_for):
    daemon.answers["chat.start"] = ControlError("No host answers.", "host.none")
    page = show(ChatPage)
    page._question.setPlainText("Why?")

    page._send.click()
    wait_for(page.notices.refusal)

    assert page.notices.refusal() == "No host answers."
    assert page._question.toPlainText() == "Why?"
    assert not page._transcript.turns


def test_a_node_that_dies_ends_the_answer(show, daemon, wait_for):
    page = show(ChatPage)
    ask(page, daemon, wait_for)
    daemon.publish("chat", ChatEvent(1, (ChatToken("Be", ""),), None))
    wait_for(lambda: "Be" in page._transcript.toPlainText())

    daemon.hang_up()

    wait_for(lambda: "Broken off." in page._transcript.toPlainText())


def test_without_a_host_the_page_asks_for_one(show, store, daemon, wait_for):
    store.call("settings.set", SettingsPatch((Pair("chat.url", '""'),), None))
    wait_for(lambda: store.setting("chat.url") == '""')
    page = show(ChatPage)
    assert not page._question.isVisible()

    page._address.setText("https://host.example/v1")
    page._key.setText("secret")
    button(page, "Save").click()

    assert pairs(sent(daemon, wait_for, "settings.set", 2)) == {
        "chat.url": '"https://host.example/v1"',
        "chat.key": '"secret"',
    }
    wait_for(page._question.isVisible)
    assert page._key.text() == ""


# Resources


def test_a_preset_sends_its_limits_together(show, daemon, wait_for):
    page = show(ResourcesPage)
    assert button(page, "Normal").isChecked()

    button(page, "Quiet").click()

    assert pairs(sent(daemon, wait_for, "settings.set")) == {
        "limits.duty": "0.5",
        "limits.hot_celsius": "70",
        "limits.cool_celsius": "62",
    }
    wait_for(lambda: button(page, "Quiet").isChecked())


def test_a_moved_slider_is_one_change(show, daemon, wait_for):
    page = show(ResourcesPage)
    slider = field(page, "Pause at").findChild(QAbstractSlider)

    for _ in range(3):
        QTest.keyClick(slider, Qt.Key.Key_Right)

    assert pairs(sent(daemon, wait_for, "settings.set")) == {"limits.hot_celsius": "83"}
    assert len(daemon.params_of("settings.set")) == 1


def test_who_scrolls_past_a_control_changes_nothing(qapp, show, daemon):
    page = show(ResourcesPage)
    number = field(page, "Pause at").findChild(QAbstractSpinBox)
    middle = QPointF(number.rect().center())

    wheel = QWheelEvent(
        middle,
        number.mapToGlobal(middle),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    qapp.sendEvent(number, wheel)

    assert number.value() == 80


def test_a_card_that_reports_nothing_gets_a_sentence_and_no_slider(show, store, daemon, wait_for):
    daemon.publish("meters", replace(METERS, watts=None, celsius=None))
    wait_for(lambda: store.meters.watts is None)

    page = show(ResourcesPage)

    assert "This device does not report its power." in words(page)
    assert not field(page, "Power").isVisible()
    assert not field(page, "Pause at").isVisible()
    assert field(page, "Share of the time").isVisible()


def test_todays_value_stands_beside_its_limit(show):
    text = words(show(ResourcesPage))

    assert "Now 61 °C." in text
    assert "145 MB today." in text


# Settings


def test_the_theme_is_kept_and_used_at_once(show, wait_for):
    page = show(SettingsPage)
    page._theme.show_value("dark")

    page._theme.edited.emit("dark")
    wait_for(lambda: theme().is_dark)

    assert appearance.chosen() == ("dark", 100)
    appearance.choose("light", 100)


def test_autostart_is_what_the_node_says(show, daemon, wait_for):
    daemon.answers["autostart"] = replace(SNAPSHOT, autostart=True)
    page = show(SettingsPage)
    switch = button(page, "Start when you log in")
    assert not switch.isChecked()

    switch.click()

    assert sent(daemon, wait_for, "autostart").is_on
    daemon.answers["autostart"] = REFUSAL
    wait_for(lambda: page.store.snapshot.autostart)
    switch.click()
    wait_for(page.notices.refusal)
    assert switch.isChecked()


def test_unfinished_downloads_can_be_thrown_away(show, daemon, wait_for):
    freed = Storage(tuple(replace(folder, partial_bytes=0) for folder in STORAGE.folders))
    daemon.answers["storage.free"] = freed
    page = show(SettingsPage)
    wait_for(lambda: page._free.accessibleName() == "Free 96 MB")

    page._free.click()

    wait_for(lambda: page._free.accessibleName() == "Nothing to free")
    assert not page._free.isEnabled()


def test_statistics_are_written_where_the_user_wants_them(show, daemon, wait_for):
    page = show(SettingsPage)

    page.export("/tmp/mine.csv")

    assert sent(daemon, wait_for, "history.export") == FileTarget("/tmp/mine.csv")
    wait_for(lambda: "Saved: /tmp/mine.csv (4 kB)." in words(page))


def test_what_waits_for_a_restart_is_named(show, store, daemon, wait_for):
    daemon.answers["settings.get"] = replace(store.settings, needs_restart=("limits.threads",))
    store.call("settings.get")
    wait_for(lambda: store.settings.needs_restart)

    assert "Takes effect when the node starts again: Threads." in words(show(ResourcesPage))


def test_every_address_is_listed(show):
    text = words(show(SettingsPage))

    for address in ("192.0.2.7:4001", "huggingface.co", "http://192.0.2.7:8000/v1", "/ip4/192"):
        assert address in text


def test_reset_sends_the_defaults_of_what_was_changed(show, daemon, wait_for):
    show(SettingsPage).reset()

    patch = pairs(sent(daemon, wait_for, "settings.set"))
    assert patch["chat.url"] == '""'
    assert set(patch) == {"run.hours", "run.apps", "hosts.bootstrap", "chat.url"}


# Diagnostics and Network


def test_the_log_is_read_at_the_chosen_level(show, daemon, wait_for):
    page = show(DiagnosticsPage)
    wait_for(lambda: "daemon.started" in page._log.toPlainText())

    page._level.show_value("warning")
    page._level.edited.emit("warning")

    wait_for(lambda: page._log.toPlainText().startswith("22:02:40 warning"))


def test_the_report_can_be_saved_only_after_it_was_shown(show, daemon, wait_for):
    page = show(DiagnosticsPage)
    assert not page._save.isVisible()

    button(page, "Show what it contains").click()
    wait_for(page._save.isVisible)
    page.write_report("/tmp/nexus-report.zip")

    assert sent(daemon, wait_for, "diagnostics.write") == FileTarget("/tmp/nexus-report.zip")
    wait_for(lambda: "Saved: /tmp/nexus-report.zip (4 kB)." in words(page))
    assert page._content.toPlainText().startswith("Idle by X11: well")


def test_troubles_stand_above_what_is_well(show, wait_for):
    page = show(DiagnosticsPage)
    wait_for(lambda: "No battery was found." in words(page))

    text = words(page)
    assert text.index("No battery was found.") < text.index("Idle by X11")


def test_hosts_are_listed_with_the_share_they_kept(show):
    text = words(show(NetworkPage))

    assert "12D3…4eTd" in text
    assert "72.9 %" in text
    assert "Drafting for it" in text


def test_without_hosts_the_page_says_that_it_looks(show, store, daemon, wait_for):
    daemon.publish("state", replace(SNAPSHOT, hosts=()))
    wait_for(lambda: not store.snapshot.hosts)

    assert "Looking for hosts." in words(show(NetworkPage))


# All pages


def test_a_button_waits_for_its_answer(qapp):
    save, pending = Button("Save"), Pending()

    save.while_pending(pending, "Saving…")
    save.setEnabled(True)

    assert (save.isEnabled(), save.text()) == (False, "Saving…")
    pending.failed.emit("resource.disk", "The disk is full.")
    assert (save.isEnabled(), save.text()) == (True, "Save")


@pytest.mark.parametrize("kind", PAGES)
def test_whatever_can_be_used_has_a_name_and_is_reached_by_tab(show, wait_for, kind):
    page = show(kind)
    usable = [
        item
        for base in USABLE
        for item in page.findChildren(base)
        if item.isVisible() and item.isEnabled() and not isinstance(item, QScrollBar)
        if not isinstance(item.parent(), QAbstractSpinBox)  # its line is a part of it
    ]

    assert [item for item in usable if not item.accessibleName()] == []
    for item in usable:
        assert item.focusPolicy() & Qt.FocusPolicy.TabFocus == Qt.FocusPolicy.TabFocus, item
    reached = set()
    page.activateWindow()
    wait_for(page.isActiveWindow)
    for _ in range(2 * len(usable) + 20):
        QTest.keyClick(QApplication.focusWidget() or page, Qt.Key.Key_Tab)
        reached.add(QApplication.focusWidget())
    for item in list(reached):  # of an exclusive group Tab reaches one, arrows the others
        if isinstance(item, QAbstractButton) and item.group() is not None:
            reached.update(item.group().buttons())
    assert [item.accessibleName() for item in usable if item not in reached] == []


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_says_that_the_node_is_gone(show, store, daemon, wait_for, kind):
    page = show(kind)

    daemon.path.unlink()  # so that it cannot be found again
    daemon.hang_up()
    wait_for(lambda: not store.is_connected)

    if hasattr(page, "notices"):
        wait_for(lambda: "The node is not answering." in words(page))


@pytest.mark.parametrize("percent", [100, 200])
@pytest.mark.parametrize("kind", [kind for kind in PAGES if kind is not HomePage])
def test_no_word_is_clipped_at_the_smallest_window(show, wait_for, kind, percent):
    theme().choose("light", percent)
    try:
        page = show(kind)
        page.resize(900 - 212, 620)
        wait_for(lambda: page.width() == 688)
        clipped = [
            item.text()
            for item in page.findChildren(QLabel)
            if item.isVisible() and item.text() and _is_clipped(item)
        ]
        inside = page.view.widget()
        assert clipped == []
        assert inside.width() <= page.view.viewport().width()
    finally:
        theme().choose("light", 100)


def _is_clipped(item):
    if item.wordWrap():
        return item.height() + 1 < item.heightForWidth(item.width())
    return item.width() + 1 < item.sizeHint().width()


def cell(grid: WeekGrid, day: int, slot: int) -> QPoint:
    return QPointF(grid._cell(day, slot).center()).toPoint()


def underlined(edit):
    """Return the text that carries an underline."""
    found, block = "", edit.document().begin()
    while block.isValid():
        for piece in block:
            style = piece.fragment().charFormat().underlineStyle()
            if style == QTextCharFormat.UnderlineStyle.SingleUnderline:
                found += piece.fragment().text()
        block = block.next()
    return found
