"""Idle time on macOS: HIDIdleTime of the IOHIDSystem, as `ioreg` prints it. Tested on fakes."""

import re
import subprocess
from collections.abc import Awaitable, Callable
from typing import ClassVar

import trio

from nexusnode.sensors.sensor import CannotTell, Kind, Reading

_LINE = re.compile(rb'"HIDIdleTime" = (\d+)')


async def ask_ioreg() -> bytes:
    """Return what the system's own tool prints."""
    command = ["/usr/sbin/ioreg", "-c", "IOHIDSystem", "-d", "4"]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.DEVNULL)
    return done.stdout


class IdleMacos:
    name: ClassVar[str] = "macOS"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, ask: Callable[[], Awaitable[bytes]] = ask_ioreg) -> None:
        self._ask = ask

    async def read(self) -> Reading:
        try:
            found = _LINE.search(await self._ask())
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotTell("macOS does not say when the last input was.") from error
        if found is None:
            raise CannotTell("macOS names no HIDIdleTime.")
        seconds = int(found.group(1)) / 1e9
        return Reading(f"The last input was {seconds:.0f} s ago.", idle_seconds=seconds)

    async def close(self) -> None:
        """Nothing stays open."""
