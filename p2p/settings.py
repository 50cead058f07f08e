"""One table of settings feeds everything: TOML reader, commented file, `--help`, control API.

A role lists its settings once as `Setting` rows (`verifier_host/config.py`,
`nexusnode/settings.py`). `read` resolves them in the order flag, environment
(`NEXUS_SECTION_KEY`), file, default, and names file, line and key of whatever cannot be used.
`write` makes the commented file.

    TABLE = (
        Setting("api.listen", str, "127.0.0.1:8000", "Address of the HTTP API."),
        Setting("model.threads", int, 0, "Threads of the engine; 0 = all cores.", low=0, high=256),
        Setting("network.drafting", str, "allowlist", "Who may draft.", choices=("off", "open")),
        Setting("network.allow_nodes", list, (), "Peer ids that may draft."),
    )
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2p.errors import ConfigError

Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Attributes:
        key: `section.name`, as in the file.
        kind: str, int, float, bool, or list (of strings; values are tuples).
        low, high: bounds of a number, or of a text's or list's length.
        choices: what a text may be; empty = anything.
        live: takes effect without a restart.
    """

    key: str
    kind: type
    default: Value
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "NEXUS_" + self.key.replace(".", "_").upper()


def read(
    table: Sequence[Setting],
    path: Path | None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> dict[str, Value]:
    """Return every setting of `table` by key.

    Args:
        path: the TOML file; None or a missing file = defaults.
        environment: usually `os.environ`.
        flags: values by key from the command line; None values do not count.

    Raises:
        ConfigError: names file, line and key (or variable, or flag), what was found and expected.
    """
    rows = {row.key: row for row in table}
    values = {row.key: row.default for row in table}
    if path is not None and path.exists():
        values |= _read_file(rows, path)
    for row in table:
        text = (environment or {}).get(row.variable)
        if text is not None:
            values[row.key] = _check(row, _from_text(row, text), f"variable {row.variable}")
        given = (flags or {}).get(row.key)
        if given is not None:
            values[row.key] = _check(row, given, f"flag for {row.key}")
    return values


def check_value(row: Setting, value: object, where: str) -> Value:
    """Return `value` as this setting keeps it; `ConfigError` starts with `where`."""
    return _check(row, value, where)


def write(table: Sequence[Setting], values: Mapping[str, Value], title: str) -> str:
    """Return a commented TOML file. A value equal to its default is written as a comment."""
    lines = [f"# {line}" for line in title.splitlines()]
    section = None
    for row in table:
        if row.section != section:
            section = row.section
            lines += ["", f"[{section}]"]
        value = values.get(row.key, row.default)
        lines += [f"# {part}" for part in _explain(row)]
        lines.append(f"{'# ' if value == row.default else ''}{row.name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


def toml_value(value: Value) -> str:
    """Return `value` as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return str(value)


def _explain(row: Setting) -> list[str]:
    lines = row.help.splitlines()
    if row.choices:
        lines.append("One of: " + ", ".join(row.choices) + ".")
    return lines


def _read_file(rows: Mapping[str, Setting], path: Path) -> dict[str, Value]:
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    values: dict[str, Value] = {}
    for key, value in _flatten(document, "").items():
        where = f"{path.name} line {_line_of(text, key)}: {key}"
        row = rows.get(key)
        if row is None:
            raise ConfigError(f"{where} is not a setting.{_suggest(key, rows)}")
        values[key] = _check(row, value, where)
    return values


def _flatten(document: Mapping[str, object], prefix: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _line_of(text: str, key: str) -> int:
    """Find the key's line: tomllib does not say. Dotted and quoted keys are found by their name."""
    section, _, name = key.rpartition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            current = header.group(1).strip()
        found = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line)
        if found and (current, found.group(1)) in ((section, name), ("", key)):
            return number
    return 1


def _suggest(key: str, rows: Mapping[str, Setting]) -> str:
    name = key.rpartition(".")[2]
    near = [known for known in rows if known.rpartition(".")[2] == name]
    if near:
        return f" Did you mean {near[0]}?"
    return " Known are: " + ", ".join(sorted(rows)) + "."


def _from_text(row: Setting, text: str) -> object:
    """Read an environment variable: lists are separated by commas."""
    if row.kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if row.kind is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return row.kind(text)
    except ValueError:
        return text


def _check(row: Setting, value: object, where: str) -> Value:
    shown = toml_value(value) if isinstance(value, str | int | float | bool) else str(value)
    expected = _expectation(row)
    if row.kind is float and type(value) is int:
        value = float(value)
    if row.kind is list and isinstance(value, list | tuple):
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{where} = {shown}: expected {expected}")
        value = tuple(value)
    kind = tuple if row.kind is list else row.kind
    if type(value) is not kind:
        raise ConfigError(f"{where} = {shown}: expected {expected}")
    size = len(value) if isinstance(value, str | tuple) else value
    assert isinstance(size, int | float)
    if (row.low is not None and size < row.low) or (row.high is not None and size > row.high):
        raise ConfigError(f"{where} = {shown}: expected {expected}")
    if row.choices and value not in row.choices:
        raise ConfigError(f"{where} = {shown}: expected {expected}")
    assert isinstance(value, str | int | float | bool | tuple)
    return value


def _expectation(row: Setting) -> str:
    if row.choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in row.choices)
    words = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}
    text = words.get(row.kind, "a list of texts")
    unit = " characters" if row.kind is str else " items" if row.kind is list else ""
    if row.low is not None and row.high is not None:
        return f"{text} of {row.low:g} to {row.high:g}{unit}"
    if row.low is not None:
        return f"{text} of {row.low:g}{unit} or more"
    return text if row.high is None else f"{text} of at most {row.high:g}{unit}"
