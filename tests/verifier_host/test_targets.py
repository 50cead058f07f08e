"""Which model a name means."""

import json
from pathlib import Path

import pytest

from p2p.errors import ModelError
from verifier_host import targets
from verifier_host.targets import ModelFacts, Target, cached_json, describe, file_sha256
from verifier_host.targets import find_target as find

CONFIG = {
    "model_type": "qwen2",
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 512,
    "num_hidden_layers": 3,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_folder(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"0" * 200)
    return folder


@pytest.mark.slow
def test_the_bundled_target_is_found_whole_without_importing_its_package() -> None:
    import sys

    target = find("bundled")

    assert target.name == "SmolLM2-135M-Instruct"
    assert target.revision == targets.BUNDLED_SHA256
    assert target.is_gguf
    assert targets.BUNDLED_PACKAGE not in sys.modules


def test_a_bundled_file_with_other_bytes_is_refused_with_the_way_out(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF other")

    with pytest.raises(ModelError, match=r"expected b179c95.*--force-reinstall"):
        targets._check_bundled(other, "x")


def test_the_default_target_that_is_not_here_names_the_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(ModelError, match=r'hf download Qwen/Qwen2.5.*model.path = "bundled"'):
        find("Qwen/Qwen2.5-72B-Instruct")


def test_a_downloaded_repository_is_found_by_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    commit = "a" * 40
    make_folder(tmp_path / "hub" / "models--org--name" / "snapshots" / commit)

    target = find("org/name")

    assert (target.name, target.revision, target.is_gguf) == ("name", commit, False)


def test_a_path_that_is_nowhere_says_so() -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        find("/nowhere/model.gguf")


def test_a_gguf_goes_by_its_file_name_or_the_given_one(tmp_path: Path) -> None:
    path = tmp_path / "my-model.gguf"
    path.write_bytes(b"GGUF and more")

    assert find(str(path)).name == "my-model"
    assert find(str(path), "served").name == "served"
    assert find(str(path)).revision == file_sha256(path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"PK\3\4")

    with pytest.raises(ModelError, match="not a GGUF"):
        find(str(path))


@pytest.mark.parametrize("cut", [4, 20, 100])
def test_a_gguf_that_ends_early_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.gguf"
    head = b"GGUF" + (3).to_bytes(4, "little") + (5).to_bytes(8, "little") * 2
    path.write_bytes((head + b"\1" * 100)[:cut])

    with pytest.raises(ModelError, match=r"cut\.gguf"):
        describe(Target("x", path, True, "0" * 64))


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = file_sha256(path)
    (note,) = (cache / "nexus" / "hashes").iterdir()
    note.write_text("f" * 64)

    assert file_sha256(path) == "f" * 64
    path.write_bytes(b"three")
    assert file_sha256(path) not in (first, "f" * 64)


def test_a_damaged_note_is_made_anew(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = file_sha256(path)
    (note,) = (cache / "nexus" / "hashes").iterdir()
    note.write_text("nonsense")

    assert file_sha256(path) == first


def test_kept_facts_are_made_anew_when_damaged_or_of_another_version(cache: Path) -> None:
    made = []

    def make() -> dict[str, object]:
        made.append(1)
        return {"a": 1}

    assert cached_json("x/y.json", 1, make) == cached_json("x/y.json", 1, make) == {"a": 1}
    assert len(made) == 1
    cached_json("x/y.json", 2, make)
    for damage in ("{", "[]", '{"version": 2}'):
        (cache / "nexus" / "x" / "y.json").write_text(damage)
        cached_json("x/y.json", 2, make)
    assert len(made) == 5


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocked").write_text("a file, not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))

    assert cached_json("x.json", 1, lambda: {"a": 1}) == {"a": 1}


def test_a_folder_states_its_shape(tmp_path: Path) -> None:
    target = find(str(make_folder(tmp_path / "model")))

    assert describe(target) == ModelFacts("qwen2", "bf16", 100, 3, 2, 64, 1000, 4096)


def test_a_folder_s_revision_follows_its_content(tmp_path: Path) -> None:
    one = find(str(make_folder(tmp_path / "one")))
    same = find(str(make_folder(tmp_path / "same")))
    other = find(str(make_folder(tmp_path / "other", vocab_size=7)))

    assert one.revision == same.revision != other.revision


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_not_whole_names_what_is_missing(tmp_path: Path, missing: str) -> None:
    folder = make_folder(tmp_path / "model")
    (folder / missing).unlink()

    with pytest.raises(ModelError, match="safetensors" if "safe" in missing else missing):
        find(str(folder))


def test_weights_that_the_index_lists_must_be_there(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(ModelError, match=r"model-2\.safetensors"):
        find(str(folder))


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"model_type": "x"}'])
def test_a_configuration_that_says_too_little_is_named(tmp_path: Path, config: str) -> None:
    folder = make_folder(tmp_path / "model")
    target = find(str(folder))
    (folder / "config.json").write_text(config)

    with pytest.raises(ModelError, match=r"config\.json"):
        describe(target)
