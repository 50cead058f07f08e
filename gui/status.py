"""What the node is doing as the window, the tray and the tooltip say it: one sentence for all."""

import time
from dataclasses import dataclass
from datetime import datetime

from PySide6.QtCore import QCoreApplication

from gui.store import Store
from nexusnode.control.messages import Snapshot
from nexusnode.states import Missing, Reason, State, Words, describe


@dataclass(frozen=True, slots=True)
class Status:
    """`shape` is solid, bar, triangle or hollow; `tone` accent, warn or bad; `duty` 0 to 1."""

    title: str
    sentence: str
    icon: str
    tone: str
    shape: str
    duty: float


def status_of(store: Store) -> Status:
    """Return what to show of the node, or of its absence."""
    if not store.is_connected:
        return _offline(store)
    snapshot = store.snapshot
    if snapshot is None:
        return Status(_tr("Connecting"), _tr("Asking the node."), "clock", "warn", "hollow", 0.0)
    words = words_of(snapshot)
    if snapshot.state == State.PAUSED.value:
        return Status(words.title, words.sentence, words.icon, "warn", "bar", 0.0)
    if snapshot.state == State.FINISHING.value:
        title = _tr("Finishing, then pausing")
        sentence = _tr("Open answers are drafted to their end, for a minute at most.")
        return Status(title, sentence, "finish", "accent", "solid", snapshot.duty)
    is_missing = bool(snapshot.missing)
    shape = "triangle" if Missing.MODEL.value in snapshot.missing else "solid"
    tone = "warn" if is_missing else "accent"
    title, sentence = words.title, words.sentence
    if not is_missing:
        title, sentence = _running(store, snapshot)
    return Status(title, sentence, words.icon, tone, shape, snapshot.duty)


def words_of(snapshot: Snapshot) -> Words:
    """Return the table's words for the snapshot, in the user's language."""
    missing = tuple(Missing(value) for value in snapshot.missing)
    return translated(describe(Reason(snapshot.reason), missing, "{until}"), snapshot)


def blocker_words(reason: str, snapshot: Snapshot) -> Words:
    return translated(describe(Reason(reason), (), "{until}"), snapshot)


def translated(words: Words, snapshot: Snapshot) -> Words:
    """Translate first, then fill in the time: the table's sentences are what translators see."""
    title = QCoreApplication.translate("states", words.title)
    sentence = QCoreApplication.translate("states", words.sentence)
    return Words(title, sentence.replace("{until}", _until(snapshot)), words.icon)


def _running(store: Store, snapshot: Snapshot) -> tuple[str, str]:
    always = store.setting("run.when") == '"always"'
    if snapshot.state == State.THROTTLED.value:
        title = _tr("Running gently, at {0} % of the time").format(round(snapshot.duty * 100))
    elif always:
        title = _tr("Running")
    else:
        title = _tr("Running while you are away")
    count = sum(host.state == "serving" for host in snapshot.hosts)
    what = _tr("Drafting for {0} hosts.") if count != 1 else _tr("Drafting for {0} host.")
    stops = _tr("Stops and frees its memory within 2 seconds when you come back.")
    if always:
        stops = _tr("Pause it whenever you want; its memory is free within 2 seconds.")
    return title, f"{what.format(count)} {stops}"


def _offline(store: Store) -> Status:
    if store.is_starting:
        title, sentence = _tr("Starting the node"), _tr("This takes a few seconds.")
        return Status(title, sentence, "clock", "warn", "hollow", 0.0)
    if store.trouble is None:
        return Status(_tr("Connecting"), _tr("Asking the node."), "clock", "warn", "hollow", 0.0)
    code, sentence = store.trouble
    if code == "control.api-mismatch":
        title = _tr("The node is of another version")
        sentence = _tr("Restart it, so that window and node understand each other.")
        return Status(title, sentence, "warn", "bad", "triangle", 0.0)
    title = _tr("The node is not answering")
    safe = _tr("Your settings and statistics are safe.")
    return Status(title, f"{sentence} {safe}", "warn", "bad", "hollow", 0.0)


def _until(snapshot: Snapshot) -> str:
    if snapshot.until_unix_seconds is None:
        return _tr("soon")
    when = datetime.fromtimestamp(snapshot.until_unix_seconds)
    if snapshot.until_unix_seconds - time.time() < 18 * 3600:
        return _tr("at {0}").format(f"{when:%H:%M}")
    return _tr("on {0}").format(f"{when:%d %b %H:%M}")


def _tr(text: str) -> str:
    return QCoreApplication.translate("status", text)
