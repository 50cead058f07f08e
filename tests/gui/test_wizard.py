"""The first run, as a user clicks through it."""

import pytest

from gui.wizard import Wizard
from nexusnode.control.messages import IdleTest, Pair, Settings
from p2p.errors import ControlError


@pytest.fixture
def wizard(store, daemon):
    daemon.answers["settings.set"] = daemon.answers["settings.get"]
    daemon.answers["idle.test"] = IdleTest("X11", 1.0, "")
    made = Wizard(store)
    made.show()
    yield made
    made.reject()
    made.deleteLater()


def forward(wizard, steps: int) -> None:
    for _ in range(steps):
        wizard.next.click()


def test_the_defaults_are_a_trial_run_and_rules_that_hold_after(wizard, daemon, wait_for):
    forward(wizard, 5)
    wait_for(lambda: not wizard.isVisible())

    assert daemon.params_of("run_anyway")[0].for_seconds == 600.0
    assert not daemon.params_of("autostart")
    assert not daemon.params_of("models.pull")


def test_choices_arrive_as_settings(wizard, daemon, wait_for, store):
    keys = ("run.when", "limits.duty", "limits.hot_celsius")
    store.settings = Settings(1, tuple(Pair(key, "0") for key in keys), ())
    computer, when, limits = wizard.steps[1:4]
    daemon.answers["models.pull"] = daemon.answers["models.list"]
    daemon.answers["autostart"] = daemon.answers["state.snapshot"]

    forward(wizard, 1)
    computer.models.buttons["recommended"].click()
    when.when.buttons["gently"].click()
    limits.presets.buttons["full"].click()
    limits.autostart.click()
    forward(wizard, 4)
    wait_for(lambda: not wizard.isVisible())

    pairs = daemon.params_of("settings.set")[0].pairs
    assert Pair("run.when", '"always"') in pairs
    assert Pair("limits.duty", "0.3") in pairs
    assert Pair("limits.hot_celsius", "87") in pairs
    assert daemon.params_of("models.pull")[0].source == "qwen2.5-0.5b-instruct-q8_0"
    assert daemon.params_of("autostart")[0].is_on


def test_the_third_step_proves_the_detector(wizard, wait_for):
    forward(wizard, 2)

    wait_for(
        lambda: "moved the mouse or typed 1 s ago (X11)" in wizard.steps[2].proof.accessibleName()
    )


def test_without_a_detector_the_third_step_offers_hours(wizard, daemon, wait_for):
    daemon.answers["idle.test"] = IdleTest("", None, "This desktop hides it.")
    forward(wizard, 2)

    wait_for(
        lambda: "This desktop hides it. Choose hours" in wizard.steps[2].proof.accessibleName()
    )


def test_a_refused_start_is_said_and_can_be_tried_again(wizard, daemon, wait_for):
    daemon.answers["run_anyway"] = ControlError("Not on battery.", "control.conflict")
    forward(wizard, 5)

    wait_for(lambda: wizard.trouble.isVisible())

    assert wizard.trouble.accessibleName() == "Not on battery."
    assert wizard.next.isEnabled()


def test_skipping_sends_nothing(wizard, daemon):
    forward(wizard, 2)
    wizard.skip.click()

    sent = {request.method for request in daemon.calls}
    assert not sent & {"settings.set", "run_anyway", "models.pull", "autostart"}
