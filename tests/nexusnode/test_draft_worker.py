"""The worker's loop against a scripted daemon and the fake engine, on a clock of its own."""

from collections.abc import Callable
from typing import Any

import pytest

from nexusnode.draft.engine import DraftEngine
from nexusnode.draft.fake import FakeEngine
from nexusnode.draft.messages import (
    FROM_WORKER,
    Budget,
    Calibration,
    Close,
    Closed,
    Commit,
    Fault,
    Grown,
    Load,
    Loaded,
    Open,
    Pace,
    Ping,
    Pong,
    Refused,
    Stats,
    Stop,
)
from nexusnode.draft.worker import FIRST_LEARNT_SECONDS, LEARNT_SECONDS, STATS_SECONDS, Worker
from p2p.errors import ModelError, NexusError, ResourceError
from p2p.process.pipe import EXIT_FAULT, EXIT_MODEL, EXIT_STOP
from p2p.wire.messages import Sampler

LOAD = Load("/models/fake.gguf", "", "cpu", 1, 4, 256)
PROMPT = tuple(range(10, 30))
DECODE_SECONDS = 0.01


class Script:
    """A daemon: each time the worker waits, the next step's messages arrive; then the clock runs.

    Time passes by decodes and by waiting alone.
    """

    def __init__(self, *steps: list[object]) -> None:
        self.now = 100.0
        self.said: list[Any] = []
        self.waits: list[float | None] = []
        self._steps = list(steps)
        self._inbox: list[object] = [LOAD]

    def receive(self, timeout_seconds: float | None = None) -> Any:
        if self._inbox:
            return self._inbox.pop(0)
        self.waits.append(timeout_seconds)
        if not self._steps:
            assert timeout_seconds is not None, "the worker waits for ever and the script is over"
            self.now += timeout_seconds
            return None
        self._inbox = self._steps.pop(0)
        return self._inbox.pop(0) if self._inbox else self._pass(timeout_seconds)

    def drain(self) -> list[Any]:
        arrived, self._inbox = self._inbox, []
        return arrived

    def send(self, *messages: object) -> None:
        for message in messages:
            assert FROM_WORKER.unpack(FROM_WORKER.pack(message)) == message
        self.said += messages

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    def _pass(self, seconds: float | None) -> None:
        assert seconds is not None
        self.now += seconds


class SlowEngine(FakeEngine):
    """Decodes take `DECODE_SECONDS` of the script's clock."""

    script: Script

    def decode(self, rows: Any) -> Any:
        self.script.now += DECODE_SECONDS
        return super().decode(rows)


def run(script: Script, engine: FakeEngine | None = None) -> int:
    engine = engine or SlowEngine()
    if isinstance(engine, SlowEngine):
        engine.script = script
    return Worker(script, lambda load: engine, lambda: script.now).run()


def opened(session: int = 1, **changes: object) -> Open:
    fields: dict[str, object] = {
        "session": session,
        "host": 1,
        "key": b"eightkey",
        "sampler": Sampler(0, 0, 1000, 0),
        "max_new": 1000,
        "tokens": PROMPT,
        "last": True,
        "rows": 8,
        "ahead": 8,
        "next_id": 1,
    }
    return Open(**{**fields, **changes})  # type: ignore[arg-type]


def failing(error: NexusError) -> Callable[[Load], DraftEngine]:
    def open_engine(load: Load) -> DraftEngine:
        raise error

    return open_engine


def test_the_engine_is_told_as_it_is_once_loaded() -> None:
    script = Script([Stop()])

    assert run(script) == EXIT_STOP
    assert script.said == [
        Loaded(512, 256, 4, "streams", (1.0, 1.6, 2.8, 4.5), 0, "cpu", 1),
    ]


def test_stop_is_obeyed_behind_other_messages() -> None:
    script = Script([Ping(1), Ping(2), Stop()])

    assert run(script) == EXIT_STOP
    assert script.of(Pong) == [Pong(1), Pong(2)]


def test_an_opened_session_grows_and_a_commit_makes_it_grow_on() -> None:
    script = Script([opened()], [Commit(1, 20, 0, (500,), 8, 8)], [Stop()])

    assert run(script) == EXIT_STOP
    positions = [growth.pos for grown in script.of(Grown) for growth in grown.growths]
    assert positions[0] == 20
    assert positions[-1] == 21
    assert positions == sorted(positions)


def test_all_sessions_grow_in_one_message_for_each_decode() -> None:
    engine = SlowEngine()
    short = PROMPT[:4]
    script = Script([opened(n, tokens=short) for n in (1, 2, 3)], [Stop()])

    run(script, engine)

    assert len(script.of(Grown)) == engine.decodes
    assert {growth.session for growth in script.of(Grown)[0].growths} == {1, 2, 3}


def test_what_is_queued_is_applied_before_the_next_decode() -> None:
    engine = SlowEngine()
    script = Script([opened(ahead=1), Commit(1, 20, 0, (7,), 8, 1), Close(1)], [Stop()])

    run(script, engine)

    assert engine.decodes == 0


def test_a_worker_whose_sessions_all_sleep_waits_without_a_deadline() -> None:
    script = Script([opened()], [Budget(1, 0, 0)], [Ping(1)], [Stop()])

    run(script)

    assert script.waits[0] is None  # no session yet
    assert script.waits[1] is not None
    assert script.waits[2] is None
    assert script.of(Pong) == [Pong(1)]


def test_refusals_and_ends_of_sessions_are_said() -> None:
    script = Script(
        [*(opened(number) for number in range(1, 6))],
        [Commit(1, 3, 0, (5,), 8, 8)],
        [Stop()],
    )

    run(script)

    assert script.of(Refused) == [Refused(5, 6)]
    assert script.of(Closed) == [Closed(1, "gap")]


def test_stats_come_each_second_while_there_are_sessions() -> None:
    script = Script([opened()], [], [], [Close(1)], [Stop()])

    run(script)

    stats = script.of(Stats)
    assert 2 <= len(stats) <= 4
    assert stats[0].sessions == 1
    assert [s.decodes for s in stats] == sorted(s.decodes for s in stats)
    assert stats[-1].drafted == sum(len(x.tokens) for g in script.of(Grown) for x in g.growths)
    assert stats[0].rss_bytes > 0
    assert stats[-1].busy < 0.2


def test_what_was_learnt_is_said_once_a_minute() -> None:
    commits = [[Commit(1, 20 + n, 0, (500,), 8, 8)] for n in range(3)]
    idle = [[] for _ in range(int(LEARNT_SECONDS / STATS_SECONDS) + 5)]
    script = Script([opened()], *commits, *idle, [Commit(1, 23, 0, (500,), 8, 8)], *idle, [Stop()])

    run(script)

    assert len(script.of(Calibration)) == 2


@pytest.mark.parametrize(("seconds", "count"), [(-2, 0), (2, 1)])
def test_what_was_learnt_is_said_soon_at_first(seconds: int, count: int) -> None:
    idle = [[] for _ in range(int((FIRST_LEARNT_SECONDS + seconds) / STATS_SECONDS))]
    script = Script([opened()], [Commit(1, 20, 0, (500,), 8, 8)], *idle, [Stop()])

    run(script)

    assert len(script.of(Calibration)) == count


@pytest.mark.parametrize("duty", [0.05, 0.25, 0.5, 1.0])
def test_the_worker_keeps_to_its_share_of_time(duty: float) -> None:
    engine = SlowEngine(context=4096)
    idle: list[list[object]] = [[] for _ in range(40)]
    script = Script([Pace(duty), opened(rows=128, ahead=64)], *idle, [Stop()])
    start = script.now

    run(script, engine)

    assert engine.decodes > 5
    assert script.now - start >= engine.decodes * DECODE_SECONDS / duty - 1e-6


def test_messages_are_applied_while_the_worker_rests() -> None:
    script = Script([Pace(0.05), opened()], [Ping(1)], [Ping(2)], [Close(1)], [Stop()])
    engine = SlowEngine()

    assert run(script, engine) == EXIT_STOP
    assert script.of(Pong) == [Pong(1), Pong(2)]
    assert engine.decodes <= 2


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (ModelError("fake.gguf: broken"), "model", EXIT_MODEL),
        (ResourceError("no memory"), "memory", EXIT_FAULT),
    ],
)
def test_a_model_that_does_not_load_is_a_fault_and_an_exit_status(
    error: NexusError, kind: str, status: int
) -> None:
    script = Script()

    assert Worker(script, failing(error), lambda: script.now).run() == status
    assert script.said == [Fault(kind, str(error))]


@pytest.mark.parametrize(
    ("engine", "kind"), [(FakeEngine(lost_after=2), "engine"), (FakeEngine(nan_after=2), "nan")]
)
def test_a_lost_engine_is_a_fault_and_an_exit_status(engine: FakeEngine, kind: str) -> None:
    script = Script([opened()])

    assert run(script, engine) == EXIT_FAULT
    assert [fault.kind for fault in script.of(Fault)] == [kind]
    assert script.said[-1] == script.of(Fault)[0]


@pytest.mark.parametrize(("first", "status"), [(Stop(), EXIT_STOP), (Ping(1), EXIT_FAULT)])
def test_nothing_is_served_before_a_model_is_loaded(first: object, status: int) -> None:
    script = Script()
    script._inbox = [first]

    assert run(script) == status
    assert script.said == []
