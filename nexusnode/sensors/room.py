"""Free memory and free disk."""

import shutil
from pathlib import Path
from typing import ClassVar

import psutil

from nexusnode.sensors.sensor import Kind, Reading

_GB = 1e9


class Room:
    name: ClassVar[str] = "memory and disk"
    kind: ClassVar[Kind] = Kind.ROOM
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self) -> Reading:
        memory = psutil.virtual_memory()
        disk = shutil.disk_usage(self._folder).free
        return Reading(
            f"{memory.available / _GB:.1f} GB of memory and {disk / _GB:.1f} GB of disk are free.",
            memory_free_bytes=memory.available,
            memory_total_bytes=memory.total,
            disk_free_bytes=disk,
        )

    async def close(self) -> None:
        """Nothing stays open."""
