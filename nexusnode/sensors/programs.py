"""Names of what runs, to be compared with the user's list: command, executable and first argument.

Under Proton and Wine the executable is the loader; the game's name is the command or the first
argument.
"""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar

import psutil

from nexusnode.sensors.sensor import Kind, Reading

PROC = Path("/proc")
_SETTLED = 5  # readings after which a process is believed to stay what it is
_AFRESH = 60  # readings after which all are looked at again: one may become another at any time


class Programs:
    name: ClassVar[str] = "running programs"
    kind: ClassVar[Kind] = Kind.PROGRAMS
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._known: dict[str, tuple[int, frozenset[str]]] = {}
        self._readings = 0

    async def read(self) -> Reading:
        self._readings += 1
        if self._readings % _AFRESH == 0:
            self._known.clear()
        names = self._of_proc() if self._proc.is_dir() else _of_psutil()
        return Reading(f"{len(names)} programs run.", programs=names)

    async def close(self) -> None:
        """Nothing stays open."""

    def _of_proc(self) -> frozenset[str]:
        """Look at new processes only: all of them every second would cost a percent of a core."""
        before, self._known = self._known, {}
        for number in os.listdir(self._proc):
            if not number.isdigit():
                continue
            age, names = before.get(number, (0, frozenset[str]()))
            if age < _SETTLED:
                names = _names(self._proc / number)
            self._known[number] = (age + 1, names)
        return frozenset().union(*(names for _, names in self._known.values()))


def _names(folder: Path) -> frozenset[str]:
    try:
        command = (folder / "comm").read_text(errors="replace").strip().lower()
        first = (folder / "cmdline").read_bytes()[:4096].split(b"\0", 1)[0]
    except OSError:  # ended meanwhile
        return frozenset()
    return frozenset({command, *_forms(first.decode(errors="replace"))} - {""})


def _of_psutil() -> frozenset[str]:
    names = (one.info["name"] or "" for one in psutil.process_iter(["name"]))
    return frozenset(form for name in names for form in _forms(name))


def _forms(path: str) -> set[str]:
    """Return a program's name with and without ".exe"."""
    name = PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
    lower = name.lower()
    return {lower, lower.removesuffix(".exe")} - {""}
