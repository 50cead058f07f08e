"""What a GGUF file says of itself: architecture, sizes, tokenizer, and whether it is all there.

An own reader with bounds on everything, as the file may be anything: at most 64 MiB of header are
read and no tensor is touched. It runs in a child (`inspect`), killed past its time or memory.
Format: ggml/docs/gguf.md, versions 2 and 3, little-endian.
"""

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import trio

from p2p.errors import ChildError, ModelError
from p2p.process.child import open_child
from p2p.process.pipe import EXIT_STOP, leave, open_pipe
from p2p.wire.fingerprint import Entry, gguf_entries, ladder, tok_fp
from p2p.wire.schema import U32, U64, Codec, Digest, Size

MAX_HEADER_BYTES = 64 << 20  # Gemma's 256k tokens and merges take 15 MB
MAX_KEYS = 4096
MAX_TENSORS = 65_536
MAX_ITEMS = 1 << 20  # of one array
MAX_STRING_BYTES = 1 << 20  # chat templates
INSPECT_SECONDS = 60.0
INSPECT_BYTES = 2 << 30  # address space of the child

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]


@dataclass(frozen=True, slots=True)
class Header:
    """What the node needs to know of a model. `kv_bytes` is the KV memory of one token at f16."""

    architecture: Annotated[str, Size(1, 64)]
    name: Annotated[str, Size(0, 256)]
    quantisation: Annotated[str, Size(1, 32)]
    context: U32
    layers: U32
    kv_bytes: U32
    vocabulary: U32
    tok_fp: Digest
    ladder: Annotated[bytes, Size(0, 512, 4)]
    file_bytes: U64


@dataclass(frozen=True, slots=True)
class Inspect:
    path: Annotated[str, Size(1, 4096)]


@dataclass(frozen=True, slots=True)
class Refused:
    text: Annotated[str, Size(1, 4096)]


TO_READER = Codec({0: Inspect})
FROM_READER = Codec({0: Header, 1: Refused})


async def inspect(path: Path, timeout_seconds: float = INSPECT_SECONDS) -> Header:
    """Return the header of the GGUF file at `path`, read in a child process.

    Raises:
        ModelError: not a GGUF this program can use; the file and the reason are named.
    """
    name = str(path)
    if not name.isprintable():  # bytes that are not UTF-8 are surrogates here
        raise ModelError(f"{path.name!a}: rename the file, its path has unprintable letters")
    with trio.move_on_after(timeout_seconds):
        try:
            async with open_child(
                "nexusnode.models.gguf", FROM_READER, TO_READER, role="model reader"
            ) as child:
                await child.send(Inspect(name))
                answer = await child.receive()
        except ChildError as error:
            raise ModelError(f"{path.name}: reading its header failed: {error}") from error
        if isinstance(answer, Refused):
            raise ModelError(answer.text)
        assert isinstance(answer, Header)
        return answer
    raise ModelError(f"{path.name}: reading its header took more than {timeout_seconds:.0f} s")


def read_header(path: Path) -> Header:
    """Return the header of the GGUF file at `path`, read in this process.

    Raises:
        ModelError: as for `inspect`.
    """
    values, file_bytes = _open(path)
    try:
        return _header(values, file_bytes)
    except (_Unusable, ValueError) as error:
        raise ModelError(f"{path.name}: {error}") from error


def read_entries(path: Path) -> list[Entry]:
    """Return the vocabulary of a file that `inspect` has accepted: to name a token that differs."""
    values, _ = _open(path)
    try:
        return _entries(values)
    except (_Unusable, ValueError) as error:
        raise ModelError(f"{path.name}: {error}") from error


def _open(path: Path) -> tuple["_Values", int]:
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            return _read(file, file_bytes), file_bytes
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except (_Unusable, ValueError) as error:
        raise ModelError(f"{path.name}: {error}") from error


class _Unusable(Exception):
    """Why a file is no GGUF that this program can use."""


class _Reader:
    """Reads the file's first bytes in order, never more than `MAX_HEADER_BYTES` of them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0

    def take(self, count: int) -> bytes:
        self.position += count
        if self.position > MAX_HEADER_BYTES:
            raise _Unusable(f"has a header of more than {MAX_HEADER_BYTES >> 20} MiB")
        data = self._file.read(count)
        if len(data) < count:
            raise _Unusable("ends in the middle of its header: the file is not complete")
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        size = self.number(8)
        if size > MAX_STRING_BYTES:
            raise _Unusable(f"has a text of {size} bytes; {MAX_STRING_BYTES} are allowed")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise _Unusable(f"has a text that is not UTF-8 before byte {self.position}") from error

    def scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self.text()
        code, size = _SCALARS[kind]
        value: Scalar = struct.unpack("<" + code, self.take(size))[0]
        return value

    def value(self) -> Value:
        kind = self._kind()
        if kind != _ARRAY:
            return self.scalar(kind)
        kind = self._kind()
        if kind == _ARRAY:
            raise _Unusable("has an array of arrays")
        count = self.number(8)
        if count > MAX_ITEMS:
            raise _Unusable(f"has an array of {count} items; {MAX_ITEMS} are allowed")
        if kind == _STRING:
            return [self.text() for _ in range(count)]
        code, size = _SCALARS[kind]
        return list(struct.unpack(f"<{count}{code}", self.take(count * size)))

    def _kind(self) -> int:
        kind = self.number(4)
        if kind not in _SCALARS and kind not in (_STRING, _ARRAY):
            raise _Unusable(f"has a value of unknown type {kind} before byte {self.position}")
        return kind


def _read(file: BinaryIO, file_bytes: int) -> "_Values":
    reader = _Reader(file)
    _check_magic(reader)
    tensors, keys = reader.number(8), reader.number(8)
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise _Unusable(f"counts {tensors} tensors and {keys} keys: more than any model has")
    values: dict[str, Value] = {}
    for _ in range(keys):
        key = reader.text()
        if key in values:
            raise _Unusable(f"has the key {key[:64]!r} twice")
        values[key] = reader.value()
    _check_tensors(reader, tensors, _Values(values).count("general.alignment", 32), file_bytes)
    return _Values(values)


def _check_magic(reader: _Reader) -> None:
    magic = reader.take(4)
    if magic != b"GGUF":
        raise _Unusable("is not a GGUF file: its first four bytes are not 'GGUF'")
    version = reader.number(4)
    if version not in (2, 3):
        big = " (big-endian)" if version in (2 << 24, 3 << 24) else ""
        raise _Unusable(f"is GGUF of version {version}{big}; versions 2 and 3 are supported")


def _check_tensors(reader: _Reader, count: int, alignment: int, file_bytes: int) -> None:
    """See that the last byte of every tensor is in the file: a broken download ends before."""
    if not 1 <= alignment <= 1 << 16:
        raise _Unusable(f"has an alignment of {alignment} bytes")
    end = 0
    for _ in range(count):
        name, dimensions = reader.text(), reader.number(4)
        if dimensions > 4:
            raise _Unusable(f"has a tensor {name[:64]!r} of {dimensions} dimensions")
        weights = 1
        for _ in range(dimensions):
            weights *= reader.number(8)
        block, block_bytes = _TENSOR_BLOCKS.get(reader.number(4), (1, 0))
        end = max(end, reader.number(8) + weights // block * block_bytes)
    data = -(-reader.position // alignment) * alignment
    if count and data + end > file_bytes:
        raise _Unusable(
            f"is not complete: {file_bytes} bytes, its tensors end at byte {data + end}"
        )


def _header(values: "_Values", file_bytes: int) -> Header:
    architecture = values.text("general.architecture")
    if not architecture.isidentifier() and not architecture.replace("-", "_").isidentifier():
        raise _Unusable("names no architecture")
    heads = values.count(f"{architecture}.attention.head_count", 1)
    width = values.count(f"{architecture}.embedding_length", 0)
    key_width = values.count(f"{architecture}.attention.key_length", width // max(1, heads))
    layers = values.count(f"{architecture}.block_count")
    kv_heads = values.count(f"{architecture}.attention.head_count_kv", heads)
    entries = _entries(values)
    number = values.count("general.file_type", -1)
    return Header(
        architecture=architecture[:64],
        name=values.text("general.name", "")[:64],
        quantisation=_FILE_TYPES.get(number, f"type {number}"),
        context=min(values.count(f"{architecture}.context_length"), 2**32 - 1),
        layers=min(layers, 2**32 - 1),
        kv_bytes=min(2 * 2 * layers * kv_heads * key_width, 2**32 - 1),
        vocabulary=len(entries),
        tok_fp=tok_fp(entries),
        ladder=ladder(entries),
        file_bytes=file_bytes,
    )


def _entries(values: "_Values") -> list[Entry]:
    return gguf_entries(
        values.texts("tokenizer.ggml.tokens"),
        values.counts("tokenizer.ggml.token_type"),
        values.text("tokenizer.ggml.model"),
    )


class _Values:
    """The file's keys, by the type each must have."""

    def __init__(self, values: dict[str, Value]) -> None:
        self._values = values

    def text(self, key: str, default: str | None = None) -> str:
        value = self._values.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a text")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """Return a number; of one per layer (head counts of some models) the greatest."""
        value = self._values.get(key, default)
        if isinstance(value, list) and value and all(type(item) is int for item in value):
            return max(item for item in value if isinstance(item, int))
        if type(value) is not int or (value < 0 and value != default):
            raise self._wrong(key, value, "a whole number")
        return value

    def texts(self, key: str) -> list[str]:
        value = self._values.get(key)
        if not isinstance(value, list) or not value:
            raise self._wrong(key, value, "a list of texts")
        texts = [item for item in value if isinstance(item, str)]
        if len(texts) != len(value):
            raise self._wrong(key, value, "a list of texts")
        return texts

    def counts(self, key: str) -> list[int]:
        value = self._values.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list of numbers")
        counts = [item for item in value if type(item) is int]
        if len(counts) != len(value):
            raise self._wrong(key, value, "a list of numbers")
        return counts

    def _wrong(self, key: str, value: Value | None, expected: str) -> _Unusable:
        found = "nothing" if value is None else f"a {type(value).__name__}"
        return _Unusable(f"{key}: expected {expected}, found {found}")


_STRING = 8
_ARRAY = 9
_SCALARS = {
    0: ("B", 1),
    1: ("b", 1),
    2: ("H", 2),
    3: ("h", 2),
    4: ("I", 4),
    5: ("i", 4),
    6: ("f", 4),
    7: ("?", 1),
    10: ("Q", 8),
    11: ("q", 8),
    12: ("d", 8),
}
# ggml type: (weights, bytes) of one block. A newer type counts as 0 bytes: less is checked.
_TENSOR_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110),
    22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8),
    29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
# llama.cpp's llama_ftype.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0",
}  # fmt: skip


def main() -> None:
    """Answer one Inspect and leave."""
    _bound_memory()
    pipe = open_pipe(TO_READER, FROM_READER)
    try:
        answer: Header | Refused = read_header(Path(pipe.receive().path))
    except ModelError as error:
        answer = Refused(str(error)[:1000])
    pipe.send(answer)
    leave(EXIT_STOP)


def _bound_memory() -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (INSPECT_BYTES, INSPECT_BYTES))


if __name__ == "__main__":
    main()
