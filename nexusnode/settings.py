"""The settings of a node: rows of the one table that feeds `node.toml`, control API and
`--help`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexusnode.limits import limits_of
from nexusnode.policy.facts import Limits
from p2p.paths import Folders
from p2p.settings import Setting, Value, read

FILE = "node.toml"
CHAT_KEY_FILE = "chat-key"
FILE_TITLE = (
    "Settings of a Nexus node. A line with # shows the default.\n"
    "The node rewrites this file when a setting is changed through it; comments of yours are lost."
)

TABLE = (
    Setting(
        "run.when",
        str,
        "idle",
        "When to draft: while you are away, or always.",
        choices=("idle", "always"),
        live=True,
    ),
    Setting(
        "run.idle_minutes",
        int,
        5,
        "Minutes without a key, click or move after which you count as away.",
        low=1,
        high=60,
        live=True,
    ),
    Setting(
        "run.hours",
        list,
        (),
        'Hours of the week in which it may draft, such as "mon-fri 18:00-23:30" or'
        ' "sat 00:00-24:00",\non quarter hours; empty = all.',
        high=168,
        live=True,
    ),
    Setting(
        "run.timezone",
        str,
        "",
        "Whose clock these hours are in, such as Europe/Berlin; empty = this computer's.",
        high=64,
        live=True,
    ),
    Setting("run.on_battery", bool, False, "Draft on battery too.", live=True),
    Setting(
        "run.battery_percent",
        int,
        80,
        "On battery, draft only while it is charged so far.",
        low=0,
        high=100,
        live=True,
    ),
    Setting("run.fullscreen", bool, True, "Pause while a program fills the screen.", live=True),
    Setting(
        "run.apps",
        list,
        (),
        'Programs beside which it does not draft, such as "blender".',
        high=64,
        live=True,
    ),
    Setting(
        "limits.hot_celsius",
        int,
        80,
        "Pause when the computer is so hot.",
        low=40,
        high=110,
        live=True,
    ),
    Setting(
        "limits.cool_celsius",
        int,
        72,
        "Compute less above it; after a pause for heat, go on below it.",
        low=30,
        high=105,
        live=True,
    ),
    Setting(
        "limits.duty",
        float,
        1.0,
        "Share of the time that the draft model may compute, 0.05 to 1.",
        low=0.05,
        high=1,
        live=True,
    ),
    Setting(
        "limits.memory_reserve_mb",
        int,
        512,
        "Memory that stays free beside the draft model.",
        low=0,
        high=1_048_576,
        live=True,
    ),
    Setting(
        "limits.disk_reserve_gb",
        int,
        5,
        "Pause while less is free on the disk of the node's folder.",
        low=0,
        high=100_000,
        live=True,
    ),
    Setting(
        "limits.gb_per_day",
        float,
        10.0,
        "Data that drafts may send and receive a day; 0 = no limit.",
        low=0,
        high=100_000,
        live=True,
    ),
    Setting(
        "limits.metered",
        bool,
        False,
        "Draft also over a connection that counts data, such as a phone's.",
        live=True,
    ),
    Setting(
        "limits.threads",
        int,
        0,
        "Threads of the draft model; 0 = half the cores, at most 4.",
        low=0,
        high=64,
    ),
    Setting("limits.sessions", int, 8, "Answers drafted at the same time.", low=1, high=64),
    Setting(
        "limits.context",
        int,
        4096,
        "Tokens that one session may hold, prompt included.",
        low=256,
        high=131_072,
    ),
    Setting(
        "limits.down_mbit",
        float,
        0.0,
        "How fast models are downloaded, in Mbit/s; 0 = as fast as it goes.",
        low=0,
        high=100_000,
        live=True,
    ),
    Setting(
        "models.draft",
        str,
        "",
        "The draft model: a GGUF file, or a name of `nexusnode models list`.\n"
        "Empty = the small one that came with this package.",
        high=4096,
    ),
    Setting(
        "models.folder",
        str,
        "",
        "Where models lie. Empty = `models` in the data folder.\n"
        "The window's Move takes the files along; a change here does not.",
        high=4096,
        live=True,
    ),
    Setting(
        "network.listen",
        list,
        (),
        "Addresses to listen on, such as /ip4/0.0.0.0/tcp/4001. A node needs none: it dials.",
        high=8,
    ),
    Setting(
        "hosts.bootstrap",
        list,
        (),
        "Peers through which hosts are found, such as /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW….",
        high=32,
    ),
    Setting(
        "hosts.allow",
        list,
        (),
        "Peer ids of the only hosts to draft for; empty = every host that asks for the model.",
        high=64,
    ),
    Setting(
        "chat.url",
        str,
        "",
        "Address of a host's HTTP API for `nexusnode chat`, such as http://127.0.0.1:8000/v1.",
        high=1024,
        live=True,
    ),
)
ROWS = {row.key: row for row in TABLE}


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The table's values by name."""

    limits: Limits
    threads: int
    sessions: int
    context: int
    draft: str
    models_folder: str
    down_mbit: float
    listen: tuple[str, ...]
    bootstrap: tuple[str, ...]
    allow: tuple[str, ...]
    chat_url: str


def read_values(folders: Folders, flags: Mapping[str, object] | None = None) -> dict[str, Value]:
    """Return every setting by key: flag, variable, `node.toml`, default, in this order."""
    return read(TABLE, folders.config / FILE, environment=os.environ, flags=flags)


def node_settings(values: Mapping[str, Value]) -> NodeSettings:
    """Return the values as what they are; `read` has checked their types.

    Raises:
        ConfigError: hours, time zone or temperatures that make no sense.
    """
    return NodeSettings(
        limits=limits_of(values),
        threads=_integer(values, "limits.threads"),
        sessions=_integer(values, "limits.sessions"),
        context=_integer(values, "limits.context"),
        draft=str(values["models.draft"]),
        models_folder=str(values["models.folder"]),
        down_mbit=float(str(values["limits.down_mbit"])),
        listen=_texts(values, "network.listen"),
        bootstrap=_texts(values, "hosts.bootstrap"),
        allow=_texts(values, "hosts.allow"),
        chat_url=str(values["chat.url"]),
    )


def models_folder(folders: Folders, settings: NodeSettings) -> Path:
    """Return where this node's models lie."""
    chosen = settings.models_folder
    return Path(chosen).expanduser() if chosen else folders.models


def file_of(folders: Folders) -> Path:
    return folders.config / FILE


def _integer(values: Mapping[str, Value], key: str) -> int:
    value = values[key]
    assert isinstance(value, int)
    return value


def _texts(values: Mapping[str, Value], key: str) -> tuple[str, ...]:
    value = values[key]
    assert isinstance(value, tuple)
    return value
