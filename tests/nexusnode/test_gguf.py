import struct
from pathlib import Path
from typing import Any

import gguf.constants
import pytest

from nexusnode.models.catalogue import bundled_path
from nexusnode.models.gguf import (
    _TENSOR_BLOCKS,
    MAX_ITEMS,
    MAX_KEYS,
    MAX_STRING_BYTES,
    MAX_TENSORS,
    Header,
    read_header,
)
from p2p.errors import ModelError
from p2p.wire.fingerprint import tok_fp

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
Key = tuple[str, int, Any]


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def packed(kind: int, value: Any) -> bytes:
    match kind:
        case 4:
            return struct.pack("<I", value)
        case 5:
            return struct.pack("<i", value)
        case 6:
            return struct.pack("<f", value)
        case 7:
            return struct.pack("<?", value)
        case 8:
            return text(value)
        case 9:
            item, values = value
            items = b"".join(packed(item, one) for one in values)
            return struct.pack("<IQ", item, len(values)) + items
        case _:
            return struct.pack("<Q", value)


def tensor(name: str, dimensions: list[int], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<{len(dimensions)}Q", *dimensions)
    head = text(name) + struct.pack("<I", len(dimensions))
    return head + sizes + struct.pack("<IQ", kind, offset)


KEYS: list[Key] = [
    ("general.architecture", STRING, "qwen2"),
    ("general.name", STRING, "Tiny"),
    ("general.file_type", U32, 2),
    ("general.alignment", U32, 64),
    ("qwen2.context_length", U32, 2048),
    ("qwen2.block_count", U32, 3),
    ("qwen2.embedding_length", U32, 128),
    ("qwen2.attention.head_count", U32, 4),
    ("qwen2.attention.head_count_kv", U32, 2),
    ("qwen2.rope.freq_base", F32, 10000.0),
    ("tokenizer.ggml.model", STRING, "gpt2"),
    ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<|end|>", "a", "Ġb", "[PAD]"])),
    ("tokenizer.ggml.token_type", ARRAY, (I32, [3, 1, 1, 5])),
    ("tokenizer.ggml.add_bos_token", BOOL, False),
]
TENSORS = [tensor("a", [32, 2], 2, 0), tensor("b", [7], 0, 64)]


def with_key(name: str, kind: int, value: Any) -> list[Key]:
    return [*(key for key in KEYS if key[0] != name), (name, kind, value)]


def without_key(name: str) -> list[Key]:
    return [key for key in KEYS if key[0] != name]


def file_of(
    keys: list[Key], tensors: list[bytes] = TENSORS, version: int = 3, data_bytes: int = 92
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    body = b"".join(
        text(name) + struct.pack("<I", kind) + packed(kind, v) for name, kind, v in keys
    )
    header = head + body + b"".join(tensors)
    return header + bytes(-len(header) % 64 + data_bytes)


def read(folder: Path, data: bytes) -> Header:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return read_header(path)


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_says_what_the_model_is(tmp_path: Path, version: int) -> None:
    data = file_of(KEYS, version=version)

    assert read(tmp_path, data) == Header(
        architecture="qwen2",
        name="Tiny",
        quantisation="Q4_0",
        context=2048,
        layers=3,
        kv_bytes=2 * 2 * 3 * 2 * 32,
        vocabulary=4,
        tok_fp=tok_fp([(2, b"<|end|>"), (0, b"a"), (0, b" b")]),
        ladder=b"",
        file_bytes=len(data),
    )


@pytest.mark.slow
def test_the_bundled_draft_is_read(tmp_path: Path) -> None:
    header = read_header(bundled_path())

    assert (header.architecture, header.quantisation) == ("llama", "Q4_0")
    assert (header.vocabulary, header.context, header.layers) == (49_152, 8192, 6)
    assert header.kv_bytes == 2 * 2 * 6 * 3 * 64


@pytest.mark.slow
def test_a_header_cut_at_any_byte_is_named_as_not_complete(tmp_path: Path) -> None:
    data = file_of(KEYS)

    for length in range(4, len(data)):
        with pytest.raises(ModelError, match=r"^model\.gguf: .*not complete"):
            read(tmp_path, data[:length])


@pytest.mark.slow
def test_a_header_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    data = file_of(KEYS)

    for place in range(len(data) - 92):
        for byte in (0x00, 0xFF):
            changed = bytearray(data)
            changed[place] = byte
            try:
                found: object = read(tmp_path, bytes(changed))
            except ModelError as error:
                found = str(error)
            assert isinstance(found, Header | str)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not complete"),
        (b"PK\3\4" + bytes(100), "not a GGUF"),
        (b"GGML" + bytes(100), "not a GGUF"),
        (file_of(KEYS, version=1), "version 1; versions 2 and 3"),
        (b"GGUF\0\0\0\3" + bytes(100), "big-endian"),
        (b"GGUF\3\0\0\0" + struct.pack("<QQ", MAX_TENSORS + 1, 1), "more than any model"),
        (b"GGUF\3\0\0\0" + struct.pack("<QQ", 1, MAX_KEYS + 1), "more than any model"),
        (
            b"GGUF\3\0\0\0" + struct.pack("<QQQ", 0, 1, MAX_STRING_BYTES + 1),
            "text of 1048577 bytes",
        ),
        (
            b"GGUF\3\0\0\0"
            + struct.pack("<QQ", 0, 1)
            + text("a")
            + struct.pack("<IIQ", 9, 4, 2**60),
            "array of 1152921504606846976 items",
        ),
        (
            b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, 1) + text("a") + struct.pack("<IIQ", 9, 9, 1),
            "array of arrays",
        ),
        (
            b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, 1) + text("a") + struct.pack("<I", 13),
            "unknown type 13",
        ),
        (b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, 1) + text(b"\xff"), "not UTF-8"),
        (file_of([*KEYS, KEYS[0]]), "'general.architecture' twice"),
        (file_of(without_key("general.architecture")), "expected a text, found nothing"),
        (file_of(with_key("general.architecture", STRING, "../x")), "no architecture"),
        (file_of(with_key("general.architecture", U32, 1)), "expected a text, found a int"),
        (file_of(without_key("qwen2.block_count")), "whole number, found nothing"),
        (file_of(with_key("qwen2.block_count", I32, -1)), "whole number"),
        (file_of(with_key("qwen2.block_count", BOOL, True)), "whole number, found a bool"),
        (file_of(with_key("qwen2.context_length", STRING, "x")), "whole number, found a str"),
        (file_of(with_key("general.alignment", U32, 0)), "alignment of 0"),
        (file_of(with_key("general.alignment", U32, 1 << 17)), "alignment of 131072"),
        (file_of(without_key("tokenizer.ggml.tokens")), "list of texts, found nothing"),
        (file_of(with_key("tokenizer.ggml.tokens", ARRAY, (U32, [1]))), "list of texts"),
        (file_of(with_key("tokenizer.ggml.token_type", U32, 1)), "list of numbers, found a int"),
        (file_of(with_key("tokenizer.ggml.token_type", ARRAY, (F32, [1.0]))), "list of numbers"),
        (file_of(with_key("tokenizer.ggml.token_type", ARRAY, (I32, [1]))), "1 token types for 4"),
        (file_of(with_key("tokenizer.ggml.token_type", ARRAY, (I32, [9] * 4))), "token type 9"),
        (file_of(with_key("tokenizer.ggml.model", STRING, "bert")), "'bert'; expected 'gpt2'"),
        (file_of(KEYS, data_bytes=91), "its tensors end at byte"),
        (file_of(KEYS, [tensor("x", [1] * 5, 0, 0)]), "5 dimensions"),
        (file_of(KEYS, [tensor("x", [2**63], 0, 0)]), "not complete"),
    ],
)
def test_a_file_that_is_no_usable_model_is_refused_with_name_and_reason(
    tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        read(tmp_path, data)
    assert str(caught.value).startswith("model.gguf: ")


@pytest.mark.slow
def test_a_header_past_64_mib_is_not_read(tmp_path: Path) -> None:
    keys: list[Key] = [(f"k{number}", ARRAY, (U64, [])) for number in range(9)]
    head = b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, len(keys))
    for name, _, _ in keys:
        head += text(name) + struct.pack("<IIQ", ARRAY, U64, MAX_ITEMS) + bytes(8 * MAX_ITEMS)

    with pytest.raises(ModelError, match="more than 64 MiB"):
        read(tmp_path, head)


@pytest.mark.slow
def test_an_array_with_the_most_items_is_read(tmp_path: Path) -> None:
    keys = [*KEYS, ("big", ARRAY, (BOOL, [True] * MAX_ITEMS))]

    assert read(tmp_path, file_of(keys)).vocabulary == 4


@pytest.mark.parametrize(
    ("keys", "kv_bytes"),
    [
        (with_key("qwen2.attention.key_length", U32, 64), 2 * 2 * 3 * 2 * 64),
        (with_key("qwen2.attention.head_count_kv", ARRAY, (U32, [1, 4, 2])), 2 * 2 * 3 * 4 * 32),
        (without_key("qwen2.attention.head_count_kv"), 2 * 2 * 3 * 4 * 32),
    ],
)
def test_kv_memory_follows_from_the_heads(tmp_path: Path, keys: list[Key], kv_bytes: int) -> None:
    assert read(tmp_path, file_of(keys)).kv_bytes == kv_bytes


def test_an_unknown_file_type_is_shown_as_a_number_and_an_unknown_tensor_type_read(
    tmp_path: Path,
) -> None:
    keys = with_key("general.file_type", U32, 999)

    found = read(tmp_path, file_of(keys, [tensor("x", [32], 99, 0)]))

    assert found.quantisation == "type 999"


def test_the_sizes_of_tensor_types_are_those_of_the_format() -> None:
    sizes = {int(kind): size for kind, size in gguf.constants.GGML_QUANT_SIZES.items()}

    assert {kind: sizes[kind] for kind in _TENSOR_BLOCKS} == _TENSOR_BLOCKS


@pytest.mark.parametrize("name", ["missing.gguf", "."])
def test_a_path_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        read_header(tmp_path / name)
