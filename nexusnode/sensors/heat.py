"""How hot the processor is, by the kernel's hardware monitors."""

from pathlib import Path
from typing import ClassVar

from nexusnode.sensors.sensor import CannotTell, Kind, Reading

HWMON = Path("/sys/class/hwmon")
_DRIVERS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
_POSSIBLE = range(1, 150)  # degrees; a sensor that is not connected says 0 or -128


class CpuHeat:
    name: ClassVar[str] = "processor temperature"
    kind: ClassVar[Kind] = Kind.HEAT
    period_seconds: ClassVar[float] = 2.0

    def __init__(self, hwmon: Path = HWMON) -> None:
        self._hwmon = hwmon

    async def read(self) -> Reading:
        found = [
            degrees
            for name in self._hwmon.glob("hwmon*/name")
            if _text(name) in _DRIVERS
            for file in name.parent.glob("temp*_input")
            if (degrees := _degrees(_text(file))) is not None
        ]
        if not found:
            raise CannotTell("No temperature sensor of the processor is known to the kernel.")
        return Reading(f"The processor has {max(found):.0f} °C.", celsius=max(found))

    async def close(self) -> None:
        """Nothing stays open."""


def _degrees(text: str) -> float | None:
    try:
        degrees = int(text) / 1000
    except ValueError:
        return None
    return degrees if int(degrees) in _POSSIBLE else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
