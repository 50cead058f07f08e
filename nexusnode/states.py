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
    Reason.FINISH: Words(
        "Paused: as soon as open answers end",
        "No new answers are taken. It is over {until} at the latest.",
        "finish",
    ),
    Reason.SUSPENDING: Words(
        "Paused: the computer goes to sleep", "It goes on when the computer wakes up.", "clock"
    ),
    Reason.HOT: Words(
        "Paused: the computer is hot", "It goes on when it has been cool for a minute.", "thermo"
    ),
    Reason.BATTERY: Words(
        "Paused: on battery", "It goes on when the computer is plugged in.", "plug"
    ),
    Reason.EXCLUSIVE_APP: Words(
        "Paused: for a program of your list", "It goes on when you close that program.", "game"
    ),
    Reason.FULLSCREEN: Words(
        "Paused: for a full-screen program",
        "It goes on when no game, film or other program fills the screen.",
        "game",
    ),
    Reason.GPU_BUSY: Words(
        "Paused: the graphics card is busy",
        "It goes on when other programs have left it alone for a minute.",
        "chip",
    ),
    Reason.NO_MEMORY: Words(
        "Paused: not enough memory",
        "The draft model does not fit beside your programs; it is tried again {until}.",
        "chip",
    ),
    Reason.SCHEDULE: Words("Paused: outside your hours", "It goes on {until}.", "calendar"),
    Reason.METERED: Words(
        "Paused: the internet is metered",
        "It goes on when the connection does not count data, or when you allow it.",
        "wifi",
    ),
    Reason.BANDWIDTH: Words(
        "Paused: today's data is used up", "It goes on {until}, or when you allow more.", "mesh"
    ),
    Reason.DISK: Words(
        "Paused: the disk is nearly full",
        "It goes on when more than your reserve is free.",
        "warn",
    ),
    Reason.IDLE_UNKNOWN: Words(
        "Paused: cannot tell whether you are away",
        "Nothing on this computer says when you last used it. Let it run always, or at hours that"
        " you choose.",
        "keyboard",
    ),
    Reason.INPUT: Words(
        "Paused: you are using the computer",
        "If you leave it alone, it goes on {until}.",
        "keyboard",
    ),
    Reason.OK: Words("Running", "Your computer drafts for the hosts below.", "bolt"),
    Missing.MODEL: Words(
        "No draft model",
        "The model cannot be used. Diagnostics (`nexusnode doctor`) say why.",
        "cube",
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
