"""Graphics cards: temperature, watts, and how busy other programs keep them.

NVIDIA's by NVML in a thread, as a driver that recovers may block; AMD's by the kernel's files.
The draft worker computes on the processor, so all load of a card is that of others.
"""

from pathlib import Path
from typing import Any, ClassVar

import trio

from nexusnode.sensors.sensor import CannotTell, Kind, Reading

CARDS = Path("/sys/class/drm")
# Not named in the call: libp2p 0.8.1 brings trio-typing 0.10, whose stubs know an older trio.
_ABANDON: dict[str, Any] = {"abandon_on_cancel": True}


class Nvidia:
    """A call that hangs is left behind in its thread; no second one is made beside it."""

    name: ClassVar[str] = "NVIDIA driver"
    kind: ClassVar[Kind] = Kind.GPU
    period_seconds: ClassVar[float] = 2.0

    def __init__(self, cards: Path = CARDS) -> None:
        self._cards = cards
        self._limiter = trio.CapacityLimiter(1)

    async def read(self) -> Reading:
        if _is_suspended(self._cards, "0x10de"):
            raise CannotTell("The graphics card sleeps; asking it would wake it.")
        return await trio.to_thread.run_sync(_ask_nvml, 0, **_ABANDON, limiter=self._limiter)

    async def close(self) -> None:
        """The library keeps nothing that is ours."""


class Amd:
    name: ClassVar[str] = "AMD driver"
    kind: ClassVar[Kind] = Kind.GPU
    period_seconds: ClassVar[float] = 2.0

    def __init__(self, cards: Path = CARDS) -> None:
        self._cards = cards

    async def read(self) -> Reading:
        if _is_suspended(self._cards, "0x1002"):
            raise CannotTell("The graphics card sleeps; asking it would wake it.")
        for busy in sorted(self._cards.glob("card*/device/gpu_busy_percent")):
            load = _number(busy)
            if load is None:
                continue
            monitors = sorted((busy.parent / "hwmon").glob("hwmon*"))
            celsius = _first(monitors, "temp1_input", 1e3)
            watts = _first(monitors, "power1_average", 1e6)
            limit = _first(monitors, "power1_cap", 1e6)
            return _reading("AMD graphics card", load, celsius, watts, limit)
        raise CannotTell("No AMD graphics card is known to the kernel.")

    async def close(self) -> None:
        """Nothing stays open."""


def _ask_nvml(index: int) -> Reading:
    try:
        import pynvml as nvml
    except ImportError as error:
        raise CannotTell("The library nvidia-ml-py is not installed.") from error
    try:
        nvml.nvmlInit()
        try:
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            load = float(nvml.nvmlDeviceGetUtilizationRates(card).gpu)
            celsius = _maybe(nvml, nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU)
            watts = _maybe(nvml, nvml.nvmlDeviceGetPowerUsage, card)
            limit = _maybe(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, card)
            name = nvml.nvmlDeviceGetName(card)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        raise CannotTell(f"No NVIDIA graphics card answers ({error}).") from error
    name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    to_watts = 1e-3
    return _reading(
        name,
        load,
        celsius,
        None if watts is None else watts * to_watts,
        None if limit is None else limit * to_watts,
    )


def _maybe(nvml: Any, ask: Any, *arguments: Any) -> float | None:
    """Not every card knows its power."""
    try:
        return float(ask(*arguments))
    except nvml.NVMLError:
        return None


def _reading(
    name: str, load: float, celsius: float | None, watts: float | None, limit: float | None
) -> Reading:
    heat = "" if celsius is None else f", {celsius:.0f} °C"
    return Reading(
        f"{name}: {load:.0f} % busy{heat}.",
        device=name,
        gpu_other=load / 100,
        celsius=celsius,
        watts=watts,
        watts_limit=limit,
    )


def _is_suspended(cards: Path, vendor: str) -> bool:
    """Whether all cards of a vendor sleep: a notebook's second card wakes when it is polled."""
    states = [
        _text(file.parent / "power" / "runtime_status")
        for file in cards.glob("card*/device/vendor")
        if _text(file) == vendor
    ]
    return bool(states) and all(state == "suspended" for state in states)


def _first(folders: list[Path], name: str, unit: float) -> float | None:
    numbers = [number for folder in folders if (number := _number(folder / name)) is not None]
    return numbers[0] / unit if numbers else None


def _number(file: Path) -> float | None:
    try:
        return float(_text(file))
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
