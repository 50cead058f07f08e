"""Hosts that took this node's drafts, on disk: after a restart they are dialled before the
directory has answered, and where nobody answers for it.

Their records are kept as they signed them and read like a stranger's: expired ones are dropped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import trio

from p2p.errors import BadRecord, ConfigError, MalformedFrame, NexusError
from p2p.log import Log
from p2p.paths import write_private
from p2p.wire.identity import PeerId
from p2p.wire.record import MAX_RECORD_BYTES, Signed, check_time, read_record
from p2p.wire.schema import U8, Size, dump, load, packb, unpackb

KNOWN_HOSTS_FILE = "known_hosts"
VERSION = 1
MAX_KNOWN = 16
_MAX_FILE_BYTES = MAX_KNOWN * (MAX_RECORD_BYTES + 8) + 64

_Value = Annotated[bytes, Size(1, MAX_RECORD_BYTES)]


@dataclass(frozen=True, slots=True)
class _File:
    version: U8
    values: Annotated[tuple[_Value, ...], Size(0, MAX_KNOWN)]


class KnownHosts:
    """Owns the file while the daemon runs. `unix` is the wall clock."""

    def __init__(self, data: Path, log: Log, unix: Callable[[], float] = time.time) -> None:
        self._path = data / KNOWN_HOSTS_FILE
        self._log = log
        self._unix = unix
        self._values: dict[PeerId, bytes] = {}  # the one that welcomed us last comes last
        self._changed = trio.Event()

    def read(self, tok_fp: bytes) -> list[Signed]:
        """Return the records valid now whose hosts have a target for our draft; last host first."""
        now = int(self._unix())
        known: list[Signed] = []
        try:
            values = _read(self._path)
        except ConfigError as error:
            self._log.warning("known-hosts.damaged", reason=str(error))
            return []
        for value in values:
            try:
                record = read_record(value)
                check_time(record, now)
            except BadRecord as error:
                self._log.event("known-hosts.dropped", reason=str(error))
                continue
            self._values[record.peer] = value
            if any(service.tok_fp == tok_fp for service in record.serves):
                known.append(Signed(record, value))
        return known[::-1]

    def keep(self, peer: PeerId, value: bytes, is_welcome: bool) -> None:
        """Note the newest record of a host that has taken our drafts; a welcome makes it last."""
        if is_welcome:
            self._values.pop(peer, None)
        if is_welcome or peer in self._values:
            self._values[peer] = value
            self._changed.set()
        if len(self._values) > MAX_KNOWN:
            del self._values[next(iter(self._values))]

    async def run(self) -> None:
        """Write what changed, until cancelled."""
        while True:
            await self._changed.wait()
            await self.save()

    async def save(self) -> None:
        """Write it now. A disk that does not take it costs the next start some seconds: a log."""
        self._changed = trio.Event()
        file = packb(dump(_File(VERSION, tuple(self._values.values()))))
        try:
            await trio.to_thread.run_sync(write_private, self._path, file)
        except NexusError as error:
            self._log.warning("known-hosts.not-kept", reason=str(error))


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        with path.open("rb") as opened:
            items = unpackb(opened.read(_MAX_FILE_BYTES), MAX_KNOWN, MAX_RECORD_BYTES)
        file: _File = load(_File, items)
    except FileNotFoundError:
        return ()
    except (OSError, MalformedFrame) as error:
        raise ConfigError(f"{path}: cannot be used: {error}") from error
    if file.version != VERSION:
        raise ConfigError(f"{path}: version {file.version}; expected {VERSION}")
    return file.values
