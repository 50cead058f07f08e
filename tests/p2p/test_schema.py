"""p2p/wire/schema.py: dataclasses to bounded arrays and back (docs/protocol.md, 1.4)."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import MalformedFrame, UnknownFrame
from p2p.wire.schema import (
    I64,
    U8,
    Codec,
    Digest,
    Real,
    Size,
    Span,
    Text,
    check,
    dump,
    load,
    packb,
    unpackb,
)


class Colour(IntEnum):
    RED = 1
    BLUE = 4


@dataclass(frozen=True, slots=True)
class Point:
    x: I64
    y: U8


@dataclass(frozen=True, slots=True)
class Everything:
    number: Annotated[int, Span(-3, 7)]
    real: Annotated[float, Span(-1, 1)]
    is_set: bool
    text: Annotated[str, Size(1, 4)]
    raw: Annotated[bytes, Size(0, 8, 4)]
    colour: Colour
    maybe: Point | None
    points: Annotated[tuple[Point, ...], Size(0, 2)]
    pairs: Annotated[tuple[tuple[U8, Text], ...], Size(0, 2)]
    numbers: Annotated[tuple[U8, ...], Size(1, 3)]


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


CODEC = Codec({0: Nothing, 7: Everything})
points = st.builds(Point, st.integers(-(2**63), 2**63 - 1), st.integers(0, 255))
everything = st.builds(
    Everything,
    number=st.integers(-3, 7),
    real=st.floats(-1, 1),
    is_set=st.booleans(),
    text=st.text(min_size=1, max_size=4).filter(lambda text: len(text.encode()) <= 4),
    raw=st.sampled_from([b"", b"1234", b"12345678"]),
    colour=st.sampled_from(Colour),
    maybe=st.none() | points,
    points=st.lists(points, max_size=2).map(tuple),
    pairs=st.lists(st.tuples(st.integers(0, 255), st.text(max_size=9)), max_size=2).map(tuple),
    numbers=st.lists(st.integers(0, 255), min_size=1, max_size=3).map(tuple),
)
PLAIN = Everything(1, 0.5, True, "ab", b"abcd", Colour.BLUE, Point(1, 2), (), ((1, "a"),), (9,))
FIELDS = list(Everything.__dataclass_fields__)


def with_field(name: str, value: Any) -> bytes:
    items = dump(PLAIN)
    items[FIELDS.index(name)] = value
    return packb([7, *items])


@given(everything)
def test_a_message_comes_back_as_it_was(message: Everything) -> None:
    check(message)
    assert CODEC.unpack(CODEC.pack(message)) == message


def test_a_message_is_an_array_of_its_number_and_its_fields_in_order() -> None:
    assert msgpack.unpackb(CODEC.pack(PLAIN)) == [
        7, 1, 0.5, True, "ab", b"abcd", 4, [1, 2], [], [[1, "a"]], [9],
    ]  # fmt: skip
    assert CODEC.pack(Nothing()) == b"\x91\x00"
    assert CODEC.unpack(b"\x91\x00") == Nothing()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", -3), ("number", 7), ("real", -1.0), ("real", 1), ("text", "éé"), ("raw", b""),
        ("raw", bytes(8)), ("maybe", None), ("points", [[0, 0], [0, 0]]), ("numbers", [1, 2, 3]),
    ],
)  # fmt: skip
def test_a_field_at_its_bound_is_read(name: str, value: object) -> None:
    CODEC.unpack(with_field(name, value))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("number", -4, "Everything.number: expected int from -3 to 7"),
        ("number", 8, "expected int"),
        ("number", True, "expected int"),
        ("number", 1.0, "expected int"),
        ("number", None, "expected int"),
        ("real", 1.0000001, "expected float from -1 to 1"),
        ("real", math.nan, "expected float"),
        ("real", True, "expected float"),
        ("is_set", 1, "expected bool, found int"),
        ("text", "", "expected 1 to 4 bytes, found 0"),
        ("text", "ééé", "expected 1 to 4 bytes, found 6"),
        ("text", b"ab", "expected str, found bytes"),
        ("raw", b"123", "expected 0 to 8 bytes, found 3"),
        ("raw", bytes(12), "found 12"),
        ("raw", "abcd", "expected bytes, found str"),
        ("colour", 2, r"expected one of \[1, 4\]"),
        ("colour", True, "expected one of"),
        ("colour", [1], "expected one of"),
        ("maybe", [1], "Everything.maybe: expected an array of 2 items"),
        ("maybe", [1, 256], "Point.y: expected int from 0 to 255"),
        ("points", [[0, 0]] * 3, "expected an array of 0 to 2 items"),
        ("points", {}, "expected an array"),
        ("pairs", [[1]], "expected an array of 2 items"),
        ("pairs", [["a", 1]], "array.0: expected int"),
        ("numbers", [], "expected an array of 1 to 3 items"),
    ],
)
def test_a_field_past_its_bound_or_of_another_type_is_named(
    name: str, value: object, words: str
) -> None:
    with pytest.raises(MalformedFrame, match=words):
        CODEC.unpack(with_field(name, value))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",  # never used by msgpack
        b"\x92\x07",  # an item is missing
        b"\x91\x00\x00",  # a byte too many
        b"\x90",
        b"\x91\xc3",  # True is no number
        b"\x91\xa10",
        b"\x80",
        b"\x00",
        b"\xc0",
        packb([0, 1]),  # arity
        packb([7, *dump(PLAIN)[:-1]]),
        packb([7, *dump(PLAIN), 0]),
        packb([7, {1: 2}]),
        packb([0, msgpack.ExtType(5, b"1")]),
        packb([0, msgpack.Timestamp(1)]),
        b"\x92\x00\xa1\xff",  # not UTF-8
        b"\x91" * 1_000 + b"\x00",  # nested
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",  # says 2³²-1 items, bytes, letters, pairs
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_bytes_that_are_no_message_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedFrame):
        CODEC.unpack(body)


def test_the_number_of_no_message_is_told_apart() -> None:
    with pytest.raises(UnknownFrame, match="message number 3"):
        CODEC.unpack(b"\x91\x03")


def test_arrays_and_texts_are_bounded_before_their_fields_are_looked_at() -> None:
    assert unpackb(packb([0, 0, 0]), max_items=3) == [0, 0, 0]
    assert unpackb(packb([b"abc", "abc"]), max_bytes=3) == [b"abc", "abc"]
    for items in ([0] * 4, [b"abcd"], ["abcd"]):
        with pytest.raises(MalformedFrame, match="within the limits"):
            unpackb(packb(items), max_items=3, max_bytes=3)


@pytest.mark.parametrize(
    "item", [{1: 2}, {"a": []}, msgpack.ExtType(5, b"1"), msgpack.Timestamp(1)]
)
def test_maps_and_ext_types_are_not_even_made(item: object) -> None:
    with pytest.raises(MalformedFrame, match="within the limits"):
        unpackb(packb([item]))


def test_any_encoding_of_the_same_value_is_read() -> None:
    assert CODEC.unpack(b"\xdd\0\0\0\1\xcf" + bytes(8)) == Nothing()


def test_a_sender_can_check_its_own_message() -> None:
    check(Point(0, 255))
    with pytest.raises(MalformedFrame, match=r"Point\.y"):
        check(Point(0, 256))


@pytest.mark.parametrize(
    "kind",
    [int, bytes, str, float, dict[str, int], tuple[int, ...], Annotated[int, Size(0, 1)], object],
)
def test_a_field_without_bounds_is_the_programmers_error(kind: Any) -> None:
    @dataclass(frozen=True)
    class Loose:
        field: kind

    with pytest.raises(TypeError):
        load(Loose, [0])


@given(st.floats(allow_nan=False))
def test_a_real_is_any_number_but_nan(value: float) -> None:
    @dataclass(frozen=True)
    class Measured:
        value: Real
        digest: Digest

    assert load(Measured, [value, bytes(32)]).value == value
    with pytest.raises(MalformedFrame):
        load(Measured, [math.nan, bytes(32)])
