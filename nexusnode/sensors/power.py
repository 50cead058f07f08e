"""Mains or battery: by UPower, else by the kernel's power supplies.

A wireless mouse has a battery too: only those that feed the machine count (scope not Device).
"""

from pathlib import Path
from typing import ClassVar

from nexusnode.sensors.bus import Bus
from nexusnode.sensors.sensor import CannotTell, Kind, Reading

SUPPLIES = Path("/sys/class/power_supply")
_NAME = "org.freedesktop.UPower"


class UPower:
    name: ClassVar[str] = "UPower"
    kind: ClassVar[Kind] = Kind.POWER
    period_seconds: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self._bus = Bus("SYSTEM")

    async def read(self) -> Reading:
        power = await self._bus.properties(_NAME, "/org/freedesktop/UPower", _NAME)
        display = f"{_NAME}.Device"
        path = "/org/freedesktop/UPower/devices/DisplayDevice"
        battery = await self._bus.properties(_NAME, path, display)
        percent = battery.get("Percentage") if battery.get("IsPresent") else None
        return _reading(bool(power.get("OnBattery")), percent)

    async def close(self) -> None:
        await self._bus.close()


class KernelPower:
    name: ClassVar[str] = "kernel power supplies"
    kind: ClassVar[Kind] = Kind.POWER
    period_seconds: ClassVar[float] = 2.0

    def __init__(self, supplies: Path = SUPPLIES) -> None:
        self._supplies = supplies

    async def read(self) -> Reading:
        try:
            found = [_fields(folder) for folder in sorted(self._supplies.iterdir())]
        except OSError as error:
            raise CannotTell("This kernel names no power supplies.") from error
        batteries = [one for one in found if one["type"] == "Battery" and one["scope"] != "Device"]
        if not batteries:
            return _reading(False, None)
        percents = [float(one["capacity"]) for one in batteries if one["capacity"].isdigit()]
        is_used = any(one["status"] == "Discharging" for one in batteries)
        return _reading(is_used, sum(percents) / len(percents) if percents else None)

    async def close(self) -> None:
        """Nothing stays open."""


def _reading(on_battery: bool, percent: float | None) -> Reading:
    charge = "" if percent is None else f", charged to {percent:.0f} %"
    return Reading(
        f"{'On battery' if on_battery else 'On mains'}{charge}.",
        on_battery=on_battery,
        battery_percent=percent,
    )


def _fields(folder: Path) -> dict[str, str]:
    fields = {}
    for name in ("type", "scope", "status", "capacity"):
        try:
            fields[name] = (folder / name).read_text().strip()
        except OSError:
            fields[name] = ""
    return fields
