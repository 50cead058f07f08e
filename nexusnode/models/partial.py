"""A file that is not whole yet: `FILE.part` with its hash, `FILE.part.json` with where it is from.

Whatever happened to an earlier process, the bytes that are there are hashed again, not trusted.
Whole and right, the file gets its name; of another hash, it ends as `FILE.bad`.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from p2p.errors import DownloadError, ResourceError

RESERVE_BYTES = 1 << 30  # chosen: left free on the disk
CHECK_BYTES = 256 << 20  # between two looks at the free space
PROGRESS_SECONDS = 0.2
_READ_BYTES = 1 << 20
_MAX_SOURCE_BYTES = 8192

Report = Callable[[int, int], None]


@dataclass(slots=True)
class Source:
    """Where the bytes are from; only bytes of the same source are gone on with.

    `etag` is the server's strong one or empty, `total_bytes` 0 while it is not known.
    """

    url: str
    sha256: str
    etag: str = ""
    total_bytes: int = 0


@contextmanager
def open_partial(
    path: Path, source: Source, report: Report, reserve_bytes: int = RESERVE_BYTES
) -> Iterator["Partial"]:
    """Open and lock `path`'s partial file, with what an earlier process left of the same source.

    Args:
        report: called with the bytes done and their total, at most five times a second.

    Raises:
        DownloadError: another process has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(_beside(path, ".part"), "a+b", buffering=0) as file:
        _lock(file.fileno(), path.name)
        part = Partial(path, source, file, report, reserve_bytes)
        part.take_over()
        yield part


class Partial:
    """Bytes, hash and source of a file that is not whole yet. Made by `open_partial`."""

    def __init__(
        self, path: Path, source: Source, file: BinaryIO, report: Report, reserve_bytes: int
    ) -> None:
        self.source = source
        self.done_bytes = 0
        self._path = path
        self._file = file
        self._reserve_bytes = reserve_bytes
        self._digest = hashlib.sha256()
        self._ended = False
        self._unchecked = 0
        self._report = report
        self._reported = 0.0

    def take_over(self) -> None:
        """Hash the bytes that are there, or forget them if they are of another source."""
        known = _read_source(_beside(self._path, ".part.json"))
        if known is None or known.url != self.source.url or not self._is_wanted(known.sha256):
            self.restart()
            return
        self.source = known
        self._file.seek(0)
        while data := self._file.read(_READ_BYTES):
            self._add(data)

    @property
    def is_complete(self) -> bool:
        total = self.source.total_bytes
        return self._ended or bool(total and self.done_bytes >= total)

    def restart(self) -> None:
        """Forget all bytes."""
        self._file.truncate(0)
        self.done_bytes = 0
        self._digest = hashlib.sha256()

    def begin(self, etag: str, total_bytes: int, sha256: str) -> None:
        """Take what a server says of the whole file, before its bytes."""
        known = self.source.sha256 or sha256
        if not known:
            raise DownloadError(
                f"{self._path.name}: the server names no SHA-256: give the publisher's by --sha256"
            )
        self.source = Source(self.source.url, known, etag, total_bytes)
        self._check_space()
        _beside(self._path, ".part.json").write_text(json.dumps(asdict(self.source)))

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._add(data)
        self._unchecked += len(data)
        if self._unchecked >= CHECK_BYTES:
            self._check_space()

    def end(self) -> None:
        """The server's answer ended as it said it would: the whole, if its size was not known."""
        self._ended = not self.source.total_bytes

    def finish(self) -> str:
        """Give the whole file its name and return its SHA-256.

        Raises:
            DownloadError: the hash is wrong; the file is kept as `.bad`.
        """
        found = self._digest.hexdigest()
        os.fsync(self._file.fileno())
        is_right = found == self.source.sha256
        final = self._path if is_right else _beside(self._path, ".bad")
        _beside(self._path, ".part").replace(final)
        _beside(self._path, ".part.json").unlink(missing_ok=True)
        if not is_right:
            raise DownloadError(
                f"{self._path.name}: SHA-256 is {found}, expected {self.source.sha256}; "
                f"kept as {final.name}"
            )
        self._report(self.done_bytes, self.done_bytes)
        return found

    def _is_wanted(self, sha256: str) -> bool:
        return self.source.sha256 in ("", sha256)

    def _add(self, data: bytes) -> None:
        self._digest.update(data)
        self.done_bytes += len(data)
        now = time.monotonic()
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._report(self.done_bytes, self.source.total_bytes)

    def _check_space(self) -> None:
        self._unchecked = 0
        missing = max(0, self.source.total_bytes - self.done_bytes)
        free = shutil.disk_usage(self._path.parent).free
        if free < missing + self._reserve_bytes:
            raise ResourceError(
                f"{self._path.parent}: {free / 1e9:.1f} GB free; {self._path.name} needs "
                f"{missing / 1e9:.1f} GB more, and {self._reserve_bytes / 1e9:.1f} GB stay free"
            )


def partials(folder: Path) -> list[tuple[Path, Source, int]]:
    """Return the downloads in a folder that are not whole: path of the whole, source, bytes."""
    found = []
    for part in sorted(folder.glob("*.part")):
        path = part.with_name(part.name.removesuffix(".part"))
        source = _read_source(_beside(path, ".part.json"))
        if source is not None:
            found.append((path, source, part.stat().st_size))
    return found


def discard(path: Path) -> None:
    """Remove what was downloaded of `path`. `OSError` as removing raises it."""
    for suffix in (".part", ".part.json", ".bad"):
        _beside(path, suffix).unlink(missing_ok=True)


def is_sha256(text: str) -> bool:
    """Say if `text` is a SHA-256 in lower-case hex."""
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read_source(file: Path) -> Source | None:
    try:
        with file.open("rb") as opened:
            said = json.loads(opened.read(_MAX_SOURCE_BYTES))
        found = Source(**said)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (found.url, found.sha256, found.etag)
    is_sound = type(found.total_bytes) is int and all(type(text) is str for text in texts)
    return found if is_sound else None


def _lock(descriptor: int, name: str) -> None:
    """Hold the file for this process; the lock goes with it, even by SIGKILL."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DownloadError(f"{name}: another process is downloading it") from error
