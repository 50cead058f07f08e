"""What the policy looks at: facts of the machine, limits of the settings, the user's wish, the
time, and what it remembers from one decision to the next.

A fact that no sensor knows is None and forbids nothing, but for `last_input`: who cannot tell
whether somebody is there does not run. A sensor adds a field here, a rule to `rules.py` and a
reason to `nexusnode/states.py`.
"""

from dataclasses import dataclass
from datetime import UTC, tzinfo


@dataclass(frozen=True, slots=True)
class Moment:
    """Now. `boot_seconds` runs through sleep and knows no clock change; `unix_seconds` is wall
    time."""

    boot_seconds: float
    unix_seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sensors say.

    Attributes:
        last_input: boot seconds of the last key, click or move; None = nothing here can tell.
        suspending: the machine is about to sleep.
        celsius: the hottest of what the node heats up.
        battery_percent: charge, 0-100.
        programs: names of what runs, in lower case.
        fullscreen: a window fills the screen, or a game has announced itself.
        gpu_other: share of the graphics card that other programs use, 0-1.
        memory_free_bytes: what would be free if the node took nothing.
        memory_need_bytes: what the node takes, or would take.
        memory_short_until: boot seconds until which the model is not tried again, as it did not
            fit.
        bytes_today: sent and received since midnight.
        sessions: generations that are being drafted for.
    """

    last_input: float | None = None
    suspending: bool = False
    celsius: float | None = None
    on_battery: bool | None = None
    battery_percent: float | None = None
    programs: frozenset[str] = frozenset()
    fullscreen: bool | None = None
    gpu_other: float | None = None
    memory_free_bytes: int | None = None
    memory_need_bytes: int = 0
    memory_short_until: float | None = None
    metered: bool | None = None
    bytes_today: int = 0
    disk_free_bytes: int | None = None
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings allow.

    Attributes:
        always: draft whether somebody is there or not.
        hours: allowed stretches of the week in minutes since Monday 00:00, (start, end); an end
            past the week's wraps around. Empty = all hours.
        zone: whose clock `hours` and the day of `bytes_per_day` are in.
        apps: programs beside which the node does not run, in lower case.
        gpu_other: share of the graphics card that others may use.
        duty: share of the time that the worker may compute, 0.05-1.
        bytes_per_day: 0 = no limit.
    """

    always: bool = False
    idle_seconds: float = 300.0
    hours: tuple[tuple[int, int], ...] = ()
    zone: tzinfo = UTC
    on_battery: bool = False
    battery_percent: float = 80.0
    fullscreen: bool = True
    apps: frozenset[str] = frozenset()
    hot_celsius: float = 80.0
    cool_celsius: float = 72.0
    gpu_other: float = 0.25
    duty: float = 1.0
    memory_reserve_bytes: int = 0
    disk_reserve_bytes: int = 0
    bytes_per_day: int = 0
    metered: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for last.

    Attributes:
        paused: until resumed, unless one of the next two ends it.
        boot_until: end of a pause by length ("for 2 hours"): sleep counts, wall clock jumps do not.
        unix_until: end of a pause by the clock ("until 18:30").
        is_unknown: there was a pause before the restart, and what is known of it is damaged.
        finish_until: pause as soon as no session is open, and at this boot second at the latest.
        anyway_until: boot seconds until which nothing waits for the user to be away.
    """

    paused: bool = False
    boot_until: float | None = None
    unix_until: float | None = None
    quitting: bool = False
    is_unknown: bool = False
    finish_until: float | None = None
    anyway_until: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What hysteresis needs to know of before. Times are boot seconds.

    Attributes:
        cool_since: since when a hot machine has been below `cool_celsius`.
        gpu_mean: load of the graphics card by others, averaged over `hysteresis.GPU_SECONDS`.
        gpu_free_since: since when a busy card has been free.
    """

    is_hot: bool = False
    cool_since: float | None = None
    gpu_mean: float = 0.0
    gpu_at: float | None = None
    is_gpu_busy: bool = False
    gpu_free_since: float | None = None
    is_memory_short: bool = False
