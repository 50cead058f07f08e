"""Frozen dataclasses to bounded msgpack arrays and back: the only parser of bytes we did not make.

A message type is a dataclass; each field's annotation says type *and* bounds, with the markers
below: `Annotated[int, Span(0, 255)]`, `Annotated[bytes, Size(32, 32)]`,
`Annotated[tuple[int, ...], Size(1, 64)]`. Arrays only: never maps or ext types; floats only where
a field says so. Arity is exact.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack

from p2p.errors import MalformedFrame, UnknownFrame

Read = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Bounds of an int or float, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Size:
    """Bounds of a length, both included: bytes of `bytes` and of UTF-8 `str`, items of a tuple.

    `step`: a length of bytes must be a multiple of it.
    """

    low: int
    high: int
    step: int = 1


U8 = Annotated[int, Span(0, 2**8 - 1)]
U16 = Annotated[int, Span(0, 2**16 - 1)]
U32 = Annotated[int, Span(0, 2**32 - 1)]
U64 = Annotated[int, Span(0, 2**64 - 1)]
I64 = Annotated[int, Span(-(2**63), 2**63 - 1)]
Real = Annotated[float, Span(float("-inf"), float("inf"))]
Text = Annotated[str, Size(0, 128)]
Digest = Annotated[bytes, Size(32, 32)]


class Codec:
    """One link's numbered message types: message ⇄ msgpack array `[number, field, …]`.

    `max_items` bounds every array on the link, `max_bytes` every `bytes` or `str`, before a
    field's own bounds are looked at.
    """

    def __init__(
        self, kinds: Mapping[int, type], max_items: int = 1 << 18, max_bytes: int = 1 << 20
    ) -> None:
        self._kinds = dict(kinds)
        self._numbers = {kind: number for number, kind in self._kinds.items()}
        self._max_items = max_items
        self._max_bytes = max_bytes

    def pack(self, message: object) -> bytes:
        """Return the message's bytes. Bounds are the reader's to check."""
        return packb([self._numbers[type(message)], *dump(message)])

    def unpack(self, body: bytes) -> Any:
        """Return the message in `body`.

        Raises:
            MalformedFrame: not msgpack within the limits, or a field breaks its type or bounds.
            UnknownFrame: the number is none of this link's.
        """
        items = unpackb(body, self._max_items, self._max_bytes)
        if not items or type(items[0]) is not int:
            raise MalformedFrame("a message starts with its number")
        kind = self._kinds.get(items[0])
        if kind is None:
            raise UnknownFrame(f"message number {items[0]} is not known on this link")
        return load(kind, items[1:])


def packb(items: object) -> bytes:
    """Return `items` as msgpack bytes."""
    packed: bytes = msgpack.packb(items)
    return packed


def unpackb(body: bytes, max_items: int = 1 << 18, max_bytes: int = 1 << 20) -> list[Any]:
    """Return the array in `body`; `MalformedFrame` for anything else."""
    try:
        items = msgpack.unpackb(
            body,
            max_array_len=max_items,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise MalformedFrame(f"{len(body)} bytes are not msgpack within the limits") from error
    if not isinstance(items, list):
        raise MalformedFrame(f"expected an array, found {type(items).__name__}")
    return items


def dump(message: object) -> list[Any]:
    """Return a dataclass as nested lists, in field order."""
    kind: Any = type(message)
    return [_dump(getattr(message, name)) for name in _names(kind)]


def load(kind: type, items: object) -> Any:
    """Return `items` as an instance of dataclass `kind`; `MalformedFrame` names the wrong field."""
    return _reader(kind)(items, kind.__name__)


def check(message: object) -> None:
    """Raise `MalformedFrame` if a message of our own breaks its bounds: for tests and senders."""
    load(type(message), dump(message))


def _dump(value: Any) -> Any:
    if isinstance(value, tuple):
        if value and type(value[0]) is int:
            return list(value)
        return [_dump(item) for item in value]
    if isinstance(value, IntEnum):
        return int(value)
    return dump(value) if is_dataclass(value) else value


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _reader(kind: Any) -> Read:
    """Compile an annotation into a function (value, path) -> checked value."""
    bounds: Span | Size | None = None
    if get_origin(kind) is Annotated:
        kind, *markers = get_args(kind)
        bounds = next((m for m in markers if isinstance(m, Span | Size)), None)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(_reader(next(arm for arm in get_args(kind) if arm is not types.NoneType)))
    if origin is tuple:
        arms = get_args(kind)
        if len(arms) == 2 and arms[1] is Ellipsis:
            if not isinstance(bounds, Size):
                raise TypeError(f"{kind}: a list needs Size bounds")
            return _sequence(arms[0], bounds)
        paths = tuple(map(str, range(len(arms))))
        return _row(tuple, "array", tuple(_reader(arm) for arm in arms), paths)
    if is_dataclass(kind):
        made: Any = kind
        hints = get_type_hints(made, include_extras=True)
        names = _names(made)
        return _row(made, made.__name__, tuple(_reader(hints[name]) for name in names), names)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return _enum(kind)
    if kind in (int, float) and isinstance(bounds, Span):
        return _number(kind, bounds)
    if kind in (bytes, str) and isinstance(bounds, Size):
        return _text(kind, bounds)
    if kind is bool:
        return _truth
    raise TypeError(f"{kind} with {bounds} has no bounded reader")


def _number(kind: type, bounds: Span) -> Read:
    low, high = bounds.low, bounds.high
    kinds = (int, float) if kind is float else (int,)

    def read(value: Any, path: str) -> Any:
        # `type is`, as a bool is an int to isinstance; NaN fails the comparison.
        if type(value) not in kinds or not low <= value <= high:
            raise MalformedFrame(f"{path}: expected {kind.__name__} from {low} to {high}")
        return value

    return read


def _text(kind: Any, bounds: Size) -> Read:
    low, high, step = bounds.low, bounds.high, bounds.step

    def read(value: Any, path: str) -> Any:
        if type(value) is not kind:
            raise MalformedFrame(f"{path}: expected {kind.__name__}, found {type(value).__name__}")
        size = len(value.encode() if kind is str else value)
        if not low <= size <= high or size % step:
            raise MalformedFrame(f"{path}: expected {low} to {high} bytes, found {size}")
        return value

    return read


def _truth(value: Any, path: str) -> Any:
    if type(value) is not bool:
        raise MalformedFrame(f"{path}: expected bool, found {type(value).__name__}")
    return value


def _enum(kind: type[IntEnum]) -> Read:
    def read(value: Any, path: str) -> Any:
        if type(value) is not int or value not in kind._value2member_map_:
            raise MalformedFrame(f"{path}: expected one of {[int(member) for member in kind]}")
        return kind(value)

    return read


def _optional(arm: Read) -> Read:
    def read(value: Any, path: str) -> Any:
        return None if value is None else arm(value, path)

    return read


def _sequence(item: Any, bounds: Size) -> Read:
    read_item = _reader(item)
    low, high = bounds.low, bounds.high

    def read(value: Any, path: str) -> Any:
        if type(value) is not list or not low <= len(value) <= high:
            raise MalformedFrame(f"{path}: expected an array of {low} to {high} items")
        return tuple([read_item(part, path) for part in value])

    return read


def _row(
    kind: Callable[..., Any], title: str, reads: tuple[Read, ...], names: tuple[str, ...]
) -> Read:
    paths = tuple(f"{title}.{name}" for name in names)

    def read(value: Any, path: str) -> Any:
        if type(value) is not list or len(value) != len(reads):
            raise MalformedFrame(f"{path}: expected an array of {len(reads)} items")
        parts = [one(part, at) for one, part, at in zip(reads, value, paths, strict=True)]
        return tuple(parts) if kind is tuple else kind(*parts)

    return read
