"""Reads a target's tensors, from a GGUF or a Hugging Face folder, under one set of names.

A GGUF is dequantised once and kept as safetensors in the user's cache, under the file's SHA-256;
the cache may be deleted at any time. Names and row order are those of transformers.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from p2p.errors import ModelError, ResourceError
from p2p.paths import cache_folder, make_private
from verifier_host.engine.gguf_file import read_gguf
from verifier_host.engine.spec import Fields, ModelSpec, spec_of_config

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
CACHE_FORMAT = 1  # part of the file's name: raise it when names or order change
READ_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's spec and its tensors by transformers' names, each read when it is asked for."""

    where: str
    spec: ModelSpec
    sources: Mapping[str, Callable[[], Tensor]]

    def matrix(self, name: str, outputs: int | None, inputs: int) -> Tensor:
        """Return [outputs, inputs] float; `outputs` None takes at least the vocabulary's rows."""
        found = self._get(name)
        rows = len(found) if outputs is None else outputs
        if found.shape != (rows, inputs) or rows < (outputs or self.spec.vocabulary):
            expected = outputs or f"{self.spec.vocabulary} or more"
            raise ModelError(
                f"{self.where}: {name} is {list(found.shape)}, expected [{expected}, {inputs}]"
            )
        return found

    def vector(self, name: str, size: int) -> Tensor:
        found = self._get(name)
        if found.shape != (size,):
            raise ModelError(f"{self.where}: {name} is {list(found.shape)}, expected [{size}]")
        return found

    def bias(self, name: str, size: int) -> Tensor | None:
        return self.vector(name, size) if name in self.sources else None

    def _get(self, name: str) -> Tensor:
        source = self.sources.get(name)
        if source is None:
            raise ModelError(f"{self.where}: tensor {name} is missing")
        found = source()
        if found.dtype not in FLOATS:
            raise ModelError(f"{self.where}: {name} is {found.dtype}, expected fp32, bf16 or fp16")
        return found


def open_weights(path: Path, progress: Callable[[float, str], None]) -> Weights:
    """Open a `.gguf` file or a folder with config.json and safetensors.

    Raises:
        ModelError: no such model, not one of ours, damaged, or of an unsupported family.
    """
    if path.is_dir():
        return _open_folder(path, progress)
    if not path.is_file():
        raise ModelError(f"{path}: no such file or folder")
    digest = _digest([path], progress)
    cached = cache_folder() / "weights" / f"{digest}-{CACHE_FORMAT}.safetensors"
    try:
        return _open_cached(path, cached)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        pass  # not there yet, or damaged: made anew
    spec, tensors = read_gguf(path, digest, progress)
    _save(cached, spec, tensors, progress)
    return Weights(str(path), spec, {name: _constant(t) for name, t in tensors.items()})


def _open_cached(path: Path, cached: Path) -> Weights:
    with safe_open(cached, framework="pt") as file:
        values = json.loads(file.metadata()["spec"])
        names = list(file.keys())
    if set(values) != {field.name for field in dataclasses.fields(ModelSpec)}:
        raise ValueError("the spec of another version")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Weights(str(path), ModelSpec(**(values | lists)), _sources([cached], names))


def _save(
    cached: Path,
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    progress: Callable[[float, str], None],
) -> None:
    """Keep dequantised tensors for the next start, whole or, without room, not at all."""
    draft = cached.with_name(f".{cached.name}.{os.getpid()}.new")
    try:
        make_private(cached.parent)
        text = json.dumps(dataclasses.asdict(spec))
        save_file(dict(tensors), draft, metadata={"spec": text})
        os.replace(draft, cached)
    except (OSError, SafetensorError, ResourceError) as error:
        progress(1.0, f"weights are not cached ({type(error).__name__}): each start unpacks them")
        with contextlib.suppress(OSError):
            draft.unlink()


def _open_folder(folder: Path, progress: Callable[[float, str], None]) -> Weights:
    config = _json(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        mapping = _json(index).get("weight_map")
        names = set(mapping.values()) if isinstance(mapping, dict) else set()
        files = sorted(folder / str(name) for name in names)
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [file.name for file in files if not file.is_file()]
    if not files or missing:
        what = f"{missing[0]} is missing" if missing else "no *.safetensors are here"
        raise ModelError(f"{folder}: {what}")
    digest = _digest([folder / "config.json", *files], progress)
    end_ids = _end_ids(folder, config)
    fields = Fields(str(folder / "config.json"), config)
    spec = spec_of_config(fields, end_ids, _tokenizer_size(folder), digest)
    try:
        return Weights(str(folder), spec, _sources(files))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: not whole safetensors ({error})") from error


def _sources(
    files: Sequence[Path], names: Sequence[str] | None = None
) -> dict[str, Callable[[], Tensor]]:
    """Map names to reads; the open files live as long as a source does."""
    sources: dict[str, Callable[[], Tensor]] = {}
    for path in files:
        file: Any = safe_open(path, framework="pt")  # its stubs have no types
        for name in names or file.keys():
            sources[name] = partial(file.get_tensor, name)
    return sources


def _constant(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(found).__name__}")
    return found


def _end_ids(folder: Path, config: Mapping[str, object]) -> list[int]:
    """End-of-text ids as `generate` takes them: generation_config's, else config's."""
    generation = folder / "generation_config.json"
    named = _json(generation).get("eos_token_id") if generation.is_file() else None
    named = config.get("eos_token_id") if named is None else named
    ids = named if isinstance(named, list) else [named]
    return [token for token in ids if isinstance(token, int)]


def _tokenizer_size(folder: Path) -> int | None:
    """Return one more than the greatest id of tokenizer.json, None where there is no such file."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    tokenizer = _json(path)
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    ids += [token["id"] for token in added] if isinstance(added, list) else []
    if not ids:
        raise ModelError(f"{path}: holds no vocabulary")
    return int(max(ids)) + 1


def _digest(files: Sequence[Path], progress: Callable[[float, str], None]) -> str:
    total = sum(file.stat().st_size for file in files)
    done, digest = 0, hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
                done += len(chunk)
                progress(done / max(total, 1), "checking the model's SHA-256")
    return digest.hexdigest()
