from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
import trio
import trio.testing

from nexusnode.control.messages import HostView, Meters, Snapshot, WorkerView
from nexusnode.daemon.meters import Metering
from nexusnode.daemon.sensing import Sensing
from nexusnode.daemon.traffic import Traffic
from nexusnode.policy.facts import Moment
from p2p.log import quiet_log

HOST = HostView("peer", "", "serving", "", 1, 0, 0, 0)
NOTHING = Snapshot(
    "running", "ok", (), (), None, "me", "m", "/m", "ab",
    WorkerView("drafting", "", 7, 0, 1, 0), (HOST,), 0, 0.0, 0.5, False,
)  # fmt: skip


def metering_of(tmp_path: Path, snapshot: Callable[[], Snapshot]) -> Metering:
    sensing = Sensing((), "cpu", lambda facts: None, lambda: Moment(0.0, 0.0), quiet_log())
    traffic = Traffic(tmp_path, lambda: UTC, lambda: 0.0, quiet_log())
    traffic.add(received=3, sent=4)
    return Metering(snapshot, sensing, traffic, "cpu")


async def test_rates_are_of_the_last_seconds_and_sums_of_the_last_hour(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    started = trio.current_time()

    def snapshot() -> Snapshot:
        seconds = int(trio.current_time() - started)
        host = replace(HOST, drafted=20 * seconds, credited=2 * seconds, committed=5 * seconds)
        return replace(NOTHING, hosts=(host,))

    metering = metering_of(tmp_path, snapshot)
    published: list[Meters] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metering.run, published.append, lambda: len(published) < 3)
        await trio.sleep(2 * 3600 + 0.5)
        nursery.cancel_scope.cancel()
    meters = metering.view()

    assert len(published) == 3
    assert meters.drafted_per_second == pytest.approx(20, abs=0.1)
    assert meters.credited == pytest.approx(2 * 3600, rel=0.02)
    assert meters.committed == pytest.approx(5 * 3600, rel=0.02)
    assert (meters.received_bytes, meters.sent_bytes, meters.duty) == (3, 4, 0.5)


async def test_what_nothing_can_tell_is_not_made_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    meters = metering_of(tmp_path, lambda: NOTHING).view()

    assert (meters.detector, meters.idle_seconds, meters.device) == ("", None, "cpu")
    assert (meters.celsius, meters.watts, meters.watts_limit) == (None, None, None)
    assert (meters.drafted_per_second, meters.memory_total_bytes) == (0.0, 0)


async def test_a_host_that_makes_way_makes_no_rate_below_zero(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    drafted = [1000]
    metering = metering_of(
        tmp_path,
        lambda: replace(NOTHING, hosts=(replace(HOST, drafted=drafted[0], credited=drafted[0]),)),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metering.run, lambda meters: None, lambda: False)
        await trio.sleep(1.5)
        drafted[0] = 0
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert metering.view().drafted_per_second == 0.0
    assert metering.view().credited == 0
