"""The user's pause on disk, `pause.json` in the data folder: a restart does not end it.

No file = no pause. A file that cannot be read counts as a pause, as somebody asked for one.
"""

import json
import math
from pathlib import Path

from nexusnode.policy.facts import Moment, Wish
from p2p.errors import ConfigError, NexusError, ResourceError
from p2p.log import Log
from p2p.paths import write_private

PAUSE_FILE = "pause.json"
VERSION = 1
MAX_BYTES = 1024
MAX_UNIX_SECONDS = 253_402_300_799  # the end of year 9999, the last that can be shown


class KeptWish:
    """Reads and writes at once: from a thread, where others wait."""

    def __init__(self, data: Path, log: Log) -> None:
        self._path = data / PAUSE_FILE
        self._log = log

    def read(self) -> Wish:
        """Return what was asked for last; a pause of unknown length if that cannot be said."""
        try:
            wish = _read(self._path)
        except ConfigError as error:
            self._log.warning("pause.damaged", reason=str(error))
            return Wish(paused=True, is_unknown=True)
        if wish.paused:
            self._log.event("pause.kept", until=wish.unix_until)
        return wish

    def write(self, wish: Wish, now: Moment) -> None:
        """Keep a pause, or forget the last one. `ResourceError` if the disk does not take it.

        A pause by length is kept as one by the clock: no other clock outlasts a reboot.
        """
        try:
            if wish.paused or wish.finish_until is not None:
                said = {"version": VERSION, "until": _until(wish, now)}
                write_private(self._path, json.dumps(said).encode())
            else:
                self._path.unlink(missing_ok=True)
        except (NexusError, OSError) as error:
            raise ResourceError(f"done, but it will not outlast a restart: {error}") from error


def _until(wish: Wish, now: Moment) -> int | None:
    if wish.boot_until is not None:
        return math.ceil(now.unix_seconds + wish.boot_until - now.boot_seconds)
    return None if wish.unix_until is None else math.ceil(wish.unix_until)


def _read(path: Path) -> Wish:
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(MAX_BYTES))
    except FileNotFoundError:
        return Wish()
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from error
    if not isinstance(said, dict) or set(said) != {"version", "until"}:
        raise ConfigError(f"{path}: expected an object of version and until")
    if said["version"] != VERSION:
        raise ConfigError(f"{path}: expected version {VERSION}")
    until = said["until"]
    if until is None:
        return Wish(paused=True)
    if type(until) is not int or not 0 <= until <= MAX_UNIX_SECONDS:
        raise ConfigError(f"{path}: until: expected null or unix seconds")
    return Wish(paused=True, unix_until=until)
