"""The identity of this machine on disk: 32 raw seed bytes that only their owner may read.

One key serves libp2p, frames, records and receipts; each use signs under its own prefix.
"""

import errno
import os
import stat
from pathlib import Path

from p2p.errors import ConfigError
from p2p.wire.identity import SEED_BYTES

_OTHERS = 0o077


def load_or_create_seed(path: Path) -> bytes:
    """Return the seed kept in `path`, made and written to disk first if there is none.

    Raises:
        ConfigError: the file is a link, is no plain file, may be read by others, or has another
            size. It is never replaced: losing it means losing the peer's name and its credit.
    """
    try:
        return _create(path)
    except FileExistsError:
        return load_seed(path)


def load_seed(path: Path) -> bytes:
    """Return the seed kept in `path`; `ConfigError` as above, and if there is no file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no identity here; it is made at the first start") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigError(
                f"{path}: the identity is a symbolic link; expected a plain file"
            ) from error
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError(f"{path}: the identity is no plain file")
        if about.st_mode & _OTHERS:
            raise ConfigError(
                f"{path}: the identity has mode {stat.S_IMODE(about.st_mode):04o}, so others may "
                f"use it; run: chmod 600 {path}"
            )
        seed = os.read(handle, SEED_BYTES + 1)
    finally:
        os.close(handle)
    if len(seed) != SEED_BYTES:
        raise ConfigError(
            f"{path}: the identity has {about.st_size} bytes, expected {SEED_BYTES}; restore it "
            "from a copy, or move it away to become a new peer"
        )
    return seed


def _create(path: Path) -> bytes:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: cannot be made: {error.strerror}") from error
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: the identity cannot be made: {error.strerror}") from error
    seed = os.urandom(SEED_BYTES)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(seed)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        path.unlink()
        raise ConfigError(f"{path}: the identity cannot be written: {error.strerror}") from error
    return seed


def _sync_folder(folder: Path) -> None:
    """Make the name durable too: without it a crash may leave no file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
