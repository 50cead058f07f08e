"""Whatever happens, in whatever order: no slot is lost, none has two owners, no text changes."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from verifier_host.engine.fake import FakeSettings, FakeTarget, continuation
from verifier_host.messages import (
    Committed,
    Finished,
    FinishReason,
    Guesses,
    Leave,
    Refused,
    Sampling,
    Start,
)
from verifier_host.scheduling.rows import TILE
from verifier_host.scheduling.scheduler import Hold, Said, Scheduler, Step

SLOTS = 14 * TILE
CONTEXT = 512
END = 60
NAMES = (b"", b"a")


class House:
    """An engine, and a front that believes nothing it has not checked."""

    def __init__(self, max_rows: int) -> None:
        self.target = FakeTarget(FakeSettings(slots=SLOTS, context=CONTEXT, end=END))
        self.max_rows = max_rows
        self.now = 0.0
        self.next_session = 1
        self.starts: dict[int, Start] = {}
        self.texts: dict[int, list[int]] = {}
        self.wholes: dict[int, list[int]] = {}
        self.ids: dict[tuple[int, int], int] = {}
        self.open_scheduler()

    def open_scheduler(self) -> None:
        self.scheduler = Scheduler(
            SLOTS, CONTEXT, self.max_rows, self.target.spec.vocabulary, self.target.spec.end_ids
        )
        self.total = sum(self.places())

    def places(self) -> tuple[int, int, int]:
        gauge = self.scheduler.gauge(0)
        return gauge.slots_free, gauge.slots_held, gauge.slots_cached

    def start(self, length: int, kind: int, max_new: int, name: bytes) -> None:
        # Few kinds of prompt, so that many begin alike.
        prompt = tuple(kind * 1000 + at if at < 90 else kind + at * 3 for at in range(length))
        number = self.next_session
        self.next_session += 1
        message = Start(number, prompt, (), number.to_bytes(8, "little"), Sampling(), max_new, name)
        self.starts[number] = message
        self.texts[number] = []
        limit = min(max_new, self.scheduler.context - length)
        self.wholes[number] = continuation(prompt, message.key, Sampling(), max(0, limit), END)
        self.hear(self.scheduler.start(message))

    def guess(self, session: int, drafter: int, truth: int, noise: list[int]) -> None:
        """`truth` right tokens, then junk; parents at random."""
        prompt, text = self.starts[session].prompt, self.texts[session]
        ahead = self.wholes[session][len(text) : len(text) + truth]
        tokens = [*ahead, *noise][:64]
        first = self.ids.get((session, drafter), 1)
        self.ids[session, drafter] = first + len(tokens)
        parents = [0 if at == 0 else first + at - 1 for at in range(len(ahead))]
        parents += [(first + at - 1) * (at % 3 > 0) for at in range(len(ahead), len(tokens))]
        scores = bytes(255 - at for at in range(len(tokens)))
        pos = len(prompt) + len(text)
        self.scheduler.guesses(
            Guesses(session, drafter, pos, first, tuple(parents), tuple(tokens), scores), self.now
        )

    def step(self) -> None:
        planned = self.scheduler.plan(self.now)
        match planned:
            case Hold(until):
                self.now = until
            case Step(copies, rows):
                self.target.settle(copies.source, copies.destination)
                chosen = self.target.forward(rows)
                self.now += 0.05
                outcome = self.scheduler.apply(chosen, 0.05, self.now)
                self.target.settle(outcome.copies.source, outcome.copies.destination)
                self.hear(outcome.said)

    def cancel(self, session: int) -> None:
        self.scheduler.cancel(session)
        self.forget(session)

    def crash(self) -> None:
        """A new engine child: the front replays what it knows."""
        self.target = FakeTarget(FakeSettings(slots=SLOTS, context=CONTEXT, end=END))
        self.open_scheduler()
        self.ids = {}
        for number, message in list(self.starts.items()):
            text = tuple(self.texts[number])
            again = Start(
                number, message.prompt, text, message.key, message.sampling, message.max_new,
                message.namespace,
            )  # fmt: skip
            self.hear(self.scheduler.start(again))

    def forget(self, session: int) -> None:
        for table in (self.starts, self.texts, self.wholes):
            table.pop(session, None)

    def hear(self, said: list[Said]) -> None:
        for message in said:
            number = message.session
            match message:
                case Committed():
                    text = self.texts[number]
                    assert message.pos == len(self.starts[number].prompt) + len(text)
                    text += message.tokens
                    assert text == self.wholes[number][: len(text)]
                case Finished(_, reason, _):
                    assert self.texts[number] == self.wholes[number]
                    assert reason is not FinishReason.ERROR
                    self.forget(number)
                case Refused():
                    assert len(self.starts[number].prompt) >= self.scheduler.context
                    self.forget(number)

    def check(self) -> None:
        self.scheduler.check()
        assert sum(self.places()) == self.total


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(max_rows=st.sampled_from([1, 2, 8, 33, 64]))
    def open(self, max_rows: int) -> None:
        self.house = House(max_rows)

    def some(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.house.starts)))

    @rule(
        length=st.integers(1, 560),
        kind=st.integers(0, 2),
        max_new=st.integers(0, 120),
        name=st.sampled_from(NAMES),
    )
    def start(self, length: int, kind: int, max_new: int, name: bytes) -> None:
        self.house.start(length, kind, max_new, name)

    @precondition(lambda self: self.house.starts)
    @rule(
        data=st.data(),
        drafter=st.integers(1, 3),
        truth=st.integers(0, 8),
        noise=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8),
    )
    def guess(self, data: st.DataObject, drafter: int, truth: int, noise: list[int]) -> None:
        self.house.guess(self.some(data), drafter, truth, noise)

    @rule(steps=st.integers(1, 40))
    def steps(self, steps: int) -> None:
        for _ in range(steps):
            self.house.step()

    @precondition(lambda self: self.house.starts)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.house.cancel(self.some(data))

    @precondition(lambda self: self.house.starts)
    @rule(data=st.data(), drafter=st.integers(1, 3), everywhere=st.booleans())
    def leave(self, data: st.DataObject, drafter: int, everywhere: bool) -> None:
        session = self.some(data)
        self.house.scheduler.leave(Leave(0 if everywhere else session, drafter))

    @rule()
    def crash(self) -> None:
        self.house.crash()

    @invariant()
    def every_slot_has_one_place(self) -> None:
        if hasattr(self, "house"):
            self.house.check()

    def teardown(self) -> None:
        if hasattr(self, "house"):
            ended(self.house)


def ended(house: House) -> None:
    """Cancel half of what is left, finish the rest, and find every slot free or cached."""
    for number in list(house.starts)[::2]:
        house.cancel(number)
    for _ in range(20_000):
        if not house.starts:
            break
        house.step()
    house.check()
    assert not house.starts
    assert house.places()[1] == 0


SchedulerMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None
)
TestScheduler = pytest.mark.slow(SchedulerMachine.TestCase)


@pytest.mark.slow
def test_slots_are_conserved_over_ten_thousand_operations() -> None:
    draw = random.Random(6)
    house = House(64)
    for _ in range(10_000):
        some = draw.choice(sorted(house.starts)) if house.starts else 0
        match draw.choices(("start", "guess", "step", "cancel", "leave", "crash"), _WEIGHTS)[0]:
            case "start" if len(house.starts) < 12:
                house.start(
                    draw.randint(1, 300), draw.randint(0, 2), draw.randint(0, 90),
                    draw.choice(NAMES),
                )  # fmt: skip
            case "guess" if some:
                house.guess(some, draw.randint(1, 3), draw.randint(0, 8), [draw.randint(0, 50_000)])
            case "cancel" if some:
                house.cancel(some)
            case "leave" if some:
                house.scheduler.leave(Leave(some, draw.randint(1, 3)))
            case "crash":
                house.crash()
            case _:
                house.step()
                house.check()

    ended(house)


_WEIGHTS = (4, 30, 60, 2, 2, 0.1)
