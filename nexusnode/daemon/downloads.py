"""The downloads of this node: each a child that is killed to pause it and goes on by ranges."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

import trio

from nexusnode.models.catalogue import HUB
from nexusnode.models.fetch import Order, Progress, fetch
from nexusnode.models.partial import Source, discard
from nexusnode.models.pull import Wanted, resolve
from p2p.errors import ControlError, NexusError, ResourceError
from p2p.log import Log
from p2p.process.guard import guard

RATE_SECONDS = 5.0  # over which the speed is taken
STOP_SECONDS = 5.0  # for a killed child to be reaped


class DownloadState(Enum):
    """As the control API says it."""

    LOADING = "loading"
    PAUSED = "paused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a download has to keep to; 0 bytes per second = as fast as it goes."""

    reserve_bytes: int
    bytes_per_second: int


@dataclass(slots=True)
class Download:
    """One file that is not whole yet. `path` is where it will lie."""

    path: Path
    url: str
    sha256: str
    state: DownloadState = DownloadState.PAUSED
    done_bytes: int = 0
    total_bytes: int = 0
    reason: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    seen: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".gguf")

    @property
    def bytes_per_second(self) -> float:
        if self.state is not DownloadState.LOADING or len(self.seen) < 2:
            return 0.0
        (since, before), (now, done) = self.seen[0], self.seen[-1]
        return max(0, done - before) / (now - since) if now > since else 0.0

    @property
    def seconds_left(self) -> float | None:
        rate, missing = self.bytes_per_second, self.total_bytes - self.done_bytes
        return missing / rate if rate > 0 and self.total_bytes else None

    def note(self, progress: Progress, now: float) -> None:
        self.done_bytes, self.total_bytes = progress.done_bytes, progress.total_bytes
        self.seen.append((now, progress.done_bytes))
        while now - self.seen[0][0] > RATE_SECONDS:
            self.seen.popleft()


class Downloads:
    """Starts and ends them.

    Args:
        terms: asked for at each start.
        changed: called with every progress; must not block.
        arrived: called when a download has ended, whole or not.
        hub: where Hugging Face ids lead.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        terms: Callable[[], Terms],
        changed: Callable[[], None],
        arrived: Callable[[], Awaitable[None]],
        log: Log,
        hub: str = HUB,
    ) -> None:
        self._nursery = nursery
        self._terms = terms
        self._changed = changed
        self._arrived = arrived
        self._log = log
        self._hub = hub
        self._all: dict[str, Download] = {}

    @property
    def all(self) -> list[Download]:
        return list(self._all.values())

    @property
    def is_busy(self) -> bool:
        return any(one.state is DownloadState.LOADING for one in self._all.values())

    def adopt(self, left: list[tuple[Path, Source, int]]) -> None:
        """Take what an earlier run left in the folder as paused."""
        for path, source, done_bytes in left:
            found = Download(path, source.url, source.sha256)
            found.done_bytes, found.total_bytes = done_bytes, source.total_bytes
            self._all.setdefault(found.name, found)

    def forget(self) -> None:
        """Forget all that do not run: their files have moved or are gone."""
        self._all = {
            name: one for name, one in self._all.items() if one.state is DownloadState.LOADING
        }

    async def pull(self, source: str, sha256: str, folder: Path) -> None:
        """Begin to download, or go on.

        Raises:
            UsageError, DownloadError: as `resolve`.
            ControlError: a file of this name is here already.
        """
        wanted: Wanted = await resolve(source, sha256 or None, self._hub)
        path = folder / wanted.file
        if path.exists():
            raise ControlError(f"{path.name} is here already", "control.conflict")
        known = self._all.get(path.name.removesuffix(".gguf"))
        if known is not None and known.state is DownloadState.LOADING:
            return
        if known is None or known.url != wanted.url:
            known = Download(path, wanted.url, wanted.sha256)
            self._all[known.name] = known
        self._start(known)

    def resume(self, name: str) -> None:
        download = self._find(name)
        if download.state is not DownloadState.LOADING:
            self._start(download)

    async def pause(self, name: str) -> None:
        """Kill the child; what it has stays on the disk."""
        download = self._find(name)
        if download.state is DownloadState.LOADING:
            download.state = DownloadState.PAUSED
            download.scope.cancel()
            with trio.move_on_after(STOP_SECONDS):
                await download.ended.wait()

    async def cancel(self, name: str) -> None:
        """Kill the child and remove what it has."""
        download = self._find(name)
        await self.pause(name)
        self._all.pop(name, None)
        try:
            await trio.to_thread.run_sync(discard, download.path)
        except OSError as error:
            raise ResourceError(f"{download.path.parent}: {error.strerror}") from error

    async def cancel_idle(self) -> None:
        """Remove what every download has that does not run."""
        for one in self.all:
            if one.state is not DownloadState.LOADING:
                await self.cancel(one.name)

    def _find(self, name: str) -> Download:
        download = self._all.get(name)
        if download is None:
            raise ControlError(f"{name[:128]} is not being downloaded", "control.not-found")
        return download

    def _start(self, download: Download) -> None:
        download.state, download.reason = DownloadState.LOADING, ""
        download.scope, download.ended = trio.CancelScope(), trio.Event()
        download.seen.clear()
        self._nursery.start_soon(guard, self._log, "download", partial(self._run, download))
        self._changed()

    async def _run(self, download: Download) -> None:
        is_whole = False
        try:
            with download.scope:
                await self._fetch(download)
                is_whole = True
        except NexusError as error:
            self._log.warning("download.failed", model=download.name, reason=str(error))
            download.state, download.reason = DownloadState.FAILED, str(error)
        finally:
            download.ended.set()
        await self._arrived()
        if is_whole:  # not before the file was looked at, so that no list lacks both
            self._all.pop(download.name, None)

    async def _fetch(self, download: Download) -> None:
        terms = self._terms()
        order = Order(
            download.url,
            download.sha256,
            str(download.path),
            terms.reserve_bytes,
            terms.bytes_per_second,
        )

        def report(progress: Progress) -> None:
            download.note(progress, time.monotonic())
            self._changed()

        self._log.event("download.started", model=download.name)
        await fetch(order, report)
        self._log.event("download.ended", model=download.name)
