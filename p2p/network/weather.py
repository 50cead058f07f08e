"""One direction of a link in memory, and every fault a wire can have: for `memory.py`."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import trio

from p2p.errors import PeerGone

WINDOW_BYTES = 256 * 1024  # as yamux: sent and not yet read


@dataclass(frozen=True, slots=True)
class Weather:
    """How the way from one peer to another treats bytes. Changes hold for what is sent later."""

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0  # added, evenly from 0 to this; bytes never overtake each other
    bytes_per_second: float = math.inf
    window_bytes: int = WINDOW_BYTES
    cut_after_bytes: float = math.inf  # of a link, in this direction; then the link breaks
    swallow: bool = False  # half-open: bytes are taken, fill the window, and never arrive
    piece_bytes: int = 1 << 20  # a receive returns at most so many

    def delay(self, random: Random) -> float:
        return self.latency_seconds + random.uniform(0.0, self.jitter_seconds)


class Pipe:
    """One direction of a link: what was sent, when it arrives, and how it ends."""

    def __init__(self, weather: Callable[[], Weather], random: Random) -> None:
        self._weather = weather
        self._random = random
        self._flying: deque[tuple[float, bytes]] = deque()
        self._unread_bytes = 0
        self._sent_bytes = 0
        self._last_arrival = -math.inf
        self._free_at = -math.inf
        self._end: str | None = None
        self._lost: str | None = None
        self._event = trio.Event()
        self.partner: Pipe | None = None

    def changed(self) -> None:
        """Wake whoever waits here to look again."""
        self._event.set()
        self._event = trio.Event()

    def finish(self, reason: str) -> None:
        """Nothing more will be sent; what was sent still arrives, the end after it."""
        if self._end is None:
            self._end = reason
            self.changed()

    def lose(self, reason: str) -> None:
        """End at once, with what is in flight."""
        if self._lost is None:
            self._lost = reason
            self._flying.clear()
            self.changed()

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        at = 0
        while at < len(data):
            self._check(self._lost or self._end)
            weather = self._weather()
            room = weather.window_bytes - self._unread_bytes
            if room <= 0:
                await self._event.wait()
                continue
            until_cut = weather.cut_after_bytes - self._sent_bytes
            take = int(min(len(data) - at, room, max(until_cut, 0)))
            self._launch(data[at : at + take], weather)
            at += take
            if take >= until_cut:
                self._cut()

    async def receive(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            self._check(self._lost)
            now = trio.current_time()
            if self._flying and self._flying[0][0] <= now:
                return self._land(max_bytes)
            if not self._flying:
                self._check(self._end)
            with trio.move_on_at(self._flying[0][0] if self._flying else math.inf):
                await self._event.wait()

    def _check(self, reason: str | None) -> None:
        if reason is not None:
            raise PeerGone(reason)

    def _cut(self) -> None:
        self.finish("the link was cut")
        if self.partner is not None:
            self.partner.finish("the link was cut")

    def _launch(self, data: bytes, weather: Weather) -> None:
        self._sent_bytes += len(data)
        self._unread_bytes += len(data)
        if weather.swallow or not data:
            return
        now = trio.current_time()
        self._free_at = max(self._free_at, now) + len(data) / weather.bytes_per_second
        arrival = max(self._free_at + weather.delay(self._random), self._last_arrival)
        self._last_arrival = arrival
        self._flying.append((arrival, data))
        self.changed()

    def _land(self, max_bytes: int) -> bytes:
        limit = min(max_bytes, self._weather().piece_bytes)
        now = trio.current_time()
        pieces = bytearray()
        while self._flying and self._flying[0][0] <= now and len(pieces) < limit:
            arrival, data = self._flying.popleft()
            take = limit - len(pieces)
            pieces += data[:take]
            if len(data) > take:
                self._flying.appendleft((arrival, data[take:]))
        self._unread_bytes -= len(pieces)
        self.changed()
        return bytes(pieces)
