"""How many bytes of drafts went out and came in today, kept over a restart in `traffic.json`.

What finds hosts (the directory, a few kB a minute) is not counted.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import NoReturn

import trio

from p2p.errors import ResourceError
from p2p.log import Log
from p2p.network.transport import Link, PassingLink
from p2p.paths import write_private

FILE = "traffic.json"
SAVE_SECONDS = 60.0
_MAX_BYTES = 1024


class Traffic:
    """Owns the day's count. `zone` says where midnight is."""

    def __init__(
        self, data: Path, zone: Callable[[], tzinfo], unix_clock: Callable[[], float], log: Log
    ) -> None:
        self._path = data / FILE
        self._zone = zone
        self._unix_clock = unix_clock
        self._log = log
        self._day = self._today()
        self._received = self._sent = 0
        self._kept = (self._day, 0, 0)

    def read(self) -> None:
        """Take up the day's count of before a restart; a damaged file counts as none."""
        try:
            with self._path.open("rb") as file:
                day, received, sent = json.loads(file.read(_MAX_BYTES))
            if day == self._day and type(received) is int and type(sent) is int:
                self._received, self._sent = max(0, received), max(0, sent)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self._log.warning("traffic.damaged", reason=type(error).__name__)

    def add(self, received: int = 0, sent: int = 0) -> None:
        self._turn_over()
        self._received += received
        self._sent += sent

    @property
    def received(self) -> int:
        self._turn_over()
        return self._received

    @property
    def sent(self) -> int:
        self._turn_over()
        return self._sent

    async def run(self) -> NoReturn:
        """Keep the count every minute."""
        while True:
            await trio.sleep(SAVE_SECONDS)
            await self.save()

    async def save(self) -> None:
        now = (self._day, self._received, self._sent)
        if now == self._kept:
            return
        try:
            await trio.to_thread.run_sync(write_private, self._path, json.dumps(now).encode())
        except ResourceError as error:
            self._log.warning("traffic.not-kept", reason=str(error))
        else:
            self._kept = now

    def _turn_over(self) -> None:
        day = self._today()
        if day != self._day:
            self._day, self._received, self._sent = day, 0, 0

    def _today(self) -> str:
        now = datetime.fromtimestamp(self._unix_clock(), UTC)
        return now.astimezone(self._zone()).date().isoformat()


class CountedLink(PassingLink):
    """A link whose bytes are counted."""

    def __init__(self, link: Link, count: Callable[[int, int], None]) -> None:
        super().__init__(link)
        self._count = count

    async def send(self, data: bytes) -> None:
        self._count(0, len(data))
        await super().send(data)

    async def receive(self, max_bytes: int) -> bytes:
        data = await super().receive(max_bytes)
        self._count(len(data), 0)
        return data
