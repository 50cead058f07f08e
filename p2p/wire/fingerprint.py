"""What names a tokenizer and a target, bit for bit the same on both ends (docs/protocol.md, 8).

The node makes its entries from a GGUF header, the host from its tokenizer; both hash them here.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from itertools import repeat

from p2p.wire.messages import LADDER_STEP, TokenKind
from p2p.wire.schema import packb

Entry = tuple[TokenKind, bytes]  # its kind and the bytes it stands for, by token id
RUNG_BYTES = 4
MAX_RUNGS = 128
MAX_TOKEN_BYTES = 2**16 - 1
# llama.cpp's: normal, unknown, control, user defined, unused, byte.
_GGUF_KINDS = {
    1: TokenKind.NORMAL,
    2: TokenKind.CONTROL,
    3: TokenKind.CONTROL,
    4: TokenKind.ADDED,
    5: TokenKind.UNUSED,
    6: TokenKind.BYTE,
}


def existing(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries up to the last id that is not unused: padding is not a token."""
    count = len(entries)
    while count and entries[count - 1][0] == TokenKind.UNUSED:
        count -= 1
    return entries[:count]


def tok_fp(entries: Sequence[Entry]) -> bytes:
    """Return the fingerprint of a tokenizer, 32 bytes."""
    tokens = existing(entries)
    digest = sha256(len(tokens).to_bytes(4, "little"))
    for entry in tokens:
        digest.update(_packed(entry))
    return digest.digest()


def ladder(entries: Sequence[Entry]) -> bytes:
    """Return 4 bytes for each full 2,048 entries, by which peers find where they differ."""
    tokens = existing(entries)
    digest = sha256()
    rungs = []
    for count, entry in enumerate(tokens[: MAX_RUNGS * LADDER_STEP], start=1):
        digest.update(_packed(entry))
        if count % LADDER_STEP == 0:
            rungs.append(digest.copy().digest()[:RUNG_BYTES])
    return b"".join(rungs)


def first_difference(ours: bytes, theirs: bytes) -> int:
    """Return the first id of the first block of entries in which two ladders differ.

    With no such rung the difference lies behind the shorter ladder: the id after it is returned.
    """
    rungs = min(len(ours), len(theirs)) // RUNG_BYTES
    for rung in range(rungs):
        place = slice(rung * RUNG_BYTES, (rung + 1) * RUNG_BYTES)
        if ours[place] != theirs[place]:
            return rung * LADDER_STEP
    return rungs * LADDER_STEP


def model_fp(canonical_id: str, revision: str, tokenizer: bytes, quantisation: str) -> bytes:
    """Return the fingerprint of a target, 32 bytes.

    Args:
        canonical_id: Hugging Face id, else the file's name.
        revision: of the repository, else the file's SHA-256 in hex.
        tokenizer: its `tok_fp`.
        quantisation: its usual name, as "Q4_1" or "bf16".
    """
    return sha256(packb([canonical_id, revision, tokenizer, quantisation])).digest()


def token_entry(kind: TokenKind, text: str, byte_level: bool) -> Entry:
    """Return a token's entry from how a tokenizer writes it.

    Args:
        text: the vocabulary's own spelling: "Ġthe" or "▁the", "<0x0A>" for a single byte.
        byte_level: the vocabulary is byte-level BPE (GGUF model "gpt2"), else SentencePiece.
    """
    if kind == TokenKind.BYTE:
        return kind, _single_byte(text)
    if kind != TokenKind.NORMAL:
        # Added and control tokens are written plainly in every vocabulary.
        return kind, text.encode()
    return kind, token_bytes(text) if byte_level else text.replace("▁", " ").encode()


def gguf_entries(tokens: Sequence[str], types: Sequence[int], model: str) -> list[Entry]:
    """Return the entries of a GGUF's vocabulary: all of it, unused ids at the end included.

    Args:
        tokens: `tokenizer.ggml.tokens`.
        types: `tokenizer.ggml.token_type`, or nothing where a file leaves it out: all normal.
        model: `tokenizer.ggml.model`: "gpt2" is byte-level BPE, "llama" SentencePiece.

    Raises:
        ValueError: lengths differ, an unknown type or model, a byte token not written `<0xNN>`.
    """
    if model not in ("gpt2", "llama"):
        raise ValueError(f"tokenizer model {model[:32]!r}; expected 'gpt2' or 'llama'")
    if types and len(types) != len(tokens):
        raise ValueError(f"{len(types)} token types for {len(tokens)} tokens")
    if unknown := set(types) - _GGUF_KINDS.keys():
        raise ValueError(f"token type {min(unknown)}; expected 1 to 6")
    byte_level = model == "gpt2"
    kinds = (_GGUF_KINDS[number] for number in types) if types else repeat(TokenKind.NORMAL)
    return [token_entry(kind, text, byte_level) for kind, text in zip(kinds, tokens, strict=False)]


def added_kind(text: str, special: bool) -> TokenKind:
    """Return the kind of an added token of a `tokenizer.json`, as llama.cpp's converter writes it.

    Some repositories do not flag tokens as special that only serve control (Qwen2.5's
    `<|fim_prefix|>`); `convert_hf_to_gguf.py` (`does_token_look_special`) goes by the spelling, and
    both ways must give one `tok_fp`.
    """
    looks_special = (
        text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))  # DeepSeek
        or (text.startswith("<unused") and text.endswith(">"))
    )
    return TokenKind.CONTROL if special or looks_special else TokenKind.ADDED


def token_bytes(text: str) -> bytes:
    """Return the bytes that a byte-level token stands for.

    A text with a letter outside that alphabet was never encoded in it: its UTF-8 is returned.
    """
    try:
        return bytes([_BYTES[letter] for letter in text])
    except KeyError:
        return text.encode()


def _packed(entry: Entry) -> bytes:
    kind, raw = entry
    if len(raw) > MAX_TOKEN_BYTES:
        raise ValueError(f"a token of {len(raw)} bytes; {MAX_TOKEN_BYTES} are possible")
    return bytes((kind,)) + len(raw).to_bytes(2, "little") + raw


def _single_byte(text: str) -> bytes:
    found = re.fullmatch("<0x([0-9A-Fa-f]{2})>", text)
    if found is None:
        raise ValueError("a byte token is not written <0xNN>")
    return bytes.fromhex(found[1])


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's: printable Latin-1 is itself, the other 68 bytes are U+0100 and up, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    alphabet = {chr(byte): byte for byte in plain}
    alphabet.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return alphabet


_BYTES = _byte_level_alphabet()
