from typing import Any

import pytest
import trio
import trio.testing

from nexusnode.control.messages import Pause, Snapshot
from nexusnode.daemon.contributor import MEMORY_RETRY_SECONDS
from nexusnode.draft.messages import Fault, Pace
from nexusnode.policy.facts import Facts, Limits
from p2p.drafting.host_end import Declined
from p2p.errors import ControlError
from p2p.network.memory import MemoryNetwork
from p2p.wire.messages import CloseReason
from p2p.wire.schema import check


async def test_without_always_the_node_is_ready_but_paused_and_loads_nothing(
    fake_node: Any, workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers, always=False) as node:
        await trio.sleep(60)

        snapshot = node.contributor.snapshot()
        assert (snapshot.state, snapshot.reason) == ("paused", "idle-unknown")
        assert snapshot.missing == ()
        assert workers.started == []


async def test_the_setting_always_takes_effect_at_once(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers, always=False) as node:
        await trio.sleep(1)

        node.contributor.set_limits(Limits(always=True))
        await wait_until(lambda: node.worker.is_ready, seconds=1)

        assert node.contributor.snapshot().reason == "ok"


async def test_a_pause_by_length_ends_by_itself(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers) as node:
        await wait_until(lambda: node.worker.is_ready)
        started = trio.current_time()

        node.contributor.pause(Pause(120.0, None))
        snapshot = node.contributor.snapshot()
        await trio.sleep(1)
        await wait_until(lambda: node.worker.is_ready, seconds=200)

        assert snapshot.until_unix_seconds == round(started + 1_700_000_120)
        assert trio.current_time() - started == pytest.approx(120, abs=1)


async def test_a_pause_until_a_time_follows_the_wall_clock_within_half_a_minute(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers) as node:
        await wait_until(lambda: node.worker.is_ready)
        node.contributor.pause(Pause(None, int(node.clock().unix_seconds) + 3600))
        await wait_until(lambda: not node.worker.is_ready)

        node.clock.unix_offset += 3600

        await wait_until(lambda: node.worker.is_ready, seconds=31)


async def test_a_pause_in_the_past_or_of_both_kinds_is_refused(
    fake_node: Any, workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers) as node:
        now = int(node.clock().unix_seconds)

        with pytest.raises(ControlError, match="over"):
            node.contributor.pause(Pause(None, now - 5))
        with pytest.raises(ControlError, match="not both"):
            node.contributor.pause(Pause(5.0, now + 5))

        assert node.contributor.snapshot().state == "running"


async def test_a_model_that_does_not_fit_pauses_and_is_tried_again_or_on_resume(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    workers.faults += [Fault("memory", "too little"), Fault("memory", "too little")]
    async with fake_node(MemoryNetwork(), workers) as node:
        await wait_until(lambda: node.contributor.snapshot().reason == "no-memory")
        assert len(workers.started) == 1
        await wait_until(lambda: len(workers.started) == 2, seconds=MEMORY_RETRY_SECONDS + 31)
        await trio.sleep(1)

        node.contributor.resume()

        await wait_until(lambda: node.worker.is_ready, seconds=2)


async def test_what_is_missing_is_named_in_order(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    workers.faults.append(Fault("model", "unknown architecture"))
    async with fake_node(MemoryNetwork(), workers) as node:
        await wait_until(lambda: node.worker.is_model_bad)
        assert node.contributor.snapshot().missing == ("no-model", "no-worker", "no-host")

        await wait_until(lambda: node.worker.is_ready, seconds=100)
        assert node.contributor.snapshot().missing == ("no-host",)


async def test_snapshots_are_published_while_somebody_watches_and_fit_their_bounds(
    fake_node: Any, workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    published: list[Snapshot] = []
    is_watched = False
    async with fake_node(MemoryNetwork(), workers) as node, trio.open_nursery() as nursery:
        nursery.start_soon(node.contributor.show, published.append, lambda: is_watched)
        await trio.sleep(10)
        assert published == []

        is_watched = True
        await trio.sleep(10)

        assert 6 <= len(published) <= 21
        for snapshot in published:
            check(snapshot)
        nursery.cancel_scope.cancel()


async def test_quitting_says_so_and_says_goodbye(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)

            node.contributor.stop()
            assert node.contributor.snapshot().reason == "quit"
            assert node.contributor.quit.is_set()
            await node.contributor.farewell()
            await trio.sleep(0.1)

            assert host.end is None
            assert workers.running is None
        nursery.cancel_scope.cancel()


async def test_run_anyway_runs_for_so_long_without_a_sensor_and_ends_a_pause(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers, always=False) as node:
        node.contributor.pause(Pause(None, None))
        node.contributor.run_anyway(600.0)
        await wait_until(lambda: node.worker.is_ready, seconds=1)
        await trio.sleep(590)
        assert node.worker.is_ready

        await wait_until(lambda: workers.running is None, seconds=11)

        assert node.contributor.snapshot().reason == "idle-unknown"


async def test_input_ends_the_worker_and_the_idle_delay_starts_it_again(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers, always=False) as node:
        await trio.sleep(1000)
        node.contributor.sense(Facts(last_input=100.0))
        await wait_until(lambda: node.worker.is_ready, seconds=1)

        node.contributor.sense(Facts(last_input=trio.current_time()))
        await wait_until(lambda: workers.running is None, seconds=0.1)
        assert node.contributor.snapshot().reason == "input"
        started = trio.current_time()
        await wait_until(lambda: node.worker.is_ready, seconds=400)

        assert trio.current_time() - started == pytest.approx(300, abs=1)


async def test_what_the_sensors_say_does_not_forget_that_the_model_did_not_fit(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    workers.faults.append(Fault("memory", "too little"))
    async with fake_node(MemoryNetwork(), workers) as node:
        await wait_until(lambda: node.contributor.snapshot().reason == "no-memory")

        node.contributor.sense(Facts(last_input=0.0))

        assert node.contributor.snapshot().reason == "no-memory"


async def test_a_warm_machine_and_a_changed_limit_pace_the_worker_at_once(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers) as node:
        await wait_until(lambda: node.worker.is_ready)

        node.contributor.sense(Facts(celsius=76.0))
        await trio.sleep(0.1)
        assert node.contributor.snapshot().state == "throttled"
        node.contributor.set_limits(Limits(always=True, duty=0.5))
        await trio.sleep(0.1)

        assert paces(workers) == [0.5, 0.25]
        assert node.contributor.snapshot().duty == 0.25


async def test_a_new_worker_is_told_its_pace(
    fake_node: Any, workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_node(MemoryNetwork(), workers) as node:
        node.contributor.set_limits(Limits(always=True, duty=0.5))
        await wait_until(lambda: node.worker.is_ready)
        await trio.sleep(0.1)
        workers.running.die("was ended by SIGKILL")
        await wait_until(lambda: len(workers.started) == 2 and node.worker.is_ready)
        await trio.sleep(0.1)

        assert paces(workers) == [0.5]


async def test_finishing_serves_what_is_open_declines_what_is_new_and_then_pauses(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            first = host.open([1, 2, 3])
            await host.generate(first, 20)

            node.contributor.finish()
            await trio.sleep(0.1)
            assert node.contributor.snapshot().state == "finishing"
            second = host.open([4, 5, 6])
            await host.generate(first, 20)
            declined = [one for one in host.events if isinstance(one, Declined)]
            assert [(one.sid, one.reason) for one in declined] == [(second, CloseReason.PAUSED)]
            assert workers.running is not None

            host.close(first)
            await wait_until(lambda: workers.running is None, seconds=2)

            assert node.contributor.snapshot().reason == "user-pause"
            assert node.contributor.wish.paused
        nursery.cancel_scope.cancel()


async def test_finishing_takes_no_longer_than_a_minute_and_nothing_that_is_open_pauses_at_once(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            node.contributor.finish()
            await wait_until(lambda: workers.running is None, seconds=1)
            node.contributor.resume()
            await wait_until(host.greeted.is_set)
            host.open([1, 2, 3])
            await wait_until(lambda: node.drafting.session_count == 1)

            started = trio.current_time()
            node.contributor.finish()
            await wait_until(lambda: workers.running is None, seconds=70)

            assert trio.current_time() - started == pytest.approx(60, abs=1)
        nursery.cancel_scope.cancel()


async def test_finishing_works_after_a_pause_that_is_over(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers) as node:
            await wait_until(host.greeted.is_set)
            node.contributor.pause(Pause(10.0, None))
            await wait_until(lambda: node.contributor.snapshot().state == "paused", seconds=2)
            await wait_until(lambda: node.contributor.snapshot().state == "running", seconds=20)
            await wait_until(lambda: host.streams == 2, seconds=60)
            await wait_until(host.greeted.is_set)
            host.open([1, 2, 3])
            await wait_until(lambda: node.drafting.session_count == 1)

            node.contributor.finish()

            assert node.contributor.snapshot().state == "finishing"
        nursery.cancel_scope.cancel()


def paces(workers: Any) -> list[float]:
    return [one.duty for one in workers.started[-1].heard if isinstance(one, Pace)]
