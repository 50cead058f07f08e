from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from nexusnode.daemon.worker import SILENCE_SECONDS, START_SECONDS, DraftWorker
from nexusnode.draft.messages import Budget, Fault, Load, Loaded
from nexusnode.states import WorkerState
from p2p.errors import ChildError
from p2p.log import quiet_log

LOAD = Load("/model.gguf", "", "cpu", 1, 4, 256)


class Owner:
    def __init__(self) -> None:
        self.loaded: list[Loaded] = []
        self.said: list[Any] = []
        self.states: list[WorkerState] = []
        self.short = 0
        self.worker: DraftWorker | None = None

    def worker_ready(self, loaded: Loaded) -> None:
        self.loaded.append(loaded)

    def worker_said(self, message: Any) -> None:
        self.said.append(message)

    def worker_changed(self) -> None:
        assert self.worker is not None
        self.states.append(self.worker.state)

    def worker_short_of_memory(self) -> None:
        self.short += 1


@asynccontextmanager
async def supervised(workers: Any) -> AsyncIterator[tuple[DraftWorker, Owner]]:
    owner = Owner()
    worker = DraftWorker(workers.open, LOAD, owner, quiet_log())
    owner.worker = worker
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        yield worker, owner
        nursery.cancel_scope.cancel()


async def test_no_worker_is_started_before_it_is_allowed(
    workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        await trio.sleep(100)

        assert workers.started == []
        assert worker.state is WorkerState.ABSENT


async def test_it_goes_from_starting_to_ready_to_drafting_to_sleeping(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, owner):
        worker.allow(True)
        await wait_until(lambda: worker.is_ready)
        worker.note_drafting(has_budget=True, has_sessions=True)
        worker.note_drafting(has_budget=False, has_sessions=True)
        worker.note_drafting(has_budget=False, has_sessions=False)

    assert owner.states == [
        WorkerState.STARTING,
        WorkerState.READY,
        WorkerState.DRAFTING,
        WorkerState.SLEEPING,
        WorkerState.READY,
    ]


async def test_messages_for_a_worker_that_is_not_ready_are_dropped_as_it_will_be_replayed(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.send(Budget(1, 1, 1))
        worker.allow(True)
        await wait_until(lambda: worker.is_ready)
        worker.send(Budget(2, 2, 2))
        await wait_until(lambda: Budget(2, 2, 2) in workers.running.heard)

        assert Budget(1, 1, 1) not in workers.running.heard


async def test_a_pause_ends_it_at_once_and_it_is_not_restarted(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.allow(True)
        await wait_until(lambda: worker.is_ready)

        worker.allow(False)
        await wait_until(lambda: workers.running is None, seconds=0.1)
        await trio.sleep(300)

        assert worker.state is WorkerState.ABSENT
        assert worker.pid is None
        assert worker.restarts == 0
        assert len(workers.started) == 1


async def test_a_pause_while_it_loads_or_waits_for_a_restart_is_obeyed(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.allow(True)
        await wait_until(lambda: workers.running is not None)
        worker.allow(False)
        await wait_until(lambda: worker.state is WorkerState.ABSENT)

        worker.allow(True)
        for count in (1, 2):
            await wait_until(lambda: worker.is_ready)
            workers.running.die("was ended by SIGKILL")
            await wait_until(lambda count=count: worker.restarts == count)
        worker.allow(False)
        started = len(workers.started)
        await trio.sleep(300)

        assert len(workers.started) == started


async def test_the_first_restart_is_at_once_and_later_ones_back_off(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.allow(True)
        waits = []
        for _ in range(3):
            await wait_until(lambda: worker.is_ready, seconds=100)
            workers.running.die("was ended by SIGSEGV")
            died, count = trio.current_time(), worker.restarts
            await wait_until(lambda count=count: worker.restarts > count)
            await wait_until(lambda: worker.is_ready, seconds=100)
            waits.append(trio.current_time() - died)

        assert waits == pytest.approx([0.0, 1.0, 60.0], abs=0.1)
        assert worker.restarts == 3
        assert "SIGSEGV" in worker.reason


async def test_three_early_deaths_blame_the_model_until_it_works(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.allow(True)
        for death in (1, 2, 3):
            await wait_until(lambda: worker.is_ready, seconds=100)
            assert not worker.is_model_bad, death
            workers.running.die("was ended by SIGABRT")
            await wait_until(lambda death=death: worker.restarts == death)

        assert worker.is_model_bad
        await wait_until(lambda: worker.is_ready, seconds=100)
        assert not worker.is_model_bad


async def test_a_minute_of_service_forgives_earlier_deaths(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.allow(True)
        for count in (1, 2, 3, 4):
            await wait_until(lambda: worker.is_ready, seconds=2)
            await trio.sleep(61)
            workers.running.die("was ended by SIGKILL")
            await wait_until(lambda count=count: worker.restarts == count)

        await wait_until(lambda: worker.is_ready, seconds=1)


async def test_a_worker_that_hangs_is_killed_and_replaced(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.allow(True)
        await wait_until(lambda: worker.is_ready)
        workers.running.is_hanging = True
        hung = trio.current_time()

        await wait_until(lambda: len(workers.started) == 2, seconds=30)

        assert trio.current_time() - hung <= SILENCE_SECONDS + 5
        assert "silent" in worker.reason


async def test_a_worker_that_does_not_load_in_time_is_killed(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        workers.do_next_hang = True
        worker.allow(True)

        await wait_until(lambda: len(workers.started) == 2, seconds=START_SECONDS + 1)

        assert "not ready" in worker.reason


async def test_a_refused_model_is_bad_at_once(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    workers.faults.append(Fault("model", "unknown architecture"))
    async with supervised(workers) as (worker, owner):
        worker.allow(True)
        await wait_until(lambda: worker.state is WorkerState.ENDED)

        assert worker.is_model_bad
        assert "unknown architecture" in worker.reason
        assert owner.loaded == []


async def test_too_little_memory_is_told_at_once(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    workers.faults.append(Fault("memory", "300 MiB are free"))
    async with supervised(workers) as (worker, owner):
        worker.allow(True)
        await wait_until(lambda: owner.short == 1)

        assert "300 MiB" in worker.reason


async def test_a_fault_of_a_running_worker_ends_it_with_its_reason(
    workers: Any, wait_until: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with supervised(workers) as (worker, _):
        worker.allow(True)
        await wait_until(lambda: worker.is_ready)

        workers.running._send.send_nowait(Fault("nan", "logits hold NaN"))
        await wait_until(lambda: worker.restarts == 1)

        assert worker.reason == "draft worker: nan: logits hold NaN"


async def test_a_worker_that_cannot_be_started_is_tried_again(
    wait_until: Any, workers: Any, autojump_clock: trio.testing.MockClock
) -> None:
    attempts = 0

    @asynccontextmanager
    async def broken() -> AsyncIterator[Any]:
        nonlocal attempts
        attempts += 1
        raise ChildError("no such program")
        yield

    owner = Owner()
    worker = DraftWorker(broken, LOAD, owner, quiet_log())
    owner.worker = worker
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        worker.allow(True)
        await wait_until(lambda: attempts == 3)

        assert worker.reason == "no such program"
        nursery.cancel_scope.cancel()
