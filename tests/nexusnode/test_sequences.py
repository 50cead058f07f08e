"""Streams of an engine: what they hold after cuts; on the twin and on llama.cpp the same tests.

Same chunks give the same bits; other chunks may differ by half a logit.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import nexusnode.models
from nexusnode.draft.drafter import Drafter
from nexusnode.draft.engine import BadBatch, CacheFull, DraftEngine, Logits
from nexusnode.draft.fake import FakeEngine
from nexusnode.draft.llama import open_llama
from nexusnode.draft.messages import Close, Commit, Open
from nexusnode.draft.sequences import Piece, Sequences
from p2p.wire.messages import Sampler

BUNDLED = Path(nexusnode.models.__path__[0]) / "bundled" / "smollm2-draft-50m-q4_0.gguf"
CONTEXT = 512
TIE = 0.6  # logits between two tokens that another chunking may swap


@pytest.fixture(scope="module")
def llama() -> Iterator[DraftEngine]:
    engine = open_llama(str(BUNDLED), sessions=4, context=CONTEXT, threads=1)
    yield engine
    engine.close()


@pytest.fixture(params=["fake", pytest.param("llama", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> Iterator[DraftEngine]:
    if request.param == "fake":
        yield FakeEngine(context=CONTEXT)
        return
    engine: DraftEngine = request.getfixturevalue("llama")
    yield engine
    for stream in range(engine.limits.streams):
        engine.cut(stream, 0)


def text(seed: int, length: int, vocabulary: int = 500) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(5, vocabulary, length)]


def append(sequences: Sequences, stream: int, chunks: Sequence[Sequence[int]]) -> Logits:
    """Return a copy of the logits after the last token."""
    for chunk in chunks:
        (logits,) = sequences.decode([Piece(stream, chunk, 1)])
    return logits[0].copy()


def greedy(sequences: Sequences, stream: int, logits: Logits, count: int) -> list[int]:
    tokens = []
    for _ in range(count):
        tokens.append(int(logits.argmax()))
        logits = append(sequences, stream, [tokens[-1:]])
    return tokens


def test_cutting_and_going_on_is_bit_equal_to_having_gone_there_at_once(
    engine: DraftEngine,
) -> None:
    sequences = Sequences(engine)
    wandering, straight = sequences.take(), sequences.take()
    prompt, tail = text(1, 40), text(2, 9)

    append(sequences, wandering, [prompt, text(3, 5), text(4, 1)])
    sequences.cut(wandering, 40)
    append(sequences, wandering, [tail[:4], text(5, 3)])
    sequences.cut(wandering, 44)
    again = append(sequences, wandering, [tail[4:]])
    fresh = append(sequences, straight, [prompt, tail[:4], tail[4:]])

    assert sequences.length(wandering) == sequences.length(straight) == 49
    assert np.array_equal(again, fresh)


def test_several_sessions_in_one_decode_say_what_each_says_alone(engine: DraftEngine) -> None:
    sequences = Sequences(engine)
    prompts = [text(seed, length) for seed, length in ((1, 7), (2, 30), (3, 33), (4, 64))]
    alone = []
    for prompt in prompts:
        stream = sequences.take()
        alone.append(greedy(sequences, stream, append(sequences, stream, [prompt]), 16))
        sequences.release(stream)

    streams = [sequences.take() for _ in prompts]
    last = [append(sequences, s, [p]) for s, p in zip(streams, prompts, strict=True)]
    together: list[list[int]] = [[] for _ in prompts]
    for _ in range(16):
        for tokens, logits in zip(together, last, strict=True):
            tokens.append(int(logits.argmax()))
        pieces = [Piece(s, t[-1:], 1) for s, t in zip(streams, together, strict=True)]
        last = [logits[0].copy() for logits in sequences.decode(pieces)]

    assert together == alone


def test_a_session_is_not_touched_by_what_happens_in_another(engine: DraftEngine) -> None:
    sequences = Sequences(engine)
    mine, other = sequences.take(), sequences.take()
    prompt = text(1, 20)
    append(sequences, mine, [prompt])
    append(sequences, other, [text(2, 50)])
    sequences.cut(other, 10)
    append(sequences, other, [text(3, 30)])
    sequences.release(other)

    beside = append(sequences, mine, [text(4, 3)])

    sequences.release(mine)
    alone = append(sequences, sequences.take(), [prompt, text(4, 3)])
    assert np.array_equal(beside, alone)


def test_a_stream_that_was_released_keeps_no_trace(engine: DraftEngine) -> None:
    sequences = Sequences(engine)
    first = sequences.take()
    fresh = append(sequences, first, [text(1, 25)])
    sequences.release(first)
    dirty = sequences.take()
    append(sequences, dirty, [text(seed, 60) for seed in range(2, 7)])
    sequences.release(dirty)

    again = sequences.take()

    assert again == dirty
    assert sequences.length(again) == 0
    assert np.array_equal(append(sequences, again, [text(1, 25)]), fresh)


def test_only_the_rows_that_are_wanted_come_back_in_the_order_of_the_pieces(
    engine: DraftEngine,
) -> None:
    sequences = Sequences(engine)
    streams = [sequences.take() for _ in range(3)]
    pieces = [
        Piece(streams[0], text(1, 12), 0),
        Piece(streams[1], text(2, 5), 5),
        Piece(streams[2], text(3, 9), 1),
    ]

    found = [logits.copy() for logits in sequences.decode(pieces)]

    assert [len(logits) for logits in found] == [0, 5, 1]
    sequences.release(streams[1])
    alone = append(sequences, sequences.take(), [text(2, 5)])
    assert np.abs(found[1][-1] - alone).max() < TIE


def test_a_full_stream_is_told_and_the_others_go_on(engine: DraftEngine) -> None:
    sequences = Sequences(engine)
    full, other = sequences.take(), sequences.take()
    for _ in range(CONTEXT // 64):
        append(sequences, full, [[7] * 64])

    with pytest.raises(CacheFull):
        sequences.decode([Piece(full, [7], 1), Piece(other, [8], 1)])

    assert (sequences.length(full), sequences.length(other)) == (CONTEXT, 0)
    assert len(append(sequences, other, [[8, 9]])) == engine.limits.vocabulary


def test_what_the_engine_would_die_of_is_refused_and_nothing_is_changed(
    engine: DraftEngine,
) -> None:
    sequences = Sequences(engine)
    stream = sequences.take()
    append(sequences, stream, [text(1, 10)])
    rows, outputs = engine.limits.rows, engine.limits.outputs

    for tokens, wanted in (
        ([7] * (rows + 1), 1),
        ([7] * (outputs + 1), outputs + 1),
        ([], 0),
        ([-1], 1),
        ([engine.limits.vocabulary], 1),
    ):
        with pytest.raises(BadBatch):
            sequences.decode([Piece(stream, tokens, wanted)])
    with pytest.raises(BadBatch):
        sequences.decode([Piece(stream, [7], 1), Piece(stream, [8], 1)])

    assert sequences.length(stream) == 10
    assert len(append(sequences, stream, [[7] * outputs])) == engine.limits.vocabulary


def test_the_most_rows_and_outputs_are_possible(engine: DraftEngine) -> None:
    sequences = Sequences(engine)
    rows, outputs = engine.limits.rows, engine.limits.outputs

    (found,) = sequences.decode([Piece(sequences.take(), [7] * rows, outputs)])

    assert found.shape == (outputs, engine.limits.vocabulary)


def test_there_are_only_so_many_streams(engine: DraftEngine) -> None:
    sequences = Sequences(engine)
    streams = [sequences.take() for _ in range(engine.limits.streams)]

    assert sorted(streams) == list(range(engine.limits.streams))
    assert sequences.free == 0
    with pytest.raises(BadBatch):
        sequences.take()


@pytest.mark.parametrize("temperature", [0, 800])
def test_a_chain_kept_over_commits_is_the_chain_of_a_fresh_session(
    engine: DraftEngine, temperature: int
) -> None:
    """The chain after commits on and off the path, against that of a new prefill; ties aside."""
    drafter = Drafter(engine)
    sampler = Sampler(temperature, 0, 1000, 0)
    committed = text(1, 30)

    def heads(number: int, tokens: Sequence[int]) -> tuple[list[int], float]:
        """Return the head after the text, and its lead."""
        drafter.handle(Open(number, 1, b"eightkey", sampler, 999, tuple(tokens), True, 16, 6, 1))
        return grown(number)

    def grown(number: int) -> tuple[list[int], float]:
        for _ in range(60):
            drafter.turn()
        session = drafter._sessions[number]
        return [guess.token for guess in session.path], min(
            place.candidates[1].cell.margin for place in session.places if place.candidates[1:]
        )

    chain, _ = heads(1, committed)
    ties = 0
    for step in range(6):
        tokens = [*chain[: step % 4], 11 + step] if step % 2 else chain[: 1 + step % 3]
        drafter.handle(Commit(1, len(committed), 0, tuple(tokens), 16, 6))
        committed += tokens
        chain, margin = grown(1)
        fresh, _ = heads(2, committed)
        drafter.handle(Close(2))
        if chain != fresh:
            ties += 1
            assert margin <= 4  # the bin that ends at 0.7 nats
    drafter.handle(Close(1))

    assert ties <= 2
