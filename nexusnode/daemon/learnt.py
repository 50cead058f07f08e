"""What was learnt of each target, kept in the data folder: a restart does not begin from nothing.

One small file for each pair of draft and target. A file that cannot be read is as none: a table
only says what to guess first, and is learnt again within minutes.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import trio

from nexusnode.draft.messages import Bin
from p2p.errors import MalformedFrame, NexusError
from p2p.log import Log
from p2p.paths import write_private
from p2p.wire.schema import U8, Size, dump, load, packb, unpackb

FOLDER = "learnt"
VERSION = 1
MAX_PAIRS = 64  # chosen: more targets than a node serves in months
MAX_CELLS = 4096  # of a table, as on the worker's pipe; the worker has 512
MAX_BYTES = 1 << 17  # of a file: 4,096 cells are 94 kB
_NAME = re.compile(r"([0-9a-f]{64})-([0-9a-f]{64})\.table")

Table = tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class _File:
    version: U8
    table: Annotated[Table, Size(0, MAX_CELLS)]


class Learnt:
    """The tables of one draft by target (`Welcome.model_fp`). `run` writes what `learn` was told.

    Args:
        draft: SHA-256 of the draft model's file, in hex.
    """

    def __init__(self, data: Path, draft: str, log: Log) -> None:
        self._folder = data / FOLDER
        self._draft = draft
        self._log = log
        self._tables: dict[bytes, Table] = {}  # the one that was learnt last at the end
        self._unwritten: dict[bytes, Table] = {}
        self._news = trio.Event()
        self._writing = trio.Lock()

    def table(self, target: bytes) -> Table:
        """Return what is known of a target; () = nothing."""
        return self._tables.get(target, ())

    def learn(self, target: bytes, table: Table) -> None:
        """Take a target's newest table."""
        self._tables.pop(target, None)
        self._tables[target] = self._unwritten[target] = table
        while len(self._tables) > MAX_PAIRS:
            oldest = next(iter(self._tables))
            del self._tables[oldest]
            self._unwritten.pop(oldest, None)
        self._news.set()

    def read(self) -> None:
        """Read all tables of this draft: once, before anything is learnt."""
        for draft, target, path in self._files():
            if draft != self._draft:
                continue
            try:
                self._tables[bytes.fromhex(target)] = _read(path)
            except (OSError, MalformedFrame) as error:
                self._log.warning("learnt.damaged", file=path.name[-24:], reason=str(error))

    async def run(self) -> None:
        """Write what is learnt, until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await self.flush()

    async def flush(self) -> None:
        """Write what was not written yet. A disk that does not take it costs only the table."""
        async with self._writing:
            while self._unwritten:
                target, table = next(iter(self._unwritten.items()))
                try:
                    await trio.to_thread.run_sync(self._write, target, table)
                except (NexusError, OSError) as error:
                    self._log.warning("learnt.unwritten", reason=str(error))
                if self._unwritten.get(target) is table:
                    del self._unwritten[target]

    def _write(self, target: bytes, table: Table) -> None:
        path = self._folder / f"{self._draft}-{target.hex()}.table"
        write_private(path, packb(dump(_File(VERSION, table))))
        for _, _, old in list(self._files())[:-MAX_PAIRS]:
            old.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[str, str, Path]]:
        """Return draft, target and path of each file, the oldest first."""
        found: list[tuple[int, str, str, Path]] = []
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                name = _NAME.fullmatch(entry.name)
                if name is not None and entry.is_file(follow_symlinks=False):
                    at = entry.stat(follow_symlinks=False).st_mtime_ns
                    found.append((at, name[1], name[2], Path(entry.path)))
        for _, draft, target, path in sorted(found):
            yield draft, target, path


def _read(path: Path) -> Table:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise MalformedFrame(f"more than {MAX_BYTES} bytes")
    kept: _File = load(_File, unpackb(data))
    if kept.version != VERSION:
        raise MalformedFrame(f"version {kept.version}, expected {VERSION}")
    return kept.table
