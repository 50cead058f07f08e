"""Moving a folder of models: copied, written out and compared before anything is deleted."""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nexusnode.models.store import file_sha256
from p2p.errors import ResourceError

_SUFFIXES = (".gguf", ".gguf.part", ".gguf.part.json", ".gguf.bad")
_READ_BYTES = 1 << 20


def movable(folder: Path) -> list[Path]:
    """Return the files of a models folder: models and what is left of downloads."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIXES))


def copy_models(
    files: list[Path], target: Path, reserve_bytes: int, keep_going: Callable[[], None]
) -> list[Path]:
    """Have every file in `target` as well, and return the new ones. All of them or none.

    On the same disk a second name is given to the same bytes.

    Args:
        keep_going: called for every megabyte; what it raises ends the copying.

    Raises:
        ResourceError: no room, another file of that name, or bytes that came out differently.
    """
    made: list[Path] = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in files:
            to = target / path.name
            if to.exists():
                raise ResourceError(f"{to} is there already: move or delete it first")
            made.append(to)
            _second_copy(path, to, reserve_bytes, keep_going)
    except BaseException as error:
        for path in made:
            with suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            raise ResourceError(f"{target}: {error.strerror}") from error
        raise
    return made


def _second_copy(path: Path, to: Path, reserve_bytes: int, keep_going: Callable[[], None]) -> None:
    with suppress(OSError):
        os.link(path, to)
        return
    free, needed = shutil.disk_usage(to.parent).free, path.stat().st_size
    if free < needed + reserve_bytes:
        raise ResourceError(
            f"{to.parent}: {free / 1e9:.1f} GB free; {path.name} needs {needed / 1e9:.1f} GB, and"
            f" {reserve_bytes / 1e9:.1f} GB stay free"
        )
    digest = hashlib.sha256()
    with path.open("rb") as source, to.open("xb") as copy:
        while data := source.read(_READ_BYTES):
            keep_going()
            digest.update(data)
            copy.write(data)
        copy.flush()
        os.fsync(copy.fileno())
    if file_sha256(to) != digest.hexdigest():
        raise ResourceError(f"{to}: what was written reads differently: look after that disk")
