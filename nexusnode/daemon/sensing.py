"""Asks all sensors, each in a task of its own, and tells the contributor what they say together."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import trio

from nexusnode.control.messages import IdleTest, SensorView
from nexusnode.policy.facts import Facts, Moment
from nexusnode.sensors.sensor import Kind, Reading, Sensor
from nexusnode.sensors.supervise import Watch
from p2p.log import Log
from p2p.process.guard import guard

MAX_LINE = 1000  # of a finding, in a view


class Sensing:
    """Owns the sensors.

    Args:
        device: what the draft worker computes on; a graphics card's heat and load forbid nothing
            to a worker on the processor.
        sense: gets the facts whenever a sensor was asked; must not block.
    """

    def __init__(
        self,
        sensors: Sequence[Sensor],
        device: str,
        sense: Callable[[Facts], None],
        clock: Callable[[], Moment],
        log: Log,
    ) -> None:
        self._uses_gpu = device != "cpu"
        self._sense = sense
        self._log = log
        self._watches = tuple(
            Watch(sensor, lambda: clock().boot_seconds, self._changed) for sensor in sensors
        )

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for watch in self._watches:
                name = f"sensor.{watch.sensor.name}"
                nursery.start_soon(partial(guard, self._log, name, watch.run))

    async def ask_all(self) -> tuple[SensorView, ...]:
        """Ask every sensor once, all at the same time, and return what they say."""
        async with trio.open_nursery() as nursery:
            for watch in self._watches:
                nursery.start_soon(watch.ask)
        return self.views()

    def facts(self) -> Facts:
        """Return what the sensors say; what several say, the strictest or the first of them."""
        idle = self._idle
        card = (Kind.GPU,) if self._uses_gpu else ()
        power = first(self.of(Kind.POWER))
        room = first(self.of(Kind.ROOM))
        return Facts(
            last_input=None if idle is None else idle.last_input,
            suspending=any(one.suspending for one in self.of(Kind.SLEEP)),
            celsius=_greatest(one.celsius for one in self.of(Kind.HEAT, *card)),
            on_battery=power.on_battery,
            battery_percent=power.battery_percent,
            programs=frozenset().union(*(one.programs or () for one in self.of(Kind.PROGRAMS))),
            fullscreen=any(one.fullscreen for one in self.of(Kind.FULLSCREEN, Kind.GAME)),
            gpu_other=_greatest(one.gpu_other for one in self.of(*card)),
            memory_free_bytes=room.memory_free_bytes,
            metered=any(one.metered for one in self.of(Kind.NETWORK)),
            disk_free_bytes=room.disk_free_bytes,
        )

    @property
    def detector(self) -> str:
        """Name of the idle sensor that is believed; empty = none works."""
        return "" if self._idle is None else self._idle.sensor.name

    def views(self) -> tuple[SensorView, ...]:
        """Return every sensor with what it says, or why it says nothing."""
        return tuple(
            SensorView(
                watch.sensor.name,
                watch.sensor.kind.value,
                watch.reading is not None,
                (watch.why_not if watch.reading is None else watch.reading.finding)[:MAX_LINE],
            )
            for watch in self._watches
        )

    async def test_idle(self) -> IdleTest:
        """Ask the idle sensors now, until one answers."""
        silent = []
        for watch in self._watches:
            if watch.sensor.kind is Kind.IDLE:
                await watch.ask()
                if watch.reading is not None:
                    return IdleTest(watch.sensor.name, watch.reading.idle_seconds, "")
                silent.append(f"{watch.sensor.name}: {watch.why_not}")
        return IdleTest("", None, " ".join(silent)[:MAX_LINE] or "There is no idle sensor.")

    @property
    def _idle(self) -> Watch | None:
        works = (
            watch
            for watch in self._watches
            if watch.sensor.kind is Kind.IDLE and watch.last_input is not None
        )
        return next(works, None)

    def of(self, *kinds: Kind) -> list[Reading]:
        """Return what the sensors of these kinds say, the first to be believed first."""
        return [
            watch.reading
            for watch in self._watches
            if watch.sensor.kind in kinds and watch.reading is not None
        ]

    def _changed(self) -> None:
        self._sense(self.facts())


def first(readings: Sequence[Reading]) -> Reading:
    """Return the first, or one that says nothing."""
    return readings[0] if readings else Reading("")


def _greatest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
