"""The models folder: which files are there, what they hash to; and the bundled draft."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nexusnode.models.catalogue import BUNDLED, bundled_path
from p2p.errors import ModelError, ResourceError

_HASHES = "hashes.json"
_MAX_HASHES_BYTES = 1 << 20
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file on this machine. `name` is its file name without `.gguf`."""

    name: str
    path: Path
    size_bytes: int
    is_bundled: bool


class ModelStore:
    """Models of one data folder. `folder` need not exist."""

    def __init__(self, folder: Path, bundled: Path | None = None) -> None:
        self._folder = folder
        self._bundled = bundled_path() if bundled is None else bundled

    @property
    def bundled(self) -> Path:
        """The bundled draft's file."""
        return self._bundled

    def models(self) -> list[LocalModel]:
        """Return the bundled draft, then the folder's files by name."""
        found = [_local(self._bundled, is_bundled=True)] if self._bundled.is_file() else []
        files = sorted(self._folder.glob("*.gguf")) if self._folder.is_dir() else []
        found += [_local(path, is_bundled=False) for path in files if path.is_file()]
        return found

    def path(self, name: str) -> Path:
        """Return the file of the model `name`, with or without `.gguf`.

        Raises:
            ModelError: there is none; the ones that are there are named.
        """
        return self._find(name).path

    def delete(self, name: str) -> None:
        """Remove the model `name` from the folder. The bundled draft stays: `ModelError`."""
        model = self._find(name)
        if model.is_bundled:
            raise ModelError(f"{model.name} comes with the program and cannot be deleted")
        try:
            model.path.unlink()
        except OSError as error:
            raise ResourceError(f"{model.path}: {error.strerror}") from error

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file in hex; a file that did not change is not read again.

        Reading takes seconds: call it in a thread. Unchanged means the same size, time of change
        (ns) and inode.
        """
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
            hashes = self._hashes()
            known = hashes.get(str(path))
            if isinstance(known, list) and known[:-1] == stamp and isinstance(known[-1], str):
                return known[-1]
            digest = file_sha256(path)
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from error
        self._remember({**hashes, str(path): [*stamp, digest]})
        return digest

    def check_bundled(self) -> Path:
        """Return the bundled draft's path once its bytes are seen to be the published ones."""
        found = self.sha256(self._bundled)
        if found != BUNDLED.sha256:
            raise ModelError(
                f"{self._bundled}: SHA-256 is {found[:16]}…, expected {BUNDLED.sha256[:16]}…: "
                "install the program again"
            )
        return self._bundled

    def _find(self, name: str) -> LocalModel:
        models = self.models()
        wanted = name.removesuffix(".gguf")
        for model in models:
            if model.name == wanted:
                return model
        there = ", ".join(model.name for model in models) or "none"
        raise ModelError(f"no model named {wanted!r} is here; there are: {there}")

    def _hashes(self) -> dict[str, object]:
        file = self._folder / _HASHES
        try:
            with file.open("rb") as opened:
                hashes = json.loads(opened.read(_MAX_HASHES_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}  # a cache: what cannot be read is made again
        return hashes if isinstance(hashes, dict) else {}

    def _remember(self, hashes: dict[str, object]) -> None:
        """Write the cache without files that are gone; an unwritable folder has none."""
        kept = {name: entry for name, entry in hashes.items() if os.path.exists(name)}
        temporary = self._folder / f"{_HASHES}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(kept))
            temporary.replace(self._folder / _HASHES)
        except OSError:
            with suppress(OSError):
                temporary.unlink()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex. `OSError` as reading raises it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _local(path: Path, is_bundled: bool) -> LocalModel:
    return LocalModel(
        name=path.name.removesuffix(".gguf"),
        path=path,
        size_bytes=path.stat().st_size,
        is_bundled=is_bundled,
    )
