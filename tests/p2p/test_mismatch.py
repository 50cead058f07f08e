"""What is shown and named when two tokenizers differ."""

import pytest

from p2p.drafting.mismatch import SHOWN_BYTES, first_mismatch, shown
from p2p.wire.frame import MAX_PEER_BYTES
from p2p.wire.messages import LADDER_STEP, PEER_CODEC, Vocabulary, VocabularyEntry

ENTRIES = [(0, str(token).encode()) for token in range(3 * LADDER_STEP)]


def test_the_block_that_begins_at_an_id_is_shown() -> None:
    (frame,) = shown(ENTRIES, LADDER_STEP)

    assert frame.start == LADDER_STEP
    assert [entry.text for entry in frame.entries] == [
        text for _, text in ENTRIES[LADDER_STEP : 2 * LADDER_STEP]
    ]


def test_behind_the_last_token_nothing_is_shown() -> None:
    assert shown(ENTRIES, len(ENTRIES)) == ()


def test_long_tokens_are_cut_and_their_block_goes_in_frames_that_fit() -> None:
    entries = [(0, bytes([token % 256]) * 200) for token in range(LADDER_STEP)]
    frames = shown(entries, 0)

    assert len(frames) > 1
    assert all(len(PEER_CODEC.pack(frame)) + 64 <= MAX_PEER_BYTES for frame in frames)
    joined = [(entry.kind, entry.text) for frame in frames for entry in frame.entries]
    assert joined == [(kind, text[:SHOWN_BYTES]) for kind, text in entries]
    assert [frame.start for frame in frames[1:]] == [
        sum(len(before.entries) for before in frames[:count]) for count in range(1, len(frames))
    ]


@pytest.mark.parametrize(
    ("own", "first"),
    [
        ([(0, b"a"), (0, b"b")], None),
        ([(0, b"a"), (0, b"x")], 1),
        ([(0, b"a"), (2, b"b")], 1),
        ([(0, b"a")], 1),
        ([(0, b"z"), (0, b"b"), (0, b"c")], 0),
    ],
)
def test_the_first_token_that_differs_is_named(
    own: list[tuple[int, bytes]], first: int | None
) -> None:
    theirs = Vocabulary(0, (VocabularyEntry(0, b"a"), VocabularyEntry(0, b"b")))

    assert first_mismatch(own, theirs) == first


def test_long_tokens_are_compared_by_what_the_wire_shows() -> None:
    own = [(0, b"x" * 300)]

    assert first_mismatch(own, shown([(0, b"x" * SHOWN_BYTES + b"y")], 0)[0]) is None
