"""What every benchmark says at its end: bars with their values, one table, one JSON file.

A bar that is missed is a finding: it is printed as MISSED and the exit status stays 0. The status
is 1 only where two texts that must be equal are not.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TypeVar

import psutil

from p2p.errors import NexusError, answer

LIBRARIES = ("torch", "transformers", "llama-cpp-python", "libp2p", "numpy")

T = TypeVar("T")
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and what is asked of it; `value` is NaN where it could not be measured."""

    name: str
    value: float
    unit: str
    bar: str
    ok: bool


def at_least(name: str, value: float, limit: float, unit: str = "×") -> Bar:
    return Bar(name, value, unit, f"≥ {limit:g}", value >= limit)


def at_most(name: str, value: float, limit: float, unit: str = "×") -> Bar:
    return Bar(name, value, unit, f"≤ {limit:g}", value <= limit)


def reported(name: str, value: float, unit: str) -> Bar:
    """A figure that no bar is set for."""
    return Bar(name, value, unit, "reported", True)


def middle(values: Sequence[float]) -> float:
    """Return the median; NaN of nothing."""
    return median(values) if values else math.nan


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least value that `share` of all values do not exceed; NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratio(over: float, under: float) -> float:
    """Return `over / under`; NaN where nothing was measured."""
    return over / under if under else math.nan


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median over pairs of (over, under) of their ratio: drift of the machine cancels"""
    return middle([ratio(over, under) for over, under in pairs])


def alternating(ways: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Yield (round, way): every round has each way once, and another one goes first each time."""
    for number in range(rounds):
        for place in range(len(ways)):
            yield number, ways[(number + place) % len(ways)]


def table(rows: Sequence[Row]) -> str:
    """Return rows of the same keys as text: numbers to the right, with three digits that count."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    right = [isinstance(rows[0][name], int | float) for name in names]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )


def bars_table(bars: Sequence[Bar]) -> str:
    """Return the bars as text; missed ones say so."""
    return table(
        [
            {
                "bar": bar.name,
                "value": bar.value,
                "unit": bar.unit,
                "asked": bar.bar,
                "": "" if bar.bar == "reported" else "ok" if bar.ok else "MISSED",
            }
            for bar in bars
        ]
    )


def machine() -> dict[str, object]:
    """Return what the figures were measured on, and how busy it was."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        "logical_cores": psutil.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "load_average": load,
        "unix_seconds": int(time.time()),
    }


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the flags that all benchmarks have."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="the same bars in at most 3 minutes")
    made.add_argument("--json", type=Path, metavar="PATH", help="also write the figures as JSON")
    return made


def finish(
    flags: argparse.Namespace,
    bars: Sequence[Bar],
    rows: Sequence[Row],
    *,
    threads: int,
    texts_equal: bool = True,
) -> int:
    """Print rows and bars, write `--json`, and return the exit status."""
    print(table(rows), end="\n\n" if rows else "")
    print(bars_table(bars))
    missed = [bar.name for bar in bars if not bar.ok]
    if missed:
        print(f"\n{len(missed)} of {len(bars)} figures MISSED their bar: {', '.join(missed)}")
    if not texts_equal:
        print("\nTEXTS DIFFER: a draft has changed what the target says", file=sys.stderr)
    if flags.json is not None:
        found = {
            "bars": [asdict(bar) for bar in bars],
            "machine": {**machine(), "threads": threads},
            "quick": flags.quick,
            "texts_equal": texts_equal,
            "rows": rows,
        }
        text = json.dumps(_plain(found), indent=1, ensure_ascii=False, allow_nan=False)
        flags.json.write_text(text + "\n", encoding="utf-8")
    return 0 if texts_equal else 1


def guarded(name: str, run: Callable[[], int]) -> int:
    """Return a benchmark's exit status, with a sentence for Ctrl-C and for errors of ours."""
    try:
        return run()
    except KeyboardInterrupt:
        print("stopped; nothing was left running", file=sys.stderr)
        return 130
    except NexusError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return answer(error).exit


def progress(text: str) -> None:
    """Say on stderr how far the run is."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float() if math.isnan(value):
            return "-"
        case float():
            return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case _:
            return str(value)


def _plain(value: object) -> object:
    """Return `value` for JSON, which has no NaN and no infinity."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
