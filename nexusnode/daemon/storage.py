"""What this node takes on the disk, and removing what is left over. Blocking: use a thread."""

import os
import shutil
from pathlib import Path

from nexusnode.control.messages import FolderView, Storage
from nexusnode.models.partial import Source, partials
from p2p.errors import ResourceError
from p2p.paths import Folders

PARTIAL_SUFFIXES = (".part", ".part.json", ".bad")


def measure(folders: Folders, models: Path) -> Storage:
    """Return every folder with its bytes; one inside another is counted once, by itself."""
    named = {"models": models, "logs": folders.logs, "data": folders.data}
    if folders.config != folders.data:
        named["settings"] = folders.config
    views = []
    for name, path in named.items():
        others = {other for other in named.values() if other != path}
        size, partial = _size(path, others)
        views.append(FolderView(name, str(path), size, partial))
    return Storage(tuple(views))


def free_bytes(folder: Path) -> int:
    """Return what is free on the disk that holds a folder, or would hold it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def partial_downloads(folder: Path) -> list[tuple[Path, Source, int]]:
    try:
        return partials(folder)
    except OSError:
        return []


def remove_copied(files: list[Path], folder: Path) -> None:
    """Remove what has a copy elsewhere, and the folder if nothing of the user's is left in it."""
    try:
        for path in files:
            path.unlink(missing_ok=True)
        (folder / "hashes.json").unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise ResourceError(
            f"{folder}: the models were copied, but not removed there ({error.strerror})"
        ) from error


def remove_left(folder: Path, running: set[str]) -> None:
    """Remove files of a wrong hash, and parts that no download knows."""
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            whole = path.name.removesuffix(".json").removesuffix(".part").removesuffix(".bad")
            if path.name.endswith(PARTIAL_SUFFIXES) and whole not in running:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror}") from error


def _size(root: Path, others: set[Path]) -> tuple[int, int]:
    """Return the bytes below a folder and those of downloads that are not whole."""
    size = partial = 0
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if Path(folder, name) not in others]
        for name in files:
            try:
                bytes_here = os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # gone meanwhile
                continue
            size += bytes_here
            partial += bytes_here if name.endswith(PARTIAL_SUFFIXES) else 0
    return size, partial
