"""The scheduler over the hashing target: no draft, no shortage and no order changes a token."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from verifier_host.engine.fake import END_ID, FakeSettings, FakeTarget, continuation
from verifier_host.messages import (
    HOST,
    Admitted,
    Committed,
    Finished,
    FinishReason,
    Guesses,
    Leave,
    Refused,
    Sampling,
    Start,
)
from verifier_host.scheduling.rows import TILE, Chosen, Int32, Rows
from verifier_host.scheduling.scheduler import Hold, Idle, Said, Scheduler, Step

PROMPT = tuple(range(100, 150))
KEY = b"12345678"
STEP_SECONDS = 0.05


def start(
    session: int = 1,
    prompt: Sequence[int] = PROMPT,
    committed: Sequence[int] = (),
    max_new: int = 40,
    sampling: Sampling | None = None,
    key: bytes = KEY,
    namespace: bytes = b"",
    is_drafted: bool = False,
) -> Start:
    return Start(
        session,
        tuple(prompt),
        tuple(committed),
        key,
        sampling or Sampling(),
        max_new,
        namespace,
        is_drafted,
    )


class TypistTarget:
    """A target whose token is a matter of its position alone: it types a text out."""

    def __init__(self, text: Sequence[int]) -> None:
        self.target = FakeTarget(FakeSettings(slots=64 * TILE, context=1024))
        self.spec = self.target.spec
        self.slots = self.target.slots
        self._text = np.array([*text, 0])

    def forward(self, rows: Rows) -> Chosen:
        chosen = self.target.forward(rows)
        tokens = np.where(rows.wants, self._text[rows.position + 1], chosen.tokens)
        return Chosen(tokens.astype(np.int32), chosen.logprobs)

    def settle(self, source: Int32, destination: Int32) -> None:
        self.target.settle(source, destination)


class BlindTarget:
    """A target that has no logit at one position."""

    def __init__(self, target: FakeTarget, position: int) -> None:
        self.target = target
        self.spec = target.spec
        self.slots = target.slots
        self._position = position

    def forward(self, rows: Rows) -> Chosen:
        chosen = self.target.forward(rows)
        tokens = np.where((rows.position == self._position) & rows.wants, -2, chosen.tokens)
        return Chosen(tokens.astype(np.int32), chosen.logprobs)

    def settle(self, source: Int32, destination: Int32) -> None:
        self.target.settle(source, destination)


@dataclass
class Engine:
    """Scheduler and target, stepped by hand in virtual time."""

    target: FakeTarget | BlindTarget | TypistTarget = field(
        default_factory=lambda: FakeTarget(FakeSettings(slots=64 * TILE, context=1024))
    )
    max_rows: int = 64
    has_ngram: bool = False
    now: float = 0.0
    steps: int = 0
    rows: list[Rows] = field(default_factory=list)
    texts: dict[int, list[int]] = field(default_factory=dict)
    commits: list[Committed] = field(default_factory=list)
    admitted: dict[int, Admitted] = field(default_factory=dict)
    finished: dict[int, Finished] = field(default_factory=dict)
    refused: dict[int, Refused] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = self.target.spec
        self.scheduler = Scheduler(
            self.target.slots,
            spec.max_context,
            self.max_rows,
            spec.vocabulary,
            spec.end_ids,
            self.has_ngram,
            [(1, STEP_SECONDS), (512, STEP_SECONDS)],
        )

    def start(self, message: Start) -> None:
        self.texts.setdefault(message.session, list(message.committed))
        self.admitted.pop(message.session, None)
        self._hear(self.scheduler.start(message))

    def guess(self, block: Guesses) -> None:
        self.scheduler.guesses(block, self.now)

    def step(self) -> Step | Hold | Idle:
        planned = self.scheduler.plan(self.now)
        match planned:
            case Hold(until):
                assert until > self.now
                self.now = until
            case Step(copies, rows):
                assert len(rows.token) <= self.max_rows
                assert len(set(rows.slot.tolist())) == len(rows.slot)
                self.rows.append(rows)
                self.target.settle(copies.source, copies.destination)
                chosen = self.target.forward(rows)
                self.now += STEP_SECONDS
                outcome = self.scheduler.apply(chosen, STEP_SECONDS, self.now)
                self._hear(outcome.said)
                self.target.settle(outcome.copies.source, outcome.copies.destination)
                self.steps += 1
        self.scheduler.check()
        return planned

    def run(self, most: int = 2000) -> None:
        """Step until nothing is left to do."""
        for _ in range(most):
            if isinstance(self.step(), Idle):
                return
        raise AssertionError("the engine does not come to an end")

    def _hear(self, said: Sequence[Said]) -> None:
        for message in said:
            match message:
                case Admitted():
                    assert message.session not in self.admitted
                    self.admitted[message.session] = message
                case Committed():
                    assert len(message.sources) == len(message.tokens)
                    self.texts[message.session] += message.tokens
                    self.commits.append(message)
                case Finished():
                    assert message.session not in self.finished
                    self.finished[message.session] = message
                case Refused():
                    self.refused[message.session] = message


Chain = list[tuple[int, int]]  # (parent: 0 or 1 + index, token)
Strategy = Callable[[list[int], list[int]], Chain]  # (text so far, what comes) -> guesses


def oracle(text: list[int], ahead: list[int]) -> Chain:
    return [(at, token) for at, token in enumerate(ahead[:12])]


def anti_oracle(text: list[int], ahead: list[int]) -> Chain:
    return [(at, token + 1) for at, token in enumerate(ahead[:12])]


def junk(text: list[int], ahead: list[int]) -> Chain:
    return [(at // 2, (len(text) * 31 + at * 7) % 49_152) for at in range(20)]


def all_siblings(text: list[int], ahead: list[int]) -> Chain:
    return [(0, ahead[0] + at - 30) for at in range(64)] if ahead else []


def comb(text: list[int], ahead: list[int]) -> Chain:
    """A spine of what comes, with three wrong teeth at each place."""
    guesses: Chain = []
    spine = 0
    for token in ahead[:16]:
        guesses.append((spine, token))
        at = len(guesses)
        guesses += [(spine, token + tooth) for tooth in (1, 2, 3)]
        spine = at
    return guesses


def hidden_truth(text: list[int], ahead: list[int]) -> Chain:
    """Wrong siblings first, the right one last, so that every accepted row is copied home."""
    guesses: Chain = []
    spine = 0
    for token in ahead[:5]:
        guesses += [(spine, token + 1), (spine, token + 2), (spine, token)]
        spine = len(guesses)
    return guesses


def orphans(text: list[int], ahead: list[int]) -> Chain:
    return [(60 + at, token) for at, token in enumerate(ahead[:12])]


@dataclass
class Drafter:
    """A node with a strategy, possibly late: `delay` steps between what it knows and what is so."""

    number: int
    strategy: Strategy
    delay: int = 0
    score: int = 250
    next_id: int = 1
    waiting: list[Guesses] = field(default_factory=list)

    def draft(self, session: int, prompt: Sequence[int], text: list[int], whole: list[int]) -> None:
        guesses = self.strategy(text, whole[len(text) :])[:64]
        if not guesses:
            return
        first = self.next_id
        self.next_id += len(guesses)
        self.waiting.append(
            Guesses(
                session,
                self.number,
                len(prompt) + len(text),
                first,
                tuple(parent + first - 1 if parent else 0 for parent, _ in guesses),
                tuple(max(0, token) for _, token in guesses),
                bytes([self.score]) * len(guesses),
            )
        )

    def sent(self) -> list[Guesses]:
        count = max(0, len(self.waiting) - self.delay)
        blocks, self.waiting = self.waiting[:count], self.waiting[count:]
        return blocks


def generate(
    drafters: Sequence[Drafter], message: Start, engine: Engine | None = None
) -> tuple[list[int], Engine]:
    """Run one session with drafters. Return its text and the engine."""
    engine = engine or Engine()
    whole = continuation(message.prompt, message.key, message.sampling, message.max_new + 64)
    engine.start(message)
    for _ in range(1000):
        text = engine.texts[message.session]
        for drafter in drafters:
            drafter.draft(message.session, message.prompt, text, whole)
            for block in drafter.sent():
                engine.guess(block)
        if isinstance(engine.step(), Idle):
            return text, engine
    raise AssertionError("the session does not end")


def test_without_drafts_the_text_is_the_targets_own() -> None:
    text, engine = generate([], start())

    assert text == continuation(PROMPT, KEY, Sampling(), 40)
    assert engine.finished[1] == Finished(1, FinishReason.LENGTH, 40)
    assert engine.steps == 40
    assert {source for commit in engine.commits for source in commit.sources} == {0}


def test_an_oracle_is_accepted_whole() -> None:
    text, engine = generate([Drafter(1, oracle)], start(max_new=53))

    assert text == continuation(PROMPT, KEY, Sampling(), 53)
    assert engine.steps == 1 + 52 / 13
    assert engine.commits[1].sources == (*[1] * 12, 0)
    assert engine.commits[1].drafted == 12


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(presence_penalty=1)])
@pytest.mark.parametrize(
    "strategy", [oracle, anti_oracle, junk, all_siblings, comb, hidden_truth, orphans]
)
@pytest.mark.parametrize("delay", [0, 1, 3])
def test_no_draft_changes_a_token(strategy: Strategy, delay: int, sampling: Sampling) -> None:
    message = start(max_new=150, sampling=sampling)

    text, engine = generate([Drafter(1, strategy, delay), Drafter(2, comb, 2)], message)

    assert text == continuation(PROMPT, KEY, sampling, 150)
    assert engine.scheduler.gauge(0).slots_held == 0


def test_a_comb_of_wrong_teeth_hides_the_truth_and_it_is_found() -> None:
    text, engine = generate([Drafter(1, hidden_truth)], start(max_new=60))

    assert text == continuation(PROMPT, KEY, Sampling(), 60)
    assert engine.steps < 30


def test_late_drafts_of_an_oracle_still_count() -> None:
    _, engine = generate([Drafter(1, oracle, delay=1)], start(max_new=60))

    assert engine.steps < 25


def test_repeated_and_foreign_blocks_change_nothing() -> None:
    engine = Engine()
    whole = continuation(PROMPT, KEY, Sampling(), 40)
    engine.start(start())
    block = Guesses(1, 1, len(PROMPT), 1, (0, 1, 2), tuple(whole[:3]), b"\xff" * 3)
    for _ in range(12):
        engine.guess(block)
        engine.guess(Guesses(9, 1, 5, 1, (0,), (7,), b"\xff"))
        engine.guess(Guesses(1, 2, 10, 1, (0, 1), (PROMPT[10], 3), b"\xff" * 2))
        engine.step()
    engine.run()

    assert engine.texts[1] == whole
    assert engine.scheduler.gauge(0).stale >= 12 + 11 * 3


def test_a_drafter_that_leaves_in_the_middle_changes_nothing() -> None:
    engine = Engine()
    whole = continuation(PROMPT, KEY, Sampling(), 40)
    engine.start(start())
    engine.start(start(session=2, prompt=PROMPT[:-1]))
    for at, session in enumerate((1, 2)):
        engine.guess(
            Guesses(session, 1, len(PROMPT) - at, 1, (0, 1), tuple(whole[:2]), b"\xff\xff")
        )
    engine.step()
    before = len(engine.commits)

    engine.scheduler.leave(Leave(1, 1))
    engine.scheduler.leave(Leave(0, 1))
    engine.scheduler.leave(Leave(77, 1))
    engine.run()

    assert engine.texts[1] == whole
    assert engine.texts[2] == continuation(PROMPT[:-1], KEY, Sampling(), 40)
    assert all(not commit.credits for commit in engine.commits[before:])


def test_guesses_between_plan_and_apply_earn_no_credit() -> None:
    engine = Engine()
    whole = continuation(PROMPT, KEY, Sampling(), 40)
    engine.start(start())
    engine.step()
    planned = engine.scheduler.plan(engine.now)
    assert isinstance(planned, Step)
    engine.guess(Guesses(1, 1, len(PROMPT) + 1, 1, (0, 1), tuple(whole[1:3]), b"\xff\xff"))

    outcome = engine.scheduler.apply(engine.target.forward(planned.rows), 0.05, 1.0)

    (commit,) = outcome.said
    assert isinstance(commit, Committed)
    assert commit.sources == (0,)
    assert [(one.drafter, one.tip, one.credited) for one in commit.credits] == [(1, 1, 0)]


@pytest.mark.slow
def test_concurrent_sessions_of_any_length_say_what_each_says_alone() -> None:
    engine = Engine()
    messages = [
        start(session, [session * 1000 + at for at in range(1 + session * 23 % 200)], max_new=90)
        for session in range(1, 13)
    ]
    drafters = {message.session: Drafter(1, comb) for message in messages}
    wholes = {
        message.session: continuation(message.prompt, KEY, Sampling(), 154) for message in messages
    }
    for message in messages:
        engine.start(message)
    while len(engine.finished) < len(messages):
        for message in messages:
            text = engine.texts[message.session]
            drafter = drafters[message.session]
            drafter.draft(message.session, message.prompt, text, wholes[message.session])
            for block in drafter.sent():
                engine.guess(block)
        engine.step()

    for session, whole in wholes.items():
        assert engine.texts[session] == whole[:90]


@pytest.mark.slow
def test_preempted_sessions_say_what_they_would_have_said() -> None:
    target = FakeTarget(FakeSettings(slots=12 * TILE, context=1024))
    engine = Engine(target)
    for session in range(1, 6):
        engine.start(start(session, [session * 100 + at for at in range(100)], max_new=260))
    engine.run()

    gauge = engine.scheduler.gauge(0)
    assert gauge.preemptions > 0
    assert gauge.slots_held == 0
    for session in range(1, 6):
        prompt = [session * 100 + at for at in range(100)]
        assert engine.texts[session] == continuation(prompt, KEY, Sampling(), 260)


@pytest.mark.slow
def test_the_oldest_session_is_never_preempted() -> None:
    engine = Engine(FakeTarget(FakeSettings(slots=8 * TILE, context=384)))
    engine.start(start(1, [5] * 100, max_new=200))
    engine.start(start(2, [6] * 100, max_new=200))
    engine.run()

    assert engine.finished[1].steps == engine.finished[2].steps == 200
    assert list(engine.finished) == [1, 2]


def test_a_second_session_with_the_same_beginning_computes_only_its_end() -> None:
    engine = Engine()
    prompt = tuple(range(300, 500))
    engine.start(start(1, prompt, max_new=10))
    engine.run()
    before = len(engine.rows)

    engine.start(start(2, (*prompt, 1, 2, 3), max_new=10))
    engine.run()

    # All of the prompt was found, the last columns of it copied out of the middle of a tile.
    assert len(engine.rows[before].token) == 3
    assert engine.texts[2] == continuation((*prompt, 1, 2, 3), KEY, Sampling(), 10)
    gauge = engine.scheduler.gauge(0)
    assert (gauge.prefix_queries, gauge.prefix_hits) == (200 + 203, 200)


def test_the_same_prompt_again_computes_one_row() -> None:
    engine = Engine()
    prompt = tuple(range(300, 500))
    for session in (1, 2):
        engine.start(start(session, prompt, max_new=10))
        engine.run()

    assert engine.steps == 4 + 9 + 10
    assert engine.texts[1] == engine.texts[2] == continuation(prompt, KEY, Sampling(), 10)


def test_prefixes_of_another_namespace_are_not_found() -> None:
    engine = Engine()
    prompt = tuple(range(300, 500))
    engine.start(start(1, prompt, max_new=10, namespace=b"a"))
    engine.run()
    engine.start(start(2, prompt, max_new=10, namespace=b"b"))
    engine.run()

    assert engine.scheduler.gauge(0).prefix_hits == 0


def test_choices_of_one_prompt_are_prefilled_once() -> None:
    engine = Engine()
    prompt = tuple(range(300, 492))  # three tiles
    for session in (1, 2, 3):
        engine.start(start(session, prompt, max_new=5, key=bytes([session]) * 8))
    engine.run()

    gauge = engine.scheduler.gauge(0)
    assert gauge.rows_prompt == 192  # the others find all but their root row
    for session in (1, 2, 3):
        key = bytes([session]) * 8
        assert engine.texts[session] == continuation(prompt, key, Sampling(), 5)


def test_a_replayed_session_goes_on_where_it_was() -> None:
    whole = continuation(PROMPT, KEY, Sampling(frequency_penalty=0.5), 40)
    engine = Engine()

    engine.start(start(committed=whole[:17], sampling=Sampling(frequency_penalty=0.5), max_new=40))
    engine.run()

    assert engine.texts[1] == whole
    assert engine.commits[0].pos == len(PROMPT) + 17


def test_an_end_id_ends_the_text_and_is_no_part_of_it() -> None:
    ends = FakeTarget(FakeSettings(slots=64 * TILE, context=1024, end=20))
    whole = continuation(PROMPT, KEY, Sampling(), 500, end=20)

    text, engine = generate([Drafter(1, comb)], start(max_new=500), Engine(ends))

    assert 0 < len(whole) < 500
    assert text == whole
    assert engine.finished[1].reason is FinishReason.STOP


def test_a_draft_that_runs_past_an_end_id_commits_nothing_behind_it() -> None:
    whole = continuation(PROMPT, KEY, Sampling(ignore_eos=True), 500, end=20)
    ends = FakeTarget(FakeSettings(slots=64 * TILE, context=1024, end=20))
    engine = Engine(ends)
    engine.start(start(max_new=500))
    drafter = Drafter(1, oracle)
    while 1 not in engine.finished:
        drafter.draft(1, PROMPT, engine.texts[1], whole)
        for block in drafter.sent():
            engine.guess(block)
        engine.step()

    assert engine.texts[1] == whole[: whole.index(END_ID)]


def test_ignored_end_ids_are_text() -> None:
    whole = continuation(PROMPT, KEY, Sampling(ignore_eos=True), 60, end=20)
    engine = Engine(FakeTarget(FakeSettings(slots=64 * TILE, context=1024, end=20)))

    engine.start(start(max_new=60, sampling=Sampling(ignore_eos=True)))
    engine.run()

    assert END_ID in engine.texts[1]
    assert engine.texts[1] == whole


@pytest.mark.parametrize("max_new", [1, 2, 13, 14, 15])
def test_a_draft_never_commits_beyond_max_new(max_new: int) -> None:
    text, engine = generate([Drafter(1, oracle)], start(max_new=max_new))

    assert len(text) == max_new
    assert engine.finished[1].reason is FinishReason.LENGTH


def test_the_context_ends_a_text() -> None:
    target = FakeTarget(FakeSettings(slots=64 * TILE, context=128))

    text, engine = generate([Drafter(1, comb)], start(max_new=1000), Engine(target))

    assert len(text) == 128 - len(PROMPT)
    assert engine.finished[1].reason is FinishReason.LENGTH
    assert max(int(rows.position.max()) for rows in engine.rows) < 127


def test_the_pool_bounds_the_context() -> None:
    engine = Engine(FakeTarget(FakeSettings(slots=5 * TILE, context=1024)))

    assert engine.scheduler.context == 3 * TILE  # the pool without pads and scratch
    engine.start(start(max_new=1000))
    engine.run()
    assert len(engine.texts[1]) == 3 * TILE - len(PROMPT)


def test_a_prompt_that_can_never_fit_is_refused() -> None:
    engine = Engine(FakeTarget(FakeSettings(slots=64 * TILE, context=128)))

    engine.start(start(1, [1] * 127))
    engine.start(start(2, [1] * 128))

    assert engine.refused[2].code == "request.context-length-exceeded"
    assert "128" in engine.refused[2].text
    assert 1 not in engine.refused


def test_a_token_that_does_not_exist_is_refused() -> None:
    engine = Engine()

    engine.start(start(1, [49_151]))
    engine.start(start(2, [49_152]))

    assert list(engine.refused) == [2]
    assert engine.refused[2].code == "request.invalid"


def test_a_session_replayed_at_its_end_is_over_at_once() -> None:
    engine = Engine()

    engine.start(start(committed=range(40), max_new=40))

    assert engine.finished[1] == Finished(1, FinishReason.LENGTH, 0)
    assert isinstance(engine.step(), Idle)


def test_a_row_without_a_logit_ends_its_session_alone() -> None:
    target = FakeTarget(FakeSettings(slots=64 * TILE, context=1024))
    engine = Engine(BlindTarget(target, len(PROMPT) + 9))
    engine.start(start(1))
    engine.start(start(2, PROMPT[:-30], max_new=20))
    engine.run()

    assert engine.finished[1].reason is FinishReason.ERROR
    assert engine.texts[1] == continuation(PROMPT, KEY, Sampling(), 40)[:10]
    assert engine.finished[2].reason is FinishReason.LENGTH


def test_a_cancelled_session_frees_its_slots_and_says_nothing_more() -> None:
    engine = Engine()
    engine.start(start(1))
    engine.start(start(2, PROMPT[1:]))
    engine.step()
    engine.start(start(3, PROMPT[2:]))

    engine.scheduler.cancel(1)
    engine.scheduler.cancel(3)
    engine.scheduler.cancel(99)
    engine.run()

    assert list(engine.finished) == [2]
    assert engine.scheduler.gauge(0).slots_held == 0


def test_a_session_started_again_takes_the_place_of_the_old() -> None:
    engine = Engine()
    engine.start(start(1))
    engine.step()
    engine.texts[1] = []
    engine.start(start(1, PROMPT[3:]))
    engine.run()

    assert engine.texts[1] == continuation(PROMPT[3:], KEY, Sampling(), 40)


def test_log_probabilities_come_one_for_each_token() -> None:
    _, engine = generate([Drafter(1, oracle)], start(sampling=Sampling(logprobs=2)))

    assert [len(commit.logprobs) for commit in engine.commits] == [
        len(commit.tokens) for commit in engine.commits
    ]
    assert all(len(one.top) == 2 for commit in engine.commits for one in commit.logprobs)
    _, engine = generate([Drafter(1, oracle)], start())
    assert all(commit.logprobs == () for commit in engine.commits)


def test_prompts_do_not_starve_behind_many_rows() -> None:
    engine = Engine()
    busy = [start(n, [n * 100 + at for at in range(30)], max_new=400) for n in range(1, 5)]
    drafters = {message.session: Drafter(1, comb) for message in busy}
    wholes = {m.session: continuation(m.prompt, KEY, Sampling(), 500) for m in busy}
    for message in busy:
        engine.start(message)
    for step in range(30):
        for message in busy:
            drafter = drafters[message.session]
            text = engine.texts[message.session]
            drafter.draft(message.session, message.prompt, text, wholes[message.session])
            for block in drafter.sent():
                engine.guess(block)
        if step == 10:
            engine.start(start(9, range(5000, 5128), max_new=5))
        engine.step()

    assert engine.texts[9] == continuation(range(5000, 5128), KEY, Sampling(), 5)


def test_the_gauge_counts_rows_and_accepted_guesses() -> None:
    _, engine = generate([Drafter(1, oracle)], start(max_new=27))

    gauge = engine.scheduler.gauge(123)
    assert gauge.rss_bytes == 123
    assert gauge.steps == 3
    assert gauge.rows_prompt == len(PROMPT)
    assert gauge.rows_target == 2
    assert gauge.accepted == 24
    assert gauge.accepted_by_depth[:13] == (*[2] * 12, 0)
    assert gauge.running == gauge.waiting == 0
    assert gauge.step_seconds == ()  # three steps are too few of any size


@pytest.mark.slow
def test_the_scheduler_takes_a_small_part_of_a_step_of_16_sessions_with_13_rows() -> None:
    engine = Engine(FakeTarget(FakeSettings(slots=256 * TILE, context=1024)), max_rows=512)
    messages = [start(n, [n * 200 + at for at in range(120)], max_new=400) for n in range(1, 17)]
    drafters = {message.session: Drafter(1, hidden_truth) for message in messages}
    wholes = {m.session: continuation(m.prompt, KEY, Sampling(), 500) for m in messages}
    for message in messages:
        engine.start(message)
    while any(not text for text in engine.texts.values()):
        engine.step()
    seconds, rows = [], []
    for _ in range(30):
        for message in messages:
            drafter, text = drafters[message.session], engine.texts[message.session]
            drafter.draft(message.session, message.prompt, text, wholes[message.session])
            for block in drafter.sent():
                engine.guess(block)
        begun = time.perf_counter()
        planned = engine.scheduler.plan(engine.now)
        spent = time.perf_counter() - begun
        assert isinstance(planned, Step)
        engine.target.settle(planned.copies.source, planned.copies.destination)
        chosen = engine.target.forward(planned.rows)
        engine.now += STEP_SECONDS
        begun = time.perf_counter()
        outcome = engine.scheduler.apply(chosen, STEP_SECONDS, engine.now)
        seconds.append(spent + time.perf_counter() - begun)
        rows.append(len(planned.rows.token))
        engine._hear(outcome.said)
        engine.target.settle(outcome.copies.source, outcome.copies.destination)

    # 2-3.5 ms on two busy cores; four times that where coverage traces every line.
    assert min(spent for spent, count in zip(seconds, rows, strict=True) if count >= 200) < 0.02


def budgets(engine: Engine) -> dict[int, int]:
    return {one.session: one.rows for one in engine.scheduler.gauge(0).budgets}


def test_a_new_session_asks_for_eight_guesses() -> None:
    engine = Engine()
    engine.start(start(1))
    assert budgets(engine) == {1: 8}

    engine.step()
    engine.start(start(2, PROMPT[3:]))

    assert budgets(engine)[2] == 8


def test_a_session_whose_drafts_bring_nothing_lets_its_nodes_rest_and_says_so_at_once() -> None:
    engine = Engine()
    engine.start(start(1, max_new=400))
    whole = continuation(PROMPT, KEY, Sampling(), 400)
    news = []
    for number in range(1, 120):
        liar = Drafter(number, anti_oracle)  # a new one each step: nothing is known of it
        liar.draft(1, PROMPT, engine.texts[1], whole)
        for block in liar.sent():
            engine.guess(block)
        while isinstance(engine.step(), Hold):
            pass
        engine.scheduler.leave(Leave(0, number))
        if engine.scheduler.has_news:
            news.append(budgets(engine)[1])
            assert not engine.scheduler.has_news

    assert news[0] == 0
    assert news[1] > 0


def test_drafts_that_would_need_a_tile_that_is_not_there_have_no_rows() -> None:
    # Two tiles of the pool for each session; both stand at the last position of their second.
    engine = Engine(FakeTarget(FakeSettings(slots=6 * TILE, context=1024)))
    for session in (1, 2):
        prompt = [session * 100 + at for at in range(60)]
        engine.start(start(session, prompt, max_new=100))
    while any(len(text) < 66 for text in engine.texts.values()):
        engine.step()

    for session in (1, 2):
        prompt = [session * 100 + at for at in range(60)]
        whole = continuation(prompt, KEY, Sampling(), 100)
        drafter = Drafter(1, oracle)
        drafter.draft(session, prompt, engine.texts[session], whole)
        for block in drafter.sent():
            engine.guess(block)
    engine.step()

    assert [commit.drafted for commit in engine.commits[-2:]] == [0, 0]
    engine.run()
    assert engine.texts[2] == continuation([200 + at for at in range(60)], KEY, Sampling(), 100)


def test_a_token_that_had_no_row_is_the_targets_though_a_drafter_had_it() -> None:
    engine = Engine()
    whole = continuation(PROMPT, KEY, Sampling(), 40)
    engine.start(start())
    engine.step()
    chain = tuple(whole[1:21])
    engine.guess(Guesses(1, 1, len(PROMPT) + 1, 1, tuple(range(20)), chain, b"\xff" * 20))
    engine.step()

    commit = engine.commits[-1]
    assert commit.drafted == 16
    assert commit.sources == (*[1] * 16, 0)
    assert [(one.tip, one.credited) for one in commit.credits] == [(17, 17)]


def test_a_session_that_comes_in_ends_a_hold() -> None:
    engine = Engine()
    cached = tuple(range(300, 500))
    engine.start(start(9, cached, max_new=5))
    engine.run()
    engine.start(start(1, max_new=200))
    whole = continuation(PROMPT, KEY, Sampling(), 200)
    drafter = Drafter(1, lambda text, ahead: [*oracle(text, ahead[:2]), (2, 7)])
    for _ in range(25):  # a drafter that is right two times in three
        drafter.draft(1, PROMPT, engine.texts[1], whole)
        for block in drafter.sent():
            engine.guess(block)
        if is_holding := isinstance(engine.scheduler.plan(engine.now), Hold):
            break
        engine.step()
    assert is_holding

    engine.start(start(2, cached, max_new=5))  # all of it is cached: it has a root at once
    assert isinstance(engine.step(), Step)
    engine.run()

    assert engine.texts[2] == engine.texts[9]


def test_a_hold_whose_session_is_cancelled_is_over() -> None:
    engine = Engine()
    engine.start(start(1, max_new=200))
    whole = continuation(PROMPT, KEY, Sampling(), 200)
    drafter = Drafter(1, lambda text, ahead: [*oracle(text, ahead[:2]), (2, 7)])
    for _ in range(25):
        drafter.draft(1, PROMPT, engine.texts[1], whole)
        for block in drafter.sent():
            engine.guess(block)
        if is_holding := isinstance(engine.scheduler.plan(engine.now), Hold):
            break
        engine.step()
    assert is_holding

    engine.scheduler.cancel(1)
    assert isinstance(engine.scheduler.plan(engine.now), Idle)
    engine.now += 1000.0
    engine.start(start(2, max_new=5))
    engine.run()

    assert engine.scheduler.gauge(0).hold_seconds < 100.0


REFRAIN = [1000 + at * at % 97 for at in range(20)] * 20


def typed(text: Sequence[int], is_drafted: bool = True, drafter: Drafter | None = None) -> Engine:
    """Have the first 40 tokens of a text gone on with, by an engine that drafts by itself."""
    engine = Engine(TypistTarget(text), has_ngram=True)
    engine.start(start(1, text[:40], max_new=len(text) - 40, is_drafted=is_drafted))
    while 1 not in engine.finished:
        if drafter is not None:
            drafter.draft(1, text[:40], engine.texts[1], list(text[40:]))
            for block in drafter.sent():
                engine.guess(block)
        assert not isinstance(engine.step(), Idle)
    return engine


def test_a_text_that_repeats_is_committed_in_fewer_steps_and_stays_the_same() -> None:
    engine = typed(REFRAIN)

    assert engine.texts[1] == REFRAIN[40:]
    assert engine.steps < len(REFRAIN) / 4
    assert engine.scheduler.gauge(0).holds == 0
    assert {source for commit in engine.commits for source in commit.sources} == {0, HOST}


def test_what_must_not_be_drafted_has_no_row_but_its_root() -> None:
    engine = typed(REFRAIN, is_drafted=False)

    assert engine.texts[1] == REFRAIN[40:]
    assert engine.steps == len(REFRAIN) - 40
    assert all(commit.drafted == 0 for commit in engine.commits)


def test_a_text_that_begins_to_repeat_and_never_does_ends_the_hosts_drafting() -> None:
    text = [token for new in range(2000, 2200) for token in (1000, 1001, 1002, new)]

    engine = typed(text)

    assert engine.texts[1] == text[40:]
    assert sum(commit.drafted for commit in engine.commits[200:]) == 0
    assert engine.scheduler.gauge(0).accepted == 0


@pytest.mark.parametrize("strategy", [oracle, anti_oracle, junk])
def test_nodes_and_the_hosts_own_drafter_share_a_tree_and_credits_go_to_nodes(
    strategy: Strategy,
) -> None:
    engine = typed(REFRAIN, drafter=Drafter(1, strategy))

    assert engine.texts[1] == REFRAIN[40:]
    assert {credit.drafter for commit in engine.commits for credit in commit.credits} <= {1}


def test_what_the_host_guesses_wrong_does_not_speak_against_its_nodes() -> None:
    text = [token for new in range(2000, 2060) for token in (1000, 1001, 1002, new)]
    wanted = []
    for has_ngram in (False, True):
        engine = Engine(TypistTarget(text), has_ngram=has_ngram)
        engine.start(start(1, text[:40], max_new=len(text) - 40, is_drafted=True))
        drafter = Drafter(1, lambda known, ahead: oracle(known, ahead[:1]))
        for _ in range(40):
            drafter.draft(1, text[:40], engine.texts[1], text[40:])
            for block in drafter.sent():
                engine.guess(block)
            engine.step()
        wanted.append(budgets(engine)[1])

    assert wanted[0] == wanted[1]


def test_a_node_that_is_there_is_waited_for_though_the_host_has_a_poor_guess() -> None:
    text = [token for new in range(2000, 2100) for token in (1000, 1001, 1002, new)]
    engine = Engine(TypistTarget(text), has_ngram=True)
    engine.start(start(1, text[:39], max_new=300, is_drafted=True))
    drafter = Drafter(1, oracle)
    for _ in range(4):
        drafter.draft(1, text[:39], engine.texts[1], text[39:])
        for block in drafter.sent():
            engine.guess(block)
        engine.step()

    planned = [engine.step() for _ in range(8)]

    assert any(isinstance(one, Hold) for one in planned)


@pytest.mark.parametrize("max_rows", [2, 8])
def test_many_requests_of_one_key_do_not_keep_another_keys_waiting(max_rows: int) -> None:
    engine = Engine(max_rows=max_rows)
    for session in range(1, 31):
        engine.start(start(session, [session, 5, 6], max_new=10, namespace=b"many"))
    for _ in range(3):
        engine.step()
    for session in (31, 32):
        engine.start(start(session, [session, 5, 6], max_new=10, namespace=b"few"))
    engine.run()

    places = list(engine.finished)
    inside = max_rows // 2
    assert places.index(31) <= inside
    assert places.index(32) <= 2 * inside + 1
    assert len(places) == 32
    assert [number for number in places if number <= 30] == list(range(1, 31))


def test_prompts_of_one_key_let_another_keys_through() -> None:
    engine = Engine()
    for session in range(1, 9):
        engine.start(start(session, [session * 900 + at for at in range(400)], namespace=b"many"))
    engine.step()

    engine.start(start(9, range(8100, 8140), max_new=5, namespace=b"few"))
    engine.run()

    assert next(iter(engine.finished)) == 9
    first = next(at for at, commit in enumerate(engine.commits) if commit.session == 9)
    assert len({commit.session for commit in engine.commits[:first]}) <= 1


def test_owners_have_as_many_sessions_inside_where_there_is_not_room_for_all() -> None:
    engine = Engine(max_rows=8)
    for at in range(40):
        name = b"a" if at < 30 else b"b"
        engine.start(start(at + 1, [at, 5], max_new=20, namespace=name))
    engine.step()
    rows = engine.rows[-1]

    keys = [session.session for session in rows.sessions]
    assert sorted(keys) == [1, 2, 31, 32]


@pytest.mark.slow
def test_where_memory_is_short_all_end_and_the_key_with_few_is_not_the_last() -> None:
    engine = Engine(FakeTarget(FakeSettings(slots=12 * TILE, context=640)))
    for session in range(1, 9):
        name = b"few" if session == 8 else b"many"
        engine.start(start(session, [session] * 100, max_new=260, namespace=name))
    engine.run(20_000)

    assert engine.scheduler.gauge(0).preemptions > 0
    assert sorted(engine.finished) == sorted(engine.admitted) == list(range(1, 9))
    assert list(engine.finished).index(8) < 4
    for session in range(1, 9):
        assert engine.texts[session] == continuation([session] * 100, KEY, Sampling(), 260)


def test_a_session_is_said_to_be_admitted_with_the_step_it_came_in_at() -> None:
    engine = Engine(max_rows=2)  # one session at a time
    engine.start(start(1, max_new=1))
    engine.start(start(2, PROMPT[1:], max_new=1))

    engine.step()
    assert engine.admitted == {1: Admitted(1, STEP_SECONDS)}

    engine.run()
    assert engine.admitted[2].seconds_ago == pytest.approx(STEP_SECONDS)


def test_the_gauge_tells_the_hosts_own_rows_from_those_of_nodes() -> None:
    alone = typed(REFRAIN).scheduler.gauge(0)
    both = typed(REFRAIN, drafter=Drafter(1, oracle)).scheduler.gauge(0)
    nodes = typed(REFRAIN, False, Drafter(1, oracle)).scheduler.gauge(0)

    assert (alone.rows_host, alone.accepted_host) == (alone.rows_draft, alone.accepted)
    assert alone.accepted_host > 0
    assert both.accepted_host < both.accepted
    assert both.rows_host - both.accepted_host <= both.rows_draft - both.accepted
    assert nodes.rows_host == nodes.accepted_host == 0


def test_time_with_sessions_inside_is_told_from_time_in_steps() -> None:
    engine = Engine()
    engine.start(start(1, max_new=20))
    engine.now = 5.0
    while 1 not in engine.finished:
        engine.step()
        engine.now += 0.01  # of the worker's own
    engine.step()
    engine.now += 7.0
    engine.start(start(2, PROMPT[1:], max_new=1))
    engine.run()

    gauge = engine.scheduler.gauge(0)
    assert gauge.steps == 21
    assert gauge.compute_seconds == pytest.approx(21 * STEP_SECONDS)
    assert gauge.busy_seconds == pytest.approx(21 * STEP_SECONDS + 19 * 0.01)
