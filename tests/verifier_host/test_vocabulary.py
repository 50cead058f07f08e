"""A target's tokenizer from its own file, held against transformers' reading of the same file."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from benchmarks.prompts import load_prompts
from p2p.errors import ModelError
from p2p.wire.fingerprint import gguf_entries, tok_fp
from p2p.wire.messages import TokenKind
from verifier_host.api.backend import Message
from verifier_host.front.text import Text
from verifier_host.front.vocabulary import _build, load_vocabulary
from verifier_host.targets import Target, find_target

TRICKY = (
    "It's 2024, they'll've 3.14159 naïve café",
    "  two  spaces\n\n\n\tand tabs \r\n end ",
    "日本語 Ünïcödé 🙂👩‍👩‍👧 ٣٤٥ ½ Ⅷ",
    "<|im_start|>user\nhi<|im_end|><|endoftext|>",
    "prices:\n\n4 chairs \n 5 tables",
    "",
)


@pytest.fixture(scope="module")
def bundled() -> Target:
    return find_target("bundled")


@pytest.mark.slow
def test_ids_equal_those_of_llama_cpp(bundled: Target) -> None:
    import llama_cpp

    theirs = llama_cpp.Llama(str(bundled.path), vocab_only=True, verbose=False)
    ours = Text(load_vocabulary(bundled))

    for text in (*TRICKY, *(ours.render(messages) for messages in conversations())):
        assert list(ours.encode(text)) == theirs.tokenize(text.encode(), False, True), text


@pytest.mark.slow
def test_chats_and_ids_equal_those_of_transformers(bundled: Target) -> None:
    from transformers import AutoTokenizer

    theirs: Any = AutoTokenizer.from_pretrained(bundled.path.parent, gguf_file=bundled.path.name)
    # transformers 5.24 ignores `tokenizer.ggml.pre` and splits no digits, so that "\n\n4" has
    # other ids than the model's own tokenizer.json and llama.cpp give it.
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    ours = Text(load_vocabulary(bundled))

    for messages in conversations():
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        chat = theirs.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = theirs(chat, add_special_tokens=False)["input_ids"]
        assert ours.render(messages) == chat
        assert list(ours.encode_chat(messages)) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    for text in TRICKY:
        assert list(ours.encode(text)) == theirs(text)["input_ids"]


def conversations() -> list[list[Message]]:
    return [
        [Message(turn["role"], turn["content"]) for turn in prompt.messages]
        for prompt in load_prompts()
    ]


@pytest.mark.slow
def test_a_gguf_and_its_tokenizer_json_have_one_fingerprint(
    bundled: Target, tmp_path: Path
) -> None:
    vocabulary = load_vocabulary(bundled)
    folder = make_folder(tmp_path, vocabulary.tokenizer, {"chat_template": vocabulary.template})

    again = load_vocabulary(Target("x", folder, False, "0" * 64))

    assert tok_fp(again.entries) == tok_fp(vocabulary.entries)
    assert again.tokenizer.encode(TRICKY[0]).ids == vocabulary.tokenizer.encode(TRICKY[0]).ids


def make_folder(folder: Path, tokenizer: Tokenizer, config: dict[str, Any]) -> Path:
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def byte_tokenizer() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={name: id for id, name in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken("<|end|>", special=True), AddedToken("word", special=False)])
    return tokenizer


def test_a_folder_s_added_tokens_keep_their_kinds(tmp_path: Path) -> None:
    config = {"chat_template": "x", "bos_token": None, "eos_token": {"content": "<|end|>"}}
    folder = make_folder(tmp_path, byte_tokenizer(), config)

    found = load_vocabulary(Target("x", folder, False, ""))

    assert found.entries[-2:] == ((TokenKind.CONTROL, b"<|end|>"), (TokenKind.ADDED, b"word"))
    assert {raw for _, raw in found.entries[:-2]} == {bytes([byte]) for byte in range(256)}
    assert (found.template, found.bos, found.eos) == ("x", "", "<|end|>")


def test_a_template_may_be_a_file_or_one_of_several(tmp_path: Path) -> None:
    several = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    folder = make_folder(tmp_path, byte_tokenizer(), {"chat_template": several})
    target = Target("x", folder, False, "")

    assert load_vocabulary(target).template == "d"
    (folder / "chat_template.jinja").write_text("file")
    assert load_vocabulary(target).template == "file"
    (folder / "tokenizer_config.json").unlink()
    (folder / "chat_template.jinja").unlink()
    assert load_vocabulary(target).template == ""


def test_sentencepiece_bytes_and_gaps_are_entries_of_their_own(tmp_path: Path) -> None:
    tokenizer = Tokenizer(BPE(vocab={"<0x0A>": 0, "▁a": 1, "b": 3}, merges=[]))
    folder = make_folder(tmp_path, tokenizer, {})

    assert load_vocabulary(Target("x", folder, False, "")).entries == (
        (TokenKind.BYTE, b"\n"),
        (TokenKind.NORMAL, b" a"),
        (TokenKind.UNUSED, b"[PAD2]"),
        (TokenKind.NORMAL, b"b"),
    )


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model": 3}'])
def test_a_tokenizer_json_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)

    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_vocabulary(Target("x", tmp_path, False, ""))


def test_a_tokenizer_config_that_is_not_json_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, byte_tokenizer(), {})
    (folder / "tokenizer_config.json").write_text("{")

    with pytest.raises(ModelError, match=r"tokenizer_config\.json"):
        load_vocabulary(Target("x", folder, False, ""))


def gguf(pre: str, model: str = "gpt2") -> dict[str, Any]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, "he", "Ġh", "<|end|>"]
    return {
        "model": model,
        "pre": pre,
        "tokens": tokens,
        "types": [1] * 258 + [3],
        "merges": ["h e", "Ġ h"],
    }


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("smollm", "he 12", ["he", "Ġ", "1", "2"]),
        ("qwen2", "he 12", ["he", "Ġ", "1", "2"]),
        ("smollm", "12h", ["1", "2", "h"]),
        ("qwen2", "é<|end|>", ["Ã", "©", "<|end|>"]),
        ("qwen2", "é", ["Ã", "©"]),  # NFC joins the accent to its letter
    ],
)
def test_a_gguf_is_split_as_its_pre_tokenizer_says(pre: str, text: str, pieces: list[str]) -> None:
    fields = gguf(pre)

    assert _build(Path("x.gguf"), fields).encode(text).tokens == pieces
    assert len(gguf_entries(fields["tokens"], fields["types"], "gpt2")) == 259


@pytest.mark.parametrize(("pre", "model"), [("llama-bpe", "gpt2"), ("smollm", "llama")])
def test_other_gguf_tokenizers_are_refused_with_the_way_out(pre: str, model: str) -> None:
    with pytest.raises(ModelError, match=rf"tokenizer {model}/{pre}.*safetensors folder"):
        _build(Path("x.gguf"), gguf(pre, model))
