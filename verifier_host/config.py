"""The host's settings: one table (file, environment, `--help`), and its values checked."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from p2p.errors import ConfigError
from p2p.settings import Setting, Value, read
from p2p.wire.identity import PeerId

FILE = "verifier.toml"
BUNDLED = "bundled"
DEFAULT_TARGET = "Qwen/Qwen2.5-72B-Instruct"
DRAFTING = ("off", "allowlist", "open")

TABLE = (
    Setting(
        "model.path",
        str,
        DEFAULT_TARGET,
        "The target: a GGUF file, a folder of safetensors, a Hugging Face id that is already\n"
        'downloaded, or "bundled" for the small one that came with the installation.',
        low=1,
        high=4096,
    ),
    Setting("model.name", str, "", "The name clients ask for; empty = the model's own.", high=256),
    Setting(
        "model.dtype",
        str,
        "bf16",
        "Arithmetic of the engine. fp32 is twice as large and, on a CPU, slower.",
        choices=("fp32", "bf16"),
    ),
    Setting("model.threads", int, 0, "Threads of the engine; 0 = all cores.", low=0, high=1024),
    Setting(
        "model.kv_tokens",
        int,
        0,
        "Tokens of KV memory for all requests together; 0 = as many as memory allows.",
        low=0,
        high=2**40,
    ),
    Setting(
        "model.max_context",
        int,
        0,
        "Longest prompt and answer together, in tokens; 0 = what the model was made for.",
        low=0,
        high=2**20,
    ),
    Setting("model.max_rows", int, 64, "Rows of one step at most.", low=16, high=1024),
    Setting("api.listen", str, "127.0.0.1:8000", "Address of the HTTP API; port 0 = any free one."),
    Setting(
        "api.keys_required",
        bool,
        True,
        "Ask for an API key (nexus-verifier keys). Off only on a loopback address.",
    ),
    Setting("metrics.listen", str, "127.0.0.1:9464", "Address of the metrics, for Prometheus."),
    Setting(
        "network.drafting",
        str,
        "allowlist",
        "Whose nodes may draft, and so see prompts and answers in clear: nobody's, those listed\n"
        "in allow_nodes, or anybody's. A request with nexus.draft = false is never shown to any.",
        choices=DRAFTING,
    ),
    Setting(
        "network.allow_nodes",
        list,
        (),
        "Peer ids that may draft (nexusnode id prints a node's).",
        high=10_000,
    ),
    Setting(
        "network.listen",
        list,
        ("/ip4/127.0.0.1/tcp/4713",),
        "Multiaddrs for nodes to dial. For nodes on other machines: /ip4/0.0.0.0/tcp/4713.",
        low=1,
        high=8,
    ),
    Setting(
        "network.announce",
        list,
        (),
        "Multiaddrs to tell others instead of this machine's own: needed behind a NAT.",
        high=8,
    ),
    Setting("network.bootstrap", list, (), "Multiaddrs of peers to start from.", high=32),
    Setting("network.max_nodes", int, 64, "Nodes connected at a time.", low=1, high=256),
    Setting(
        "network.max_nodes_per_address",
        int,
        8,
        "Nodes connected at a time from one IPv4 address or IPv6 /64; this machine's do not count.",
        low=1,
        high=256,
    ),
    Setting(
        "network.nodes_per_session", int, 1, "Nodes that draft for one request.", low=1, high=2
    ),
    Setting(
        "drafting.ngram",
        bool,
        True,
        "Let the host draft from what repeats in a text: needs no node, shows nobody anything. A\n"
        "request with nexus.draft = false stays plain.",
    ),
    Setting(
        "drafting.always",
        bool,
        False,
        "Draft even where plain decoding was measured to be faster. For experiments.",
    ),
    Setting(
        "limits.max_tokens",
        int,
        0,
        "Tokens of one answer at most; 0 = the context.",
        low=0,
        high=2**20,
    ),
    Setting("limits.waiting", int, 64, "Choices that may wait for the engine.", low=1, high=4096),
    Setting(
        "limits.wait_seconds", int, 30, "Longest estimated wait that is accepted.", low=1, high=3600
    ),
    Setting("log.json", bool, False, "One JSON object per line instead of text."),
)


@dataclass(frozen=True, slots=True)
class Socket:
    """An address to listen on."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    def url(self, port: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Every setting of a host, checked."""

    model_path: str
    model_name: str
    dtype: str
    threads: int
    kv_tokens: int
    max_context: int
    max_rows: int
    api: Socket
    keys_required: bool
    metrics: Socket
    drafting: str
    allow_nodes: frozenset[PeerId]
    listen: tuple[str, ...]
    announce: tuple[str, ...]
    bootstrap: tuple[str, ...]
    max_nodes: int
    max_nodes_per_address: int
    nodes_per_session: int
    ngram: bool
    drafts_always: bool
    max_tokens: int
    waiting: int
    wait_seconds: int
    log_json: bool


def load_config(
    path: Path | None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> HostConfig:
    """Return the settings from flags, environment, file and defaults, in that order.

    Raises:
        ConfigError: names file, line and key, or variable, of what cannot be used.
    """
    variables = os.environ if environment is None else environment
    values = read(TABLE, path, environment=variables, flags=flags)
    checked = _Checked(values, _Places(path, variables))
    config = HostConfig(
        model_path=checked.plain("model.path", str),
        model_name=checked.plain("model.name", str),
        dtype=checked.plain("model.dtype", str),
        threads=checked.plain("model.threads", int),
        kv_tokens=checked.plain("model.kv_tokens", int),
        max_context=checked.plain("model.max_context", int),
        max_rows=checked.plain("model.max_rows", int),
        api=checked.parsed("api.listen", _socket),
        keys_required=checked.plain("api.keys_required", bool),
        metrics=checked.parsed("metrics.listen", _socket),
        drafting=checked.plain("network.drafting", str),
        allow_nodes=frozenset(checked.each("network.allow_nodes", PeerId.parse)),
        listen=checked.each("network.listen", _multiaddr),
        announce=checked.each("network.announce", _multiaddr),
        bootstrap=checked.each("network.bootstrap", _bootstrap),
        max_nodes=checked.plain("network.max_nodes", int),
        max_nodes_per_address=checked.plain("network.max_nodes_per_address", int),
        nodes_per_session=checked.plain("network.nodes_per_session", int),
        ngram=checked.plain("drafting.ngram", bool),
        drafts_always=checked.plain("drafting.always", bool),
        max_tokens=checked.plain("limits.max_tokens", int),
        waiting=checked.plain("limits.waiting", int),
        wait_seconds=checked.plain("limits.wait_seconds", int),
        log_json=checked.plain("log.json", bool),
    )
    if not config.keys_required and not config.api.is_loopback:
        raise ConfigError(
            f"{checked.places.of('api.keys_required')} = false: without keys api.listen must be a"
            f" loopback address, found {config.api.host}"
        )
    return config


T = TypeVar("T")


class _Checked:
    """The table's values, in the types the rest of the host uses."""

    def __init__(self, values: Mapping[str, Value], places: "_Places") -> None:
        self._values = values
        self.places = places

    def plain(self, key: str, kind: type[T]) -> T:
        value = self._values[key]
        assert isinstance(value, kind), "read() has checked the type"
        return value

    def parsed(self, key: str, parse: Callable[[str], T]) -> T:
        return self._parse(key, self.plain(key, str), parse)

    def each(self, key: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        values = self._values[key]
        assert isinstance(values, tuple), "read() has checked the type"
        return tuple(self._parse(key, value, parse) for value in values)

    def _parse(self, key: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise ConfigError(f'{self.places.of(key)} = "{text[:80]}": {error}') from error


class _Places:
    """Where a setting was written, for messages."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment

    def of(self, key: str) -> str:
        variable = next(row.variable for row in TABLE if row.key == key)
        if variable in self._environment:
            return f"variable {variable}"
        if self._path is None or not self._path.exists():
            return key
        section, _, name = key.rpartition(".")
        current = ""
        for number, line in enumerate(self._path.read_text(encoding="utf-8").splitlines(), 1):
            header = re.match(r"\s*\[([^\[\]]+)\]", line)
            current = header.group(1).strip() if header else current
            if current == section and re.match(rf"\s*{re.escape(name)}\s*=", line):
                return f"{self._path.name} line {number}: {key}"
        return f"{self._path.name}: {key}"


def _socket(text: str) -> Socket:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError('expected "address:port", as "127.0.0.1:8000"')
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError("expected an IP address or localhost before the port") from None
    return Socket(host, int(port))


def _multiaddr(text: str) -> str:
    if not re.fullmatch(r"/(ip4|ip6|dns|dns4|dns6)/[^/\s]+/tcp/\d{1,5}(/.*)?", text):
        raise ValueError("expected a multiaddr, as /ip4/127.0.0.1/tcp/4713")
    return text


def _bootstrap(text: str) -> str:
    _address, found, peer = _multiaddr(text).partition("/p2p/")
    if not found:
        raise ValueError("expected a multiaddr that ends in /p2p/ and a peer id")
    PeerId.parse(peer)
    return text
