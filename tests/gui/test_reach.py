"""Accessibility and smoothness: names, Tab, contrast, no clipped text, no stall."""

import threading
from dataclasses import replace
from time import perf_counter

import pytest
from PySide6.QtCore import QSettings, Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QScrollBar,
    QWidget,
)

from gui.goodbye import Goodbye
from gui.sample import METERS, SNAPSHOT
from gui.theme.theme import theme
from gui.theme.tokens import DARK, LIGHT
from gui.window import Window
from gui.wizard import Wizard
from nexusnode.control.messages import ChatEvent, ChatToken

INTERACTIVE = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)
BACKGROUNDS = ("bg", "side", "card", "hover")
PAIRS = [(ink, ground) for ink in ("text", "text2", "accent") for ground in BACKGROUNDS]
PAIRS += [("text2", "track"), ("text", "tint"), ("accent", "tint"), ("on_accent", "accent")]
PAIRS += [(tone, f"{tone}_tint") for tone in ("warn", "bad")]
PAIRS += [("warn", "card"), ("bad", "card"), ("text", "warn_tint"), ("text", "bad_tint")]


@pytest.fixture
def window(store):
    QSettings().clear()
    made = Window(store)
    made.show()
    assert QTest.qWaitForWindowExposed(made)
    yield made
    made.may_close = True
    made.close()
    made.deleteLater()


def controls(widget: QWidget) -> list[QWidget]:
    found = [w for kind in INTERACTIVE for w in widget.findChildren(kind)]
    return [w for w in found if w.isVisible() and w.isEnabled() and not isinstance(w, QScrollBar)]


def own(control: QWidget) -> bool:
    """Whether a control is ours, not an inner part of one (a spin box's line, say)."""
    return not control.objectName().startswith("qt_")


def test_every_control_of_every_page_has_a_name_and_is_reached_by_tab(window, wait_for):
    for index in range(len(window.pages)):
        window.show_page(index)
        QTest.qWait(300)
        wanted = [control for control in controls(window) if own(control)]

        unnamed = [c for c in wanted if not (c.accessibleName() or getattr(c, "text", str)())]
        chain = tab_chain(window)
        unreached = [c for c in wanted if c not in chain]

        assert not unnamed, window.windowTitle()
        assert not unreached, window.windowTitle()


def tab_chain(window: QWidget) -> set[QWidget]:
    """Return what Tab visits, as Qt keeps it; a group of radio buttons counts as one stop."""
    chain, widget = set(), window.nextInFocusChain()
    while widget is not window:
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            chain.add(widget)
        widget = widget.nextInFocusChain()
    return chain


def test_plots_figures_and_states_carry_a_sentence(window, wait_for):
    home = window.pages[0]
    wait_for(lambda: "mean" in home.plot.accessibleName())

    for widget in (home.hero, home.kept, home.share, home.power, home.earned, home.hero.disc):
        assert widget.accessibleName()


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_from_every_ground(palette):
    for ink, ground in PAIRS:
        assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    for ground in ("card", "bg"):
        assert contrast(palette["border"], palette[ground]) >= 3.0


@pytest.mark.parametrize("percent", [100, 200])
def test_no_label_is_clipped(window, store, wait_for, percent):
    try:
        theme().choose("light", percent)
        for widget in (*window.pages, Wizard(store), Goodbye(None)):
            if widget in window.pages:
                window.show_page(window.pages.index(widget))
            widget.show()
            QTest.qWait(300)
            assert not [label.text() for label in widget.findChildren(QLabel) if is_clipped(label)]
            if widget not in window.pages:
                widget.close()
    finally:
        theme().choose("light", 100)


def is_clipped(label: QLabel) -> bool:
    if not label.isVisible() or not label.text():
        return False
    if label.wordWrap():
        return label.height() < label.heightForWidth(label.width())
    return label.width() < label.sizeHint().width()


def test_five_hundred_events_a_second_stall_the_window_for_100_ms_at_most(window, daemon, store):
    gaps, last = [], [perf_counter()]
    ending = threading.Event()

    def beat() -> None:
        now = perf_counter()
        gaps.append(now - last[0])
        last[0] = now

    def flood() -> None:
        number = 0
        while not ending.wait(0.01):
            number += 1
            daemon.publish("state", replace(SNAPSHOT, bootstrap_peers=number))
            daemon.publish("meters", replace(METERS, idle_seconds=float(number)))
            for _ in range(3):
                daemon.publish("chat", ChatEvent(1, (ChatToken("word ", ""),), None))

    heartbeat = QTimer(interval=5, timerType=Qt.TimerType.PreciseTimer)
    heartbeat.timeout.connect(beat)
    QTest.qWait(500)
    sender = threading.Thread(target=flood)
    sender.start()
    last[0] = perf_counter()
    heartbeat.start()
    QTest.qWait(2000)
    ending.set()
    sender.join(5)
    heartbeat.stop()

    assert store.snapshot.bootstrap_peers > 50
    assert max(gaps) <= 0.1


def contrast(one: str, other: str) -> float:
    """Return the WCAG 2 ratio of two colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
