"""Writing a file that the user has chosen a place for: whole or not at all."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from p2p.errors import ControlError, ResourceError


def write_chosen(path_text: str, pieces: Iterable[bytes]) -> int:
    """Write the pieces to the chosen path, in place of a file that is there; return the bytes.

    Raises:
        ControlError: the path is a folder, or starts nowhere.
        ResourceError: the disk does not take it; what was there is still there.
    """
    path = Path(path_text).expanduser()
    if not path.is_absolute():
        raise ControlError(f"{path_text}: expected a whole path, from the root on")
    if path.is_dir():
        raise ControlError(f"{path} is a folder: choose a file's name in it")
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with draft.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise ResourceError(f"{path}: cannot be written ({error.strerror})") from error
    return size
