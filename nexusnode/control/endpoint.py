"""Where the control API is met: one locked data folder, one Unix socket that only its owner can
use.

Windows would need a named pipe here; everything else of the room would stay.
"""

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from p2p.errors import AlreadyRunning, NoDaemon, ResourceError
from p2p.paths import make_private

BACKLOG = 16


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Own the data folder of `path` while inside. `AlreadyRunning` names the process that does."""
    make_private(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunning(
                f"a node already runs on {path.parent} (process {owner})."
                " See it with `nexusnode status`, end it with `nexusnode stop`."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(
            descriptor
        )  # releases the lock; the file stays, so that no two ever lock two files


@contextmanager
def bound_socket(path: Path) -> Iterator[socket.socket]:
    """Listen on `path`, mode 0600 in a folder 0700. Call with the lock held: a stale socket
    goes."""
    folder = path.parent
    for part in (folder.parent, folder):
        _check_folder(make_private(part))
    folder.chmod(0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def connect(path: Path, timeout_seconds: float) -> socket.socket:
    """Return a blocking connection to the daemon; `NoDaemon` if none answers."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_seconds)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise NoDaemon(
            "no node answers for this data folder. Start one with `nexusnode run`"
            " (with the same --data, if you use it)."
        ) from error
    if peer_uid(connection.getsockopt) not in (None, os.getuid()):
        connection.close()
        raise NoDaemon(
            f"{path}: another user answers there; set XDG_RUNTIME_DIR to a folder of yours"
        )
    return connection


def peer_uid(getsockopt: Callable[[int, int, int], bytes]) -> int | None:
    """Return the user at a connection's other end; None where the system cannot say.

    There the mode of the socket guards alone.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", getsockopt(socket.SOL_SOCKET, option, size))
    return int(uid)


def _check_folder(folder: Path) -> None:
    """Refuse a runtime folder that another user could have laid out for us in a shared /tmp."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ResourceError(
            f"{folder}: is not a folder of this user; remove it or set XDG_RUNTIME_DIR"
        )
    if status.st_mode & 0o022:
        raise ResourceError(f"{folder}: others may write to it; run: chmod 700 {folder}")
