"""A Hugging Face folder as a source of weights; what cannot be used is refused by name."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from p2p.errors import ModelError
from verifier_host.engine.weights import open_weights

Json = Mapping[str, object]


def ignore(done: float, what: str) -> None:
    """A progress nobody watches."""


def copy_of(folder: Path, to: Path, change: Json | None = None) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text()) | dict(change or {})
    (to / "config.json").write_text(json.dumps(config))
    return to


def test_a_folder_of_transformers_is_read(tiny_llama_dir: Path) -> None:
    weights = open_weights(tiny_llama_dir, ignore)

    assert weights.spec.family == "llama"
    assert weights.spec.end_ids == (2,)
    assert weights.matrix("lm_head.weight", None, weights.spec.hidden).shape == (256, 192)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "gemma3"}, "gemma3"),
        ({"model_type": None}, "model_type"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_attention_heads": "three"}, "num_attention_heads"),
        ({"num_attention_heads": None}, "num_attention_heads is missing"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"rms_norm_eps": None}, "rms_norm_eps is missing"),
        ({"num_key_value_heads": 2}, "whole number"),
        ({"eos_token_id": 256}, "end ids"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial"),
    ],
)
def test_a_config_that_is_not_computed_is_refused(
    tmp_path: Path, tiny_llama_dir: Path, change: Json, reason: str
) -> None:
    folder = copy_of(tiny_llama_dir, tmp_path / "m", change)
    (folder / "generation_config.json").unlink()

    with pytest.raises(ModelError, match=reason):
        open_weights(folder, ignore)


def test_a_window_bounds_the_context(tmp_path: Path, tiny_llama_dir: Path) -> None:
    change = {"model_type": "mistral", "sliding_window": 100}

    assert (
        open_weights(copy_of(tiny_llama_dir, tmp_path / "m", change), ignore).spec.max_context
        == 100
    )
    unused = {**change, "use_sliding_window": False}
    assert (
        open_weights(copy_of(tiny_llama_dir, tmp_path / "n", unused), ignore).spec.max_context
        == 512
    )


def test_the_tokenizer_says_how_many_tokens_there_are(tmp_path: Path, tiny_llama_dir: Path) -> None:
    folder = copy_of(tiny_llama_dir, tmp_path / "m")
    tokenizer = {"model": {"vocab": {"a": 0, "b": 199}}, "added_tokens": [{"id": 200}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    assert open_weights(folder, ignore).spec.vocabulary == 201
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="no vocabulary"):
        open_weights(folder, ignore)


def test_a_tokenizer_larger_than_the_embedding_is_refused(
    tmp_path: Path, tiny_llama_dir: Path
) -> None:
    folder = copy_of(tiny_llama_dir, tmp_path / "m")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 300}}}))
    weights = open_weights(folder, ignore)

    with pytest.raises(ModelError, match=r"\[256, 192\], expected \[301 or more"):
        weights.matrix("model.embed_tokens.weight", None, 192)


def test_missing_misshapen_and_foreign_tensors_are_named(
    tmp_path: Path, tiny_llama_dir: Path
) -> None:
    folder = copy_of(tiny_llama_dir, tmp_path / "m")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] = torch.zeros(192, dtype=torch.int32)
    del tensors["lm_head.weight"]
    save_file(tensors, file)
    weights = open_weights(folder, ignore)

    with pytest.raises(ModelError, match=r"lm_head\.weight is missing"):
        weights.matrix("lm_head.weight", 256, 192)
    with pytest.raises(ModelError, match=r"torch\.int32"):
        weights.vector("model.norm.weight", 192)
    with pytest.raises(ModelError, match=r"\[192\], expected \[191\]"):
        weights.vector("model.layers.0.input_layernorm.weight", 191)


def test_files_named_by_an_index_must_be_there(tmp_path: Path, tiny_llama_dir: Path) -> None:
    folder = copy_of(tiny_llama_dir, tmp_path / "m")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "model.safetensors"}}))
    assert open_weights(folder, ignore).spec.layers == 2

    index.write_text(json.dumps({"weight_map": {"x": "model-00002.safetensors"}}))
    with pytest.raises(ModelError, match=r"model-00002\.safetensors is missing"):
        open_weights(folder, ignore)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", None, "cannot be read"),
        ("config.json", b"{", "not JSON"),
        ("config.json", b"[]", "expected a JSON object"),
        ("model.safetensors", None, r"no \*.safetensors"),
        ("model.safetensors", b"short", "not whole safetensors"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    tmp_path: Path, tiny_llama_dir: Path, name: str, content: bytes | None, reason: str
) -> None:
    folder = copy_of(tiny_llama_dir, tmp_path / "m")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)

    with pytest.raises(ModelError, match=reason):
        open_weights(folder, ignore)
