"""What the policy looks at: facts of the machine, limits of the settings, the user's wish, the
time.

A fact that no sensor knows is None. A sensor adds a field here, a rule to `decide.py` and a reason
to `nexusnode/states.py`.
"""

from dataclasses import dataclass


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
        idle: nobody has used the machine for the idle delay; None = nothing here can tell.
        memory_short_until: boot seconds until which the model is not tried again, as it did not
            fit.
    """

    idle: bool | None = None
    memory_short_until: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings allow. `always` drafts whether somebody is there or not."""

    always: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for last.

    Attributes:
        paused: until resumed, unless one of the next two ends it.
        boot_until: end of a pause by length ("for 2 hours"): sleep counts, wall clock jumps do not.
        unix_until: end of a pause by the clock ("until 18:30").
        is_unknown: there was a pause before the restart, and what is known of it is damaged.
    """

    paused: bool = False
    boot_until: float | None = None
    unix_until: float | None = None
    quitting: bool = False
    is_unknown: bool = False
