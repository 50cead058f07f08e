"""What a sensor is: something that can be asked and may fail, and what it says.

A sensor opens what it needs when it is first read, and again after a failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from p2p.errors import ResourceError

Environment = Mapping[str, str]


class Kind(Enum):
    """What a sensor is asked about. Of several for one kind the first that works is believed."""

    IDLE = "idle"
    SLEEP = "sleep"
    POWER = "power"
    NETWORK = "network"
    PROGRAMS = "programs"
    FULLSCREEN = "fullscreen"
    GAME = "game"
    HEAT = "heat"
    GPU = "gpu"
    ROOM = "room"


class CannotTell(ResourceError):
    """The sensor says nothing here; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sensor says; None = nothing about that. Meanings as in `policy.facts.Facts`.

    Attributes:
        finding: a sentence for people.
        idle_seconds: since the last input.
    """

    finding: str
    idle_seconds: float | None = None
    suspending: bool | None = None
    on_battery: bool | None = None
    battery_percent: float | None = None
    metered: bool | None = None
    programs: frozenset[str] | None = None
    fullscreen: bool | None = None
    celsius: float | None = None
    device: str = ""
    watts: float | None = None
    watts_limit: float | None = None
    gpu_other: float | None = None
    memory_free_bytes: int | None = None
    memory_total_bytes: int | None = None
    disk_free_bytes: int | None = None


class Sensor(Protocol):
    """One source. `read` raises `CannotTell`, `OSError` or what trio says of a broken socket.

    It may hang: see `supervise.py`.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    period_seconds: ClassVar[float]

    async def read(self) -> Reading: ...

    async def close(self) -> None:
        """Let go of what was opened; `read` opens it again."""
        ...
