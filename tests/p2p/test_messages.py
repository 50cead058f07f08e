"""p2p/wire/messages.py: every field of every message, at its bounds and past them.

docs/protocol.md, 1.4 and 3. The cases are made from the annotations, so a new field is tested as
soon as it is there; that the annotations are the document's is for test_protocol_document.py.
"""

from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.errors import MalformedFrame, UnknownFrame
from p2p.wire.messages import (
    PEER_CODEC,
    Block,
    Bye,
    ByeReason,
    Close,
    CloseReason,
    Closing,
    Draft,
    Feed,
)
from p2p.wire.schema import Size, Span, check, dump

KINDS: dict[int, Any] = PEER_CODEC._kinds
messages = pytest.mark.parametrize("number", KINDS, ids=[kind.__name__ for kind in KINDS.values()])


def parts(kind: Any) -> tuple[Any, Any]:
    """Return an annotation's type and bounds."""
    if get_origin(kind) is Annotated:
        return get_args(kind)[:2]
    return kind, None


def hints(kind: Any) -> list[Any]:
    found = get_type_hints(kind, include_extras=True)
    return [found[field.name] for field in fields(kind)]


def edges(kind: Any) -> tuple[Any, Any]:
    """Return the least and the greatest value, as plain arrays."""
    plain, bounds = parts(kind)
    if is_dataclass(plain):
        least, greatest = zip(*map(edges, hints(plain)), strict=True)
        return list(least), list(greatest)
    if plain is bool:
        return False, True
    if isinstance(bounds, Span):
        return bounds.low, bounds.high
    assert isinstance(bounds, Size)
    if plain is bytes:
        return bytes(bounds.low), b"\xff" * bounds.high
    if plain is str:
        return "a" * bounds.low, "é" * (bounds.high // 2)
    least, greatest = edges(get_args(plain)[0])
    return [least] * bounds.low, [greatest] * bounds.high


def wrong(kind: Any) -> list[Any]:
    """Return values that break one rule of `kind` each, as plain arrays."""
    plain, bounds = parts(kind)
    if is_dataclass(plain):
        right, _ = edges(plain)
        rows = [None, {}, 0, right[:-1], [*right, 0]]
        for place, hint in enumerate(hints(plain)):
            rows += [[*right[:place], value, *right[place + 1 :]] for value in wrong(hint)]
        return rows
    if plain is bool:
        return [0, 1, None, [], b"\1"]
    if isinstance(bounds, Span):
        past = [value for value in (bounds.low - 1, bounds.high + 1) if value < 2**64]
        return [*past, True, None, 1.0, "1", b"1", [1], {}]
    assert isinstance(bounds, Size)
    low, high = bounds.low, bounds.high
    short = [low - 1] if low else []
    if plain is bytes:
        uneven = [low + 1] if bounds.step > 1 else []
        return [
            "a" * low,
            0,
            None,
            [],
            *map(bytes, [*short, *uneven, high + 1, high + bounds.step]),
        ]
    if plain is str:
        long = ["a" * (high + 1), "é" * (high // 2 + 1)]
        return [b"a" * low, 0, None, [], *("a" * size for size in short), *long]
    item = get_args(plain)[0]
    right, _ = edges(item)
    lists = [[right] * size for size in [*short, high + 1]]
    return [None, {}, 0, b"", *lists, *([value] for value in wrong(item))]


def values(kind: Any) -> st.SearchStrategy[Any]:
    plain, bounds = parts(kind)
    if plain is Block:
        return blocks()
    if is_dataclass(plain):
        return st.builds(plain, *map(values, hints(plain)))
    if plain is bool:
        return st.booleans()
    if isinstance(bounds, Span):
        return st.integers(int(bounds.low), int(bounds.high))
    assert isinstance(bounds, Size)
    low, high, step = bounds.low, min(bounds.high, 64), bounds.step
    if plain is bytes:
        return st.binary(min_size=low, max_size=high).map(
            lambda raw: raw[: len(raw) // step * step]
        )
    if plain is str:
        return st.text(min_size=low, max_size=high // 4)
    return st.lists(values(get_args(plain)[0]), min_size=low, max_size=min(high, 4)).map(tuple)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    count = draw(st.integers(1, 5))
    u32 = st.integers(0, 2**32 - 1)
    ids = st.lists(u32, min_size=count, max_size=count).map(tuple)
    scores = st.binary(min_size=count, max_size=count)
    first = st.integers(1, 2**32 - 1)
    return Block(draw(first), draw(u32), draw(u32), draw(first), draw(ids), draw(ids), draw(scores))


def packed(number: int, items: list[Any]) -> bytes:
    body: bytes = msgpack.packb([number, *items])
    return body


@messages
@settings(max_examples=30)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(number: int, data: st.DataObject) -> None:
    message = data.draw(values(KINDS[number]))

    check(message)
    assert PEER_CODEC.unpack(PEER_CODEC.pack(message)) == message


@messages
def test_every_field_is_read_at_both_bounds(number: int) -> None:
    for items in edges(KINDS[number]):
        assert dump(PEER_CODEC.unpack(packed(number, items))) == items


@messages
def test_every_field_is_refused_past_its_bounds_and_of_another_type(number: int) -> None:
    cases = [row for row in wrong(KINDS[number]) if isinstance(row, list)]
    assert len(cases) > len(fields(KINDS[number]))
    for items in cases:
        with pytest.raises(MalformedFrame):
            PEER_CODEC.unpack(packed(number, items))


@pytest.mark.parametrize("number", [-1, 13, 14, *range(16, 32), 255, 2**64 - 1])
def test_reserved_numbers_are_unknown(number: int) -> None:
    with pytest.raises(UnknownFrame):
        PEER_CODEC.unpack(packed(number, []))


@pytest.mark.parametrize("lengths", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (64, 64, 63)])
def test_a_block_has_as_many_parents_as_tokens_and_scores(lengths: tuple[int, int, int]) -> None:
    parents, tokens, scores = lengths
    items = [1, 0, 0, 1, [0] * parents, [0] * tokens, bytes(scores)]

    with pytest.raises(MalformedFrame, match="differ in length"):
        PEER_CODEC.unpack(packed(3, [[items]]))
    with pytest.raises(MalformedFrame, match="differ in length"):
        Block(1, 0, 0, 1, (0,) * parents, (0,) * tokens, bytes(scores))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_token_bytes_are_whole_tokens(count: int) -> None:
    with pytest.raises(MalformedFrame, match="tokens"):
        PEER_CODEC.unpack(PEER_CODEC.pack(Feed(1, 0, bytes(count), True)))


def test_the_longest_frame_of_tokens_is_read_and_no_longer_one() -> None:
    full = Feed(1, 0, bytes(16_384), True)
    assert PEER_CODEC.unpack(PEER_CODEC.pack(full)) == full
    with pytest.raises(MalformedFrame):
        PEER_CODEC.unpack(PEER_CODEC.pack(Feed(1, 0, bytes(16_388), True)))


def test_an_array_of_more_than_4096_items_is_not_even_made() -> None:
    with pytest.raises(MalformedFrame, match="within the limits"):
        PEER_CODEC.unpack(packed(10, [[0] * 4097]))


def test_an_unknown_reason_is_shown_as_a_number() -> None:
    """Rule 3.2."""
    close, bye = Close((Closing(1, 99),)), Bye(99, 0)

    assert PEER_CODEC.unpack(PEER_CODEC.pack(close)) == close
    assert PEER_CODEC.unpack(PEER_CODEC.pack(bye)) == bye
    assert PEER_CODEC.pack(Bye(ByeReason.MOVING, 1)) == PEER_CODEC.pack(Bye(3, 1))
    assert PEER_CODEC.pack(Close((Closing(1, CloseReason.DESYNC),))) == packed(8, [[[1, 7]]])


def test_a_frame_holds_64_blocks_of_a_usual_size() -> None:
    block = Block(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**31, (2**31,) * 64, (49_151,) * 64, bytes(64))

    assert len(PEER_CODEC.pack(Draft((block,) * 64))) < 65_536
