"""Sessions over one engine: what is guessed, what a commit keeps, what is never exceeded."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexusnode.draft.drafter import Drafter
from nexusnode.draft.engine import CacheFull, EngineLost, Logits, Row
from nexusnode.draft.fake import FakeEngine
from nexusnode.draft.frontier import CHAIN_FLOOR
from nexusnode.draft.messages import (
    Bin,
    Budget,
    Calibration,
    Close,
    Closed,
    Commit,
    Feed,
    Grown,
    Growth,
    Host,
    Open,
    Refused,
)
from p2p.wire.messages import MAX_LIVE, CloseReason, Sampler
from p2p.wire.schema import check

PROMPT = tuple(range(10, 30))


def opened(session: int = 1, tokens: Sequence[int] = PROMPT, **changes: object) -> Open:
    fields: dict[str, object] = {
        "session": session,
        "host": 1,
        "key": b"eightkey",
        "sampler": Sampler(0, 0, 1000, 0),
        "max_new": 1000,
        "tokens": tuple(tokens),
        "last": True,
        "rows": 32,
        "ahead": 8,
        "next_id": 1,
    }
    return Open(**{**fields, **changes})  # type: ignore[arg-type]


def settle(drafter: Drafter) -> list[Growth]:
    """Run turns until nothing is left to do; return all guesses."""
    growths: list[Growth] = []
    for _ in range(500):
        decodes = drafter.counts.decodes
        said = drafter.turn()
        for message in said:
            assert isinstance(message, Grown)
            check(message)
            growths += message.growths
        if not said and drafter.counts.decodes == decodes:
            return growths
    raise AssertionError("the drafter never comes to rest")


class Seen:
    """A host's picture of one session's guesses."""

    def __init__(self, prompt: Sequence[int], next_id: int = 1) -> None:
        self.text = list(prompt)
        self.next_id = next_id
        self.parents: dict[int, int] = {}
        self.tokens: dict[int, int] = {}
        self.root = 0

    def take(self, growths: Sequence[Growth]) -> None:
        for growth in growths:
            assert growth.pos == len(self.text)
            assert growth.first == self.next_id
            for parent, token in zip(growth.parents, growth.tokens, strict=True):
                assert parent == 0 or parent in self.tokens
                self.parents[self.next_id] = parent
                self.tokens[self.next_id] = token
                self.next_id += 1

    def children(self, parent: int) -> dict[int, int]:
        """Return token → id of the guesses below `parent`; 0 is the text."""
        roots = (0, self.root) if parent == 0 else (parent,)
        return {self.tokens[i]: i for i, p in self.parents.items() if p in roots}

    def commit(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            found = self.children(0).get(token)
            self.text.append(token)
            alive = set() if found is None else self._below(found)
            self.parents = {i: p for i, p in self.parents.items() if i in alive}
            self.root = found or 0

    def chain(self) -> list[int]:
        """Return the longest chain's tokens."""
        chain, parent = [], 0
        while children := self.children(parent):
            token, parent = max(children.items(), key=lambda item: len(self._below(item[1])))
            chain.append(token)
        return chain

    def _below(self, root: int) -> set[int]:
        found = {root}
        for i, parent in sorted(self.parents.items()):
            if parent in found:
                found.add(i)
        return found - {root}


def truth(engine: FakeEngine, text: Sequence[int], count: int) -> list[int]:
    text = list(text)
    for _ in range(count):
        text.append(engine.truth(text))
    return text[-count:]


def test_a_session_gets_a_chain_of_the_drafts_best_tokens_and_leaves_beside_it() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    seen = Seen(PROMPT)

    assert drafter.handle(opened()) == []
    seen.take(settle(drafter))

    assert seen.chain() == truth(engine, PROMPT, 8)
    assert len(seen.tokens) > 8
    assert drafter.counts.drafted == len(seen.tokens)


def test_leaves_are_never_decoded() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)

    drafter.handle(opened())
    settle(drafter)

    assert engine.texts[0] == [*PROMPT, *truth(engine, PROMPT, 7)]
    assert engine.rows == len(PROMPT) + 7


def test_a_commit_along_the_chain_decodes_nothing_again() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    seen = Seen(PROMPT)
    drafter.handle(opened())
    seen.take(settle(drafter))
    answer = truth(engine, PROMPT, 30)

    for start in range(0, 30, 3):
        assert (
            drafter.handle(Commit(1, 20 + start, 0, tuple(answer[start : start + 3]), 32, 8)) == []
        )
        seen.commit(answer[start : start + 3])
        seen.take(settle(drafter))

    assert engine.rows == len(PROMPT) + 30 + 7
    assert seen.chain() == truth(engine, seen.text, 8)
    assert drafter.counts.hits == 30


def test_known_guesses_below_a_commit_are_said_before_anything_is_decoded() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    likely = tuple(
        Bin(rank, margin, 0, 0, 1e4, 2e3) for rank in range(1, 4) for margin in range(16)
    )
    drafter.handle(Host(1, 1.0, likely))
    drafter.handle(opened(rows=2, ahead=64))
    growths = settle(drafter)
    decodes = engine.decodes

    drafter.handle(Commit(1, 20, 0, (growths[0].tokens[0],), 2, 64))
    said = drafter.turn()

    assert isinstance(said[0], Grown)
    assert engine.decodes == decodes


def test_a_commit_off_the_tree_cuts_the_chain_and_decodes_the_one_token() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    seen = Seen(PROMPT)
    drafter.handle(opened())
    seen.take(settle(drafter))
    rows = engine.rows

    drafter.handle(Commit(1, 20, 0, (500,), 32, 1))
    seen.commit([500])
    seen.take(settle(drafter))

    assert engine.texts[0] == [*PROMPT, 500]
    assert engine.rows == rows + 1
    assert seen.chain() == truth(engine, seen.text, 1)


def test_a_commit_that_leaves_the_chain_in_the_middle_keeps_what_agrees() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    seen = Seen(PROMPT)
    drafter.handle(opened())
    seen.take(settle(drafter))
    rows = engine.rows
    tokens = [*truth(engine, PROMPT, 3), 500, 501]

    drafter.handle(Commit(1, 20, 0, tuple(tokens), 32, 8))
    seen.commit(tokens)
    growths = settle(drafter)
    seen.take(growths)

    assert engine.texts[0][:25] == [*PROMPT, *tokens]
    assert engine.rows == rows + 2 + 7
    assert growths[0].parents[0] == 0
    assert seen.chain() == truth(engine, seen.text, 8)


def test_several_commits_are_all_applied_before_the_next_decode() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    drafter.handle(opened())
    settle(drafter)
    rows = engine.rows

    for number in range(4):
        drafter.handle(Commit(1, 20 + number, 0, (400 + number,), 32, 1))
    settle(drafter)

    assert engine.rows == rows + 4
    assert engine.texts[0] == [*PROMPT, 400, 401, 402, 403]


def test_ids_go_on_behind_the_last_that_the_daemon_holds() -> None:
    drafter = Drafter(FakeEngine())
    seen = Seen(PROMPT, next_id=77)

    drafter.handle(opened(next_id=77))
    seen.take(settle(drafter))

    assert min(seen.tokens) == 77


def test_a_prompt_may_come_in_parts_and_drafting_starts_after_the_last() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)

    drafter.handle(opened(tokens=PROMPT[:5], last=False))
    assert settle(drafter) == []
    drafter.handle(Feed(1, PROMPT[5:], True))
    seen = Seen(PROMPT)
    seen.take(settle(drafter))

    assert seen.chain() == truth(engine, PROMPT, 8)


def test_a_long_prompt_is_decoded_in_pieces_between_which_others_draft() -> None:
    engine = FakeEngine(context=1024)
    drafter = Drafter(engine)
    drafter.handle(opened(1, ahead=64, rows=128))
    drafter.turn()
    long = [30 + number % 400 for number in range(500)]

    drafter.handle(opened(2, long))
    grown: list[int] = []
    while len(engine.texts[1]) < len(long):
        before = len(engine.texts[1])
        for message in drafter.turn():
            assert isinstance(message, Grown)
            grown += [growth.session for growth in message.growths]
        assert len(engine.texts[1]) - before <= 64

    assert grown.count(1) >= 5
    assert drafter.counts.prompt == len(PROMPT) + len(long)


def test_a_repetition_is_decoded_in_one_piece_and_gives_the_same_chain() -> None:
    chains, decodes = [], []
    for memory in (1, None):
        engine = FakeEngine(memory=memory)
        text = [5, *truth(engine, [5], 60)]
        drafter = Drafter(engine)
        seen = Seen(text)
        drafter.handle(opened(1, text, ahead=9))
        seen.take(settle(drafter))
        assert seen.chain() == truth(engine, text, 9)
        chains.append(seen.chain())
        decodes.append(engine.decodes)

    repeating, other = decodes
    assert repeating < other == 1 + 8


def test_what_the_model_does_not_confirm_of_a_repetition_is_cut() -> None:
    engine = FakeEngine(memory=2)
    drafter = Drafter(engine)
    # The text repeats itself from 7, 8, 9 on; the model goes along for one token only.
    turning = truth(engine, [8, 9], 1)[0]
    text = [7, 8, 9, turning, 300, 301, 302, 303, 304, 305, 7, 8, 9]
    seen = Seen(text)

    drafter.handle(opened(1, text))
    seen.take(settle(drafter))

    assert seen.chain() == truth(engine, text, 8)
    assert engine.texts[0] == [*text, *truth(engine, text, 7)]
    assert engine.rows > len(text) + 7


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
def test_live_guesses_never_exceed_twice_the_rows(rows: int) -> None:
    engine = FakeEngine(agreement=0.5)
    drafter = Drafter(engine)
    seen = Seen(PROMPT)
    drafter.handle(opened(rows=rows, ahead=64))

    for token in truth(engine, PROMPT, 12):
        seen.take(settle(drafter))
        assert 1 <= len(seen.parents) <= 2 * rows
        drafter.handle(Commit(1, len(seen.text), 0, (token,), rows, 64))
        seen.commit([token])


@pytest.mark.parametrize("ahead", [0, 1, 3, 8])
def test_guesses_end_at_ahead_tokens_beyond_the_last_commit(ahead: int) -> None:
    drafter = Drafter(FakeEngine())
    seen = Seen(PROMPT)

    drafter.handle(opened(ahead=ahead))
    seen.take(settle(drafter))

    assert len(seen.chain()) == ahead


def test_guesses_end_where_the_answer_must() -> None:
    drafter = Drafter(FakeEngine())
    seen = Seen(PROMPT)

    drafter.handle(opened(max_new=3))
    seen.take(settle(drafter))

    assert len(seen.chain()) == 3


def test_guesses_end_behind_an_end_of_text() -> None:
    engine = FakeEngine()
    end = truth(engine, PROMPT, 3)[-1]
    engine.limits = replace(engine.limits, ends=frozenset({end}))
    drafter = Drafter(engine)
    seen = Seen(PROMPT)

    drafter.handle(opened())
    seen.take(settle(drafter))

    assert seen.chain() == truth(engine, PROMPT, 3)


def test_nothing_is_decoded_that_the_budget_leaves_no_guesses_for() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)

    drafter.handle(opened(rows=1, ahead=64))
    settle(drafter)

    assert engine.decodes == 1


def test_what_was_learnt_under_a_number_ends_with_the_stream() -> None:
    drafter = Drafter(FakeEngine())
    drafter.handle(Host(1, 1.0, (Bin(0, 3, 0, 0, 9.0, 4.0), Bin(0, 5, 0, 0, 9.0, 4.0))))
    drafter.handle(Host(1, 1.0, (Bin(0, 3, 0, 0, 20.0, 10.0),)))
    drafter.handle(opened(ahead=64))
    settle(drafter)

    drafter.handle(Commit(1, 20, 0, (500,), 0, 64))

    (learnt,) = drafter.learnt()
    assert isinstance(learnt, Calibration)
    assert not [cell for cell in learnt.table if cell.margin == 5 and cell.hits > 3]


def test_a_chain_ends_when_it_has_become_unlikely() -> None:
    engine = FakeEngine()
    low = tuple(Bin(0, margin, 0, 0, 1000.0, 500.0) for margin in range(16))
    drafter = Drafter(engine)
    seen = Seen(PROMPT)
    drafter.handle(Host(1, 1.0, low))

    drafter.handle(opened(ahead=64))
    seen.take(settle(drafter))

    assert 0.5 ** len(seen.chain()) >= CHAIN_FLOOR > 0.5 ** (len(seen.chain()) + 2)


def test_budget_zero_sleeps_and_commits_only_append() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    drafter.handle(opened())
    settle(drafter)
    decodes = engine.decodes

    drafter.handle(Budget(1, 0, 8))
    drafter.handle(Commit(1, 20, 0, (500, 501), 0, 8))

    assert drafter.is_asleep
    assert settle(drafter) == []
    assert engine.decodes == decodes

    drafter.handle(Budget(1, 32, 8))
    seen = Seen([*PROMPT, 500, 501])
    seen.next_id = drafter.counts.drafted + 1
    seen.take(settle(drafter))

    assert not drafter.is_asleep
    assert seen.chain() == truth(engine, seen.text, 8)


def test_a_session_too_many_is_refused_as_busy_and_a_closed_one_makes_room() -> None:
    drafter = Drafter(FakeEngine(streams=2))

    assert drafter.handle(opened(1)) == []
    assert drafter.handle(opened(2)) == []
    assert drafter.handle(opened(3)) == [Refused(3, CloseReason.DECLINED_BUSY)]
    drafter.handle(Close(1))
    assert drafter.handle(opened(3)) == []
    assert drafter.sessions == 2


def test_the_same_number_opened_again_starts_anew() -> None:
    engine = FakeEngine(streams=1)
    drafter = Drafter(engine)
    drafter.handle(opened())
    settle(drafter)

    assert drafter.handle(opened(tokens=[5, 6, 7])) == []
    seen = Seen([5, 6, 7])
    seen.take(settle(drafter))

    assert seen.chain() == truth(engine, [5, 6, 7], 8)


@pytest.mark.parametrize(("length", "is_refused"), [(63, False), (64, True)])
def test_a_prompt_that_leaves_no_room_is_refused(length: int, is_refused: bool) -> None:
    drafter = Drafter(FakeEngine(context=64))

    said = drafter.handle(opened(tokens=[5] * length))

    assert said == ([Refused(1, CloseReason.DECLINED_CONTEXT)] if is_refused else [])
    assert drafter.sessions == (not is_refused)


def test_a_prompt_grown_too_long_by_feeding_is_refused() -> None:
    drafter = Drafter(FakeEngine(context=64))
    drafter.handle(opened(tokens=[5] * 40, last=False))

    assert drafter.handle(Feed(1, (5,) * 24, True)) == [Refused(1, CloseReason.DECLINED_CONTEXT)]


@pytest.mark.parametrize("tokens", [(), (512,), (2**32 - 1,)])
def test_a_prompt_that_cannot_be_is_refused(tokens: tuple[int, ...]) -> None:
    drafter = Drafter(FakeEngine())

    assert drafter.handle(opened(tokens=tokens)) == [Refused(1, CloseReason.ERROR)]
    assert drafter.sessions == 0


@pytest.mark.parametrize("pos", [0, 19, 21])
def test_a_commit_elsewhere_than_at_the_end_closes_the_session_as_a_gap(pos: int) -> None:
    drafter = Drafter(FakeEngine())
    drafter.handle(opened())

    assert drafter.handle(Commit(1, pos, 0, (5,), 8, 8)) == [Closed(1, "gap")]
    assert drafter.sessions == 0


def test_a_commit_before_the_prompt_is_complete_is_a_gap() -> None:
    drafter = Drafter(FakeEngine())
    drafter.handle(opened(last=False))

    assert drafter.handle(Commit(1, 20, 0, (5,), 8, 8)) == [Closed(1, "gap")]


def test_a_commit_of_a_token_that_does_not_exist_closes_the_session() -> None:
    drafter = Drafter(FakeEngine())
    drafter.handle(opened())

    assert drafter.handle(Commit(1, 20, 0, (512,), 8, 8)) == [Closed(1, "token")]


def test_a_text_that_outgrows_the_context_closes_its_session() -> None:
    drafter = Drafter(FakeEngine(context=32))
    drafter.handle(opened())

    assert drafter.handle(Commit(1, 20, 0, (5,) * 11, 8, 8)) == []
    assert settle(drafter)
    assert drafter.handle(Commit(1, 31, 0, (5,), 8, 8)) == [Closed(1, "context")]


def test_guesses_stay_inside_the_context() -> None:
    engine = FakeEngine(context=24)
    drafter = Drafter(engine)
    drafter.handle(opened(ahead=64))

    seen = Seen(PROMPT)
    seen.take(settle(drafter))

    assert len(seen.chain()) == 4


@pytest.mark.parametrize(
    "message", [Feed(9, (1,), True), Commit(9, 0, 0, (1,), 1, 1), Budget(9, 1, 1), Close(9)]
)
def test_messages_for_a_session_that_is_gone_are_dropped(message: object) -> None:
    drafter = Drafter(FakeEngine())

    assert drafter.handle(message) == []


def test_sessions_do_not_hear_each_other() -> None:
    engine = FakeEngine(streams=3, agreement=0.7)
    alone = Drafter(FakeEngine(streams=3, agreement=0.7))
    together = Drafter(engine)
    texts = {1: [5, 6, 7], 2: list(range(40, 90)), 3: [9] * 12}

    for number, text in texts.items():
        together.handle(opened(number, text))
    growths = settle(together)

    for number, text in texts.items():
        seen, other = Seen(text), Seen(text)
        seen.take([growth for growth in growths if growth.session == number])
        alone.handle(opened(number, text))
        other.take(settle(alone))
        alone.handle(Close(number))
        assert seen.tokens == other.tokens


def test_the_same_key_gives_the_same_guesses_at_a_temperature() -> None:
    warm = Sampler(1000, 0, 1000, 0)
    guesses = []
    for key in (b"eightkey", b"eightkey", b"otherkey"):
        drafter = Drafter(FakeEngine())
        drafter.handle(opened(key=key, sampler=warm))
        guesses.append([growth.tokens for growth in settle(drafter)])

    assert guesses[0] == guesses[1] != guesses[2]


def test_what_commits_say_is_learnt_for_their_host_and_told_once() -> None:
    engine = FakeEngine()
    drafter = Drafter(engine)
    drafter.handle(opened())
    settle(drafter)

    drafter.handle(Commit(1, 20, 0, (500,), 8, 8))
    (learnt,) = drafter.learnt()

    assert isinstance(learnt, Calibration)
    check(learnt)
    assert learnt.host == 1
    assert next(cell for cell in learnt.table if cell.rank == 0).hits == 0
    assert drafter.learnt() == []


class FullEngine(FakeEngine):
    """Says once that there is no room, as llama.cpp may for reasons of its own."""

    is_full = True

    def decode(self, rows: Sequence[Row]) -> Logits:
        if self.is_full:
            self.is_full = False
            raise CacheFull("no room")
        return super().decode(rows)


def test_a_full_memory_closes_the_longest_session_and_the_others_go_on() -> None:
    drafter = Drafter(FullEngine())
    drafter.handle(opened(1, [5, 6, 7]))
    drafter.handle(opened(2, [5, 6, 7, 8]))

    said = drafter.turn()
    seen = Seen([5, 6, 7] if said == [Closed(2, "full")] else [5, 6, 7, 8])
    growths = settle(drafter)
    seen.take(growths)

    assert said in ([Closed(1, "full")], [Closed(2, "full")])
    assert len(seen.chain()) == 8


def test_a_lost_engine_is_told_to_the_caller() -> None:
    drafter = Drafter(FakeEngine(lost_after=1))
    drafter.handle(opened())
    drafter.turn()

    with pytest.raises(EngineLost):
        drafter.turn()


def test_logits_that_are_no_numbers_are_an_engine_lost() -> None:
    drafter = Drafter(FakeEngine(nan_after=2))
    drafter.handle(opened())

    with pytest.raises(EngineLost) as caught:
        settle(drafter)

    assert caught.value.kind == "nan"


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_whatever_is_committed_the_memory_holds_the_text(data: st.DataObject) -> None:
    engine = FakeEngine(agreement=0.6, vocabulary=40)
    drafter = Drafter(engine)
    text = [3, 4, 5]
    drafter.handle(opened(tokens=text))
    for _ in range(12):
        for _ in range(data.draw(st.integers(0, 4))):
            drafter.turn()
        right = truth(engine, text, 4)[: data.draw(st.integers(0, 4))]
        tokens = [*right, *data.draw(st.lists(st.integers(1, 39), min_size=not right, max_size=9))]
        assert drafter.handle(Commit(1, len(text), 0, tuple(tokens), 16, 8)) == []
        text += tokens
        session = drafter._sessions[1]
        held = engine.texts[0]
        path = [guess.token for guess in session.path]
        assert held == [*text, *path][: len(held)]
        assert len(held) >= len(text) - len(tokens) or not session.places

    settle(drafter)
    assert engine.texts[0][: len(text)] == text


class Daemon(RuleBasedStateMachine):
    """Any order of messages keeps ids rising, parents known, budgets and memory kept."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = FakeEngine(streams=2, context=64, agreement=0.7)
        self.drafter = Drafter(self.engine)
        self.seen: dict[int, Seen] = {}
        self.rows: dict[int, int] = {}

    def drop(self, messages: Sequence[object]) -> None:
        for message in messages:
            assert isinstance(message, Refused | Closed)
            self.seen.pop(message.session, None)

    @rule(
        number=st.integers(1, 3),
        tokens=st.lists(st.integers(1, 511), min_size=1, max_size=70),
        rows=st.integers(0, 9),
        ahead=st.integers(0, 9),
        temperature=st.sampled_from([0, 700]),
    )
    def open(self, number: int, tokens: list[int], rows: int, ahead: int, temperature: int) -> None:
        self.seen[number] = Seen(tokens)
        self.rows[number] = rows
        sampler = Sampler(temperature, 0, 1000, 0)
        said = self.drafter.handle(opened(number, tokens, rows=rows, ahead=ahead, sampler=sampler))
        self.drop(said)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), junk=st.lists(st.integers(1, 511), max_size=4), rows=st.integers(0, 9))
    def commit(self, data: st.DataObject, junk: list[int], rows: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.seen)))
        seen = self.seen[number]
        tokens = [*seen.chain()[: data.draw(st.integers(0, 5))], *junk] or [7]
        pos = len(seen.text)
        seen.commit(tokens)
        self.rows[number] = rows
        self.drop(self.drafter.handle(Commit(number, pos, 0, tuple(tokens), rows, 8)))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), rows=st.integers(0, 9), ahead=st.integers(0, 9))
    def budget(self, data: st.DataObject, rows: int, ahead: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.seen)))
        self.rows[number] = rows
        self.drop(self.drafter.handle(Budget(number, rows, ahead)))

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.seen)))
        del self.seen[number]
        self.drop(self.drafter.handle(Close(number)))

    @rule(turns=st.integers(1, 6))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            before = {number: len(seen.parents) for number, seen in self.seen.items()}
            for message in self.drafter.turn():
                assert isinstance(message, Grown)
                check(message)
                for growth in message.growths:
                    self.seen[growth.session].take([growth])
            for number, seen in self.seen.items():
                bound = max(before[number], min(2 * self.rows[number], MAX_LIVE))
                assert len(seen.parents) <= bound

    @invariant()
    def streams_are_conserved(self) -> None:
        assert self.drafter.sessions == len(self.seen)
        assert self.drafter._sequences.free == 2 - len(self.seen)
        assert sum(bool(text) for text in self.engine.texts) <= len(self.seen)


TestDaemon = Daemon.TestCase
TestDaemon.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
