"""What changes by the second, measured for whoever watches."""

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import trio

from nexusnode.control.messages import Meters, Snapshot
from nexusnode.daemon.sensing import Sensing, first
from nexusnode.daemon.traffic import Traffic
from nexusnode.sensors.sensor import Kind, Reading

PERIOD_SECONDS = 1.0
RATE_SECONDS = 10
HOUR_MINUTES = 60


class Metering:
    """Keeps the counters of the last seconds and of the last hour."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], sensing: Sensing, traffic: Traffic, device: str
    ) -> None:
        self._snapshot = snapshot
        self._sensing = sensing
        self._traffic = traffic
        self._device = device
        self._seconds: deque[tuple[float, int]] = deque(maxlen=RATE_SECONDS + 1)
        self._minutes: deque[tuple[float, int, int]] = deque(maxlen=HOUR_MINUTES + 1)

    async def run(
        self, publish: Callable[[Meters], None], is_watched: Callable[[], bool]
    ) -> NoReturn:
        while True:
            self._count(self._snapshot())
            if is_watched():
                publish(self.view())
            await trio.sleep(PERIOD_SECONDS)

    def view(self) -> Meters:
        snapshot = self._snapshot()
        sensing = self._sensing
        idle, room = first(sensing.of(Kind.IDLE)), first(sensing.of(Kind.ROOM))
        heat = first(sensing.of(Kind.HEAT))
        # A card that the worker does not use is none of ours.
        card = Reading("") if self._device == "cpu" else first(sensing.of(Kind.GPU))
        credited, committed = self._last_hour(snapshot)
        return Meters(
            detector=sensing.detector,
            idle_seconds=idle.idle_seconds,
            device=card.device or self._device,
            celsius=card.celsius if heat.celsius is None else heat.celsius,
            watts=card.watts,
            watts_limit=card.watts_limit,
            memory_free_bytes=room.memory_free_bytes or 0,
            memory_total_bytes=room.memory_total_bytes or 0,
            duty=snapshot.duty,
            drafted_per_second=self._rate(),
            credited=credited,
            committed=committed,
            received_bytes=self._traffic.received,
            sent_bytes=self._traffic.sent,
            sensors=sensing.views(),
        )

    def _count(self, snapshot: Snapshot) -> None:
        now = trio.current_time()
        self._seconds.append((now, sum(host.drafted for host in snapshot.hosts)))
        if not self._minutes or now - self._minutes[-1][0] >= 60:
            self._minutes.append((now, *_totals(snapshot)))

    def _rate(self) -> float:
        """Return guesses a second; a host that made way takes its count along."""
        if len(self._seconds) < 2:
            return 0.0
        (since, before), (until, after) = self._seconds[0], self._seconds[-1]
        return max(0.0, (after - before) / (until - since)) if until > since else 0.0

    def _last_hour(self, snapshot: Snapshot) -> tuple[int, int]:
        credited, committed = _totals(snapshot)
        if not self._minutes:
            return credited, committed
        _, credited_then, committed_then = self._minutes[0]
        return max(0, credited - credited_then), max(0, committed - committed_then)


def _totals(snapshot: Snapshot) -> tuple[int, int]:
    hosts = snapshot.hosts
    return sum(host.credited for host in hosts), sum(host.committed for host in hosts)
