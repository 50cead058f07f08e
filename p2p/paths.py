"""Where a Nexus process keeps what: configuration, data, logs, cache and its local socket.

`--data DIR` puts everything of one node or host under DIR, so that two on one machine never meet
and every command finds its own daemon.
"""

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from p2p.errors import ConfigError, ResourceError

APPLICATION = "nexus"
MAX_SOCKET_BYTES = 100  # sun_path holds 108 on Linux, 104 on macOS, its final zero included


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one role ("node" or "host") on this machine."""

    config: Path
    data: Path
    logs: Path

    @property
    def identity(self) -> Path:
        return self.data / "identity"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    @property
    def models(self) -> Path:
        return self.data / "models"


def folders(role: str, under: Path | None = None) -> Folders:
    """Return the folders of `role`, all of them below `under` if given. Nothing is created."""
    if under is not None:
        root = under.expanduser().resolve()
        return Folders(config=root, data=root, logs=root / "logs")
    return Folders(
        config=Path(platformdirs.user_config_dir(APPLICATION)),
        data=Path(platformdirs.user_data_dir(APPLICATION)) / role,
        logs=Path(platformdirs.user_state_dir(APPLICATION)) / role,
    )


def cache_folder() -> Path:
    """Return the folder for what can be made again: unpacked weights, tokenizers."""
    return Path(platformdirs.user_cache_dir(APPLICATION))


def frozen_program() -> Path | None:
    """Return the packaged app's program file; None when Python runs us from its own packages."""
    return Path(sys.executable) if getattr(sys, "frozen", False) else None


def make_private(folder: Path) -> Path:
    """Create `folder` (0700) if it is missing and return it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be created ({error.strerror})") from error
    return folder


def socket_path(data: Path) -> Path:
    """Return the control socket of the daemon that owns `data`.

    It lies in the runtime folder, not in `data`: a socket's path may not be longer than ~100 bytes.
    """
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path(tempfile.gettempdir()) / f"nexus-{os.getuid()}"
    path = folder / APPLICATION / f"nexus-{name}.sock"
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_BYTES:
        raise ConfigError(
            f"{path}: a socket path of {size} bytes; {MAX_SOCKET_BYTES} are possible."
            " Set XDG_RUNTIME_DIR to a shorter folder."
        )
    return path


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, mode 0600, whole or not at all."""
    make_private(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ResourceError(f"{path}: cannot be written ({error.strerror})") from error
