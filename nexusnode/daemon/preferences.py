"""The settings as the daemon owns them: what the file says, what runs, and changes from the API."""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence

from nexusnode.control.messages import Pair, Schema, Settings, SettingsPatch, SettingView
from nexusnode.settings import (
    CHAT_KEY_FILE,
    FILE_TITLE,
    ROWS,
    TABLE,
    NodeSettings,
    file_of,
    node_settings,
    read_values,
)
from p2p.errors import ConfigError, ControlError
from p2p.paths import Folders, write_private
from p2p.settings import Setting, Value, check_value, read, toml_value, write

CHAT_KEY = "chat.key"
MAX_KEY_BYTES = 512


class Preferences:
    """Reads at once. `flags` are those of the command line: they win over the file while this
    process lives."""

    def __init__(self, folders: Folders, flags: Mapping[str, object]) -> None:
        self._folders = folders
        self._flags = dict(flags)
        self._file = read(TABLE, file_of(folders))
        self._running = read_values(folders, flags)
        self._current = node_settings(self._running)  # raises what makes no sense
        self._revision = 1
        self._listeners: list[Callable[[NodeSettings], None]] = []

    @property
    def current(self) -> NodeSettings:
        return self._current

    @property
    def wanted(self) -> NodeSettings:
        """What a new start would use: the model that was chosen, for one."""
        return node_settings(self._wanted())

    def on_change(self, listener: Callable[[NodeSettings], None]) -> None:
        """Call `listener` with the settings whenever a live one changed."""
        self._listeners.append(listener)

    def view(self) -> Settings:
        pairs = tuple(Pair(key, toml_value(value)) for key, value in self._running.items())
        wanted = self._wanted()
        waiting = tuple(key for key in ROWS if wanted[key] != self._running[key])
        return Settings(self._revision, pairs, waiting)

    def schema(self) -> Schema:
        """Return every row of the table, with what runs now."""
        return Schema(tuple(_row_view(row, self._running[row.key]) for row in TABLE))

    def patch(self, patch: SettingsPatch) -> Settings:
        """Take the whole patch or nothing: `ControlError` names what cannot be used."""
        if patch.if_revision not in (None, self._revision):
            raise ControlError(
                f"the settings are at revision {self._revision}, not {patch.if_revision}:"
                " read them again",
                "control.conflict",
            )
        changes, key = _checked(patch.pairs)
        file = {**self._file, **changes}
        _check_sense(file)
        live = {changed: value for changed, value in changes.items() if ROWS[changed].live}
        _check_sense(self._running | live)  # beside flags and variables, too
        if changes:
            text = write(TABLE, file, FILE_TITLE)
            write_private(file_of(self._folders), text.encode())
        if key is not None:
            write_private(self._folders.data / CHAT_KEY_FILE, key.encode())
        self._file = file
        self._revision += 1
        wanted = self._wanted()
        self._running |= {row.key: wanted[row.key] for row in TABLE if row.live}
        self._current = node_settings(self._running)
        for listener in self._listeners:
            listener(self.current)
        return self.view()

    def chat_key(self) -> str | None:
        """Return the host's API key, if one was stored."""
        try:
            return (self._folders.data / CHAT_KEY_FILE).read_text().strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self._folders.data / CHAT_KEY_FILE}: cannot be read; store the key again"
            ) from error

    def _wanted(self) -> dict[str, Value]:
        """Return what a new start would use."""
        return read(TABLE, file_of(self._folders), environment=os.environ, flags=self._flags)


def _row_view(row: Setting, value: Value) -> SettingView:
    return SettingView(
        key=row.key,
        kind=row.kind.__name__,
        value=toml_value(value),
        default=toml_value(row.default),
        text=row.help,
        low=None if row.low is None else float(row.low),
        high=None if row.high is None else float(row.high),
        choices=row.choices,
        is_live=row.live,
    )


def _checked(pairs: Sequence[Pair]) -> tuple[dict[str, Value], str | None]:
    changes: dict[str, Value] = {}
    chat_key: str | None = None
    for pair in pairs:
        value = _parsed(pair)
        if pair.key == CHAT_KEY:
            is_text = isinstance(value, str) and value.isascii() and value.isprintable()
            if not is_text or len(str(value)) > MAX_KEY_BYTES:
                raise ControlError(f"{CHAT_KEY}: expected an API key as text", "setting.refused")
            chat_key = str(value)
        elif pair.key not in ROWS:
            raise ControlError(f"{pair.key} is not a setting", "setting.refused")
        else:
            try:
                changes[pair.key] = check_value(ROWS[pair.key], value, pair.key)
            except ConfigError as error:
                raise ControlError(str(error), "setting.refused") from error
    return changes, chat_key


def _check_sense(values: Mapping[str, Value]) -> None:
    try:
        node_settings(values)
    except ConfigError as error:
        raise ControlError(str(error), "setting.refused") from error


def _parsed(pair: Pair) -> object:
    try:
        return tomllib.loads(f"value = {pair.value}")["value"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ControlError(f"{pair.key}: the value is not TOML", "setting.refused") from error
