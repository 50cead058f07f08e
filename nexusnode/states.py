"""What a node is doing and why, and the one table of words for it.

Command line, tray and window show the same title, sentence and icon. Pure: times
come in as text that the caller has written for its reader.
"""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What the policy allows now."""

    RUNNING = "running"
    THROTTLED = "throttled"
    FINISHING = "finishing"
    PAUSED = "paused"


class Reason(Enum):
    """Why. The order is the priority: of those that hold, the first is shown, all are listed."""

    QUIT = "quit"
    USER_PAUSE = "user-pause"
    SNOOZE = "snooze"
    PAUSE_UNKNOWN = "pause-unknown"
    FINISH = "finish-then-pause"
    SUSPENDING = "suspending"
    HOT = "hot"
    BATTERY = "battery"
    EXCLUSIVE_APP = "exclusive-app"
    FULLSCREEN = "fullscreen"
    GPU_BUSY = "gpu-busy"
    NO_MEMORY = "no-memory"
    SCHEDULE = "schedule"
    METERED = "metered"
    BANDWIDTH = "bandwidth-used-up"
    DISK = "disk"
    IDLE_UNKNOWN = "idle-unknown"
    INPUT = "input"
    OK = "ok"


class WorkerState(Enum):
    """The draft worker as the daemon sees it."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    DRAFTING = "drafting"
    SLEEPING = "sleeping"
    ENDED = "ended"


class Missing(Enum):
    """What a node that may run is still waiting for. No pause: the first one is shown."""

    MODEL = "no-model"
    WORKER = "no-worker"
    HOST = "no-host"


class HostState(Enum):
    """One host as the daemon sees it."""

    DIALLING = "dialling"
    GREETING = "greeting"
    SERVING = "serving"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Words:
    """How something is shown. `icon` is the name of a drawing of the window."""

    title: str
    sentence: str
    icon: str


WORDS: dict[Reason | Missing, Words] = {
    Reason.QUIT: Words("Stopping", "The node is closing its sessions and ends.", "cross"),
    Reason.USER_PAUSE: Words("Paused: by you", "It stays paused until you resume it.", "pause"),
    Reason.SNOOZE: Words("Paused: for a while", "It goes on by itself {until}.", "clock"),
    Reason.PAUSE_UNKNOWN: Words(
        "Paused: cannot tell whether you asked for it",
        "The file that keeps your pause is damaged. It stays paused until you resume it.",
        "pause",
    ),
    Reason.NO_MEMORY: Words(
        "Paused: not enough memory",
        "The draft model does not fit beside your programs; it is tried again {until}.",
        "chip",
    ),
    Reason.IDLE_UNKNOWN: Words(
        "Paused: cannot tell whether you are away",
        "No sensor of this computer says when you are idle. Start it with --always to run anyway.",
        "keyboard",
    ),
    Reason.INPUT: Words(
        "Paused: you are using the computer", "It goes on when you are away.", "keyboard"
    ),
    Reason.OK: Words("Running", "Your computer drafts for the hosts below.", "bolt"),
    Missing.MODEL: Words(
        "No draft model", "The model cannot be used. Run `nexusnode doctor` to see why.", "cube"
    ),
    Missing.WORKER: Words(
        "The draft worker is not ready", "It is loading the model, or starts again.", "clock"
    ),
    Missing.HOST: Words(
        "Looking for hosts", "None is connected yet. The search goes on by itself.", "wifi"
    ),
}


def describe(reason: Reason, missing: tuple[Missing, ...], until: str | None) -> Words:
    """Return what to show: the pause, else the first thing that is missing, else that it runs.

    Args:
        until: when the reason ends, as words that follow a verb ("at 18:30"); None = "soon".
    """
    words = WORDS[missing[0] if reason is Reason.OK and missing else reason]
    return Words(words.title, words.sentence.format(until=until or "soon"), words.icon)
