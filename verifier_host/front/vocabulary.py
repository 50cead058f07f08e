"""A target's tokenizer as data, from a GGUF's `tokenizer.ggml.*` or a folder's `tokenizer.json`.

A GGUF has no `tokenizer.json`, so its BPE is built here; reading its tokens
takes seconds, so they are kept in the cache folder by the file's SHA-256.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from p2p.errors import ModelError
from p2p.wire.fingerprint import Entry, added_kind, gguf_entries, token_entry
from p2p.wire.messages import TokenKind
from verifier_host.targets import Target, cached_json, open_gguf

_CACHE_VERSION = 1
_CONTROL, _USER_DEFINED = 3, 4  # GGUF token types
# llama.cpp, llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_QWEN2; the same as Qwen2's tokenizer.json.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the front knows of a tokenizer.

    Attributes:
        entries: for `tok_fp`, by token id.
        template: the chat template, "" if the model has none.
        bos, eos: as the template may name them.
    """

    tokenizer: Tokenizer
    entries: tuple[Entry, ...]
    template: str
    bos: str
    eos: str


def load_vocabulary(target: Target) -> Vocabulary:
    """Return a target's tokenizer. Slow the first time for a GGUF.

    Raises:
        ModelError: it has none, or one that is not supported.
    """
    return _from_gguf(target) if target.is_gguf else _from_folder(target.path)


def _from_gguf(target: Target) -> Vocabulary:
    name = f"tokenizers/{target.revision}.json"
    fields = cached_json(name, _CACHE_VERSION, lambda: _gguf_fields(target.path))
    try:
        entries = gguf_entries(fields["tokens"], fields["types"], fields["model"])
    except ValueError as error:
        raise ModelError(f"{target.path}: {error}") from error
    return Vocabulary(
        tokenizer=_build(target.path, fields),
        entries=tuple(entries),
        template=fields["template"],
        bos=_token(fields, "bos"),
        eos=_token(fields, "eos"),
    )


def _gguf_fields(path: Path) -> dict[str, Any]:
    reader = open_gguf(path)

    def value(key: str, default: Any) -> Any:
        field = reader.get_field(f"tokenizer.{key}")
        return default if field is None else field.contents()

    return {
        "model": value("ggml.model", ""),
        "pre": value("ggml.pre", ""),
        "tokens": value("ggml.tokens", []),
        "types": value("ggml.token_type", []),
        "merges": value("ggml.merges", []),
        "bos": value("ggml.bos_token_id", None),
        "eos": value("ggml.eos_token_id", None),
        "add_bos": value("ggml.add_bos_token", False),
        "template": value("chat_template", ""),
    }


def _build(path: Path, fields: dict[str, Any]) -> Tokenizer:
    model, pre = fields["model"], fields["pre"]
    if model != "gpt2" or pre not in _PRE_TOKENIZERS:
        known = ", ".join(sorted(_PRE_TOKENIZERS))
        raise ModelError(
            f"{path}: tokenizer {model}/{pre} is not supported from GGUF (gpt2 with {known} are);"
            " use the model's safetensors folder, which has a tokenizer.json"
        )
    vocabulary = {text: id for id, text in enumerate(fields["tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in fields["merges"]]
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, ignore_merges=False))
    _PRE_TOKENIZERS[pre](tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(text, special=kind == _CONTROL, normalized=False)
            for text, kind in zip(fields["tokens"], fields["types"], strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    return tokenizer


def _smollm(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def _qwen2(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


_PRE_TOKENIZERS: dict[str, Callable[[Tokenizer], None]] = {"smollm": _smollm, "qwen2": _qwen2}


def _token(fields: dict[str, Any], name: str) -> str:
    id = fields[name]
    return fields["tokens"][id] if isinstance(id, int) and id < len(fields["tokens"]) else ""


def _from_folder(path: Path) -> Vocabulary:
    text = _read_text(path / "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_str(text)
        document = json.loads(text)
    except Exception as error:  # tokenizers 0.23 raises nothing narrower
        raise ModelError(f"{path / 'tokenizer.json'}: is no tokenizer") from error
    config = _read_config(path / "tokenizer_config.json")
    template = _read_text(path / "chat_template.jinja", "") or config.get("chat_template") or ""
    if isinstance(template, list):
        template = next((each["template"] for each in template if each["name"] == "default"), "")
    return Vocabulary(
        tokenizer=tokenizer,
        entries=_folder_entries(tokenizer, '"ByteLevel"' in json.dumps(document["decoder"])),
        template=template,
        bos=_content(config.get("bos_token")),
        eos=_content(config.get("eos_token")),
    )


def _folder_entries(tokenizer: Tokenizer, byte_level: bool) -> tuple[Entry, ...]:
    texts: dict[int, str] = {id: text for text, id in tokenizer.get_vocab(True).items()}
    added = tokenizer.get_added_tokens_decoder()
    entries = []
    for id in range(max(texts) + 1):
        text = texts.get(id)
        if text is None:
            kind, text = TokenKind.UNUSED, f"[PAD{id}]"  # as llama.cpp's converter fills gaps
        elif id in added:
            kind = added_kind(text, added[id].special)
        elif not byte_level and re.fullmatch("<0x[0-9A-F]{2}>", text):
            kind = TokenKind.BYTE
        else:
            kind = TokenKind.NORMAL
        entries.append(token_entry(kind, text, byte_level))
    return tuple(entries)


def _content(token: Any) -> str:
    """A special token is written as its text or as an object that holds it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read_text(path, "{}"))
    except ValueError as error:
        raise ModelError(f"{path}: cannot be read as JSON") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object")
    return config


def _read_text(path: Path, default: str | None = None) -> str:
    if default is not None and not path.exists():
        return default
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text") from error
