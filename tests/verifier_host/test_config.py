"""verifier.toml: what it may say, and how a mistake is named."""

from pathlib import Path

import pytest

from p2p.errors import ConfigError
from p2p.settings import write
from p2p.wire.identity import PeerId
from verifier_host.config import DEFAULT_TARGET, TABLE, Socket, load_config

PEER = PeerId(bytes(range(32)))


def read(tmp_path: Path, text: str, **environment: str) -> object:
    path = tmp_path / "verifier.toml"
    path.write_text(text)
    return load_config(path, environment)


def test_defaults_listen_on_loopback_only_and_let_nobody_draft() -> None:
    config = load_config(None, {})

    assert config.model_path == DEFAULT_TARGET
    assert config.api.is_loopback
    assert config.metrics.is_loopback
    assert all("/127.0.0.1/" in address for address in config.listen)
    assert config.keys_required
    assert config.drafting == "allowlist"
    assert config.allow_nodes == frozenset()
    assert config.nodes_per_session == 1
    assert config.ngram


def test_the_file_that_init_writes_is_read_back_as_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, write(TABLE, {}, "title")) == load_config(None, {})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = load_config(
        _file(tmp_path, '[api]\nlisten = "127.0.0.1:1"\n'),
        {
            "NEXUS_API_LISTEN": "127.0.0.1:0",
            "NEXUS_DRAFTING_NGRAM": "false",
            "NEXUS_NETWORK_ALLOW_NODES": f"{PEER}, {PEER}",
            "NEXUS_NETWORK_BOOTSTRAP": f"/ip4/127.0.0.1/tcp/9/p2p/{PEER}",
        },
    )

    assert config.api == Socket("127.0.0.1", 0)
    assert not config.ngram
    assert config.allow_nodes == {PEER}
    assert config.bootstrap == (f"/ip4/127.0.0.1/tcp/9/p2p/{PEER}",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[model]\n\ndtype = "fp8"', r'verifier.toml line 3: model.dtype = "fp8": expected one of'),
        ("[model]\nthreads = -1", r"line 2: model.threads = -1: expected an integer of 0"),
        ("[model]\nthreads = true", r"line 2: model.threads"),
        ('[model]\npath = ""', r"line 2: model.path"),
        ("[model]\nmax_rows = 15", r"line 2: model.max_rows"),
        ('[api]\nlisten = "8000"', r'line 2: api.listen = "8000": expected an IP address'),
        ('[api]\nlisten = "127.0.0.1:66000"', r'line 2: api.listen.*expected "address:port"'),
        ('[api]\nlisten = "127.0.0.1:-1"', r"line 2: api.listen"),
        ('[api]\nlisten = "example.org:80"', r"line 2: api.listen.*IP address or localhost"),
        ('[network]\ndrafting = "all"', r"line 2: network.drafting"),
        ('[network]\nallow_nodes = ["me"]', r'line 2: network.allow_nodes = "me": a peer id has'),
        ('[network]\nlisten = ["127.0.0.1:1"]', r"line 2: network.listen.*expected a multiaddr"),
        ("[network]\nlisten = []", r"line 2: network.listen"),
        ("[network]\nnodes_per_session = 3", r"line 2: network.nodes_per_session"),
        ('[network]\nbootstrap = ["/ip4/1.2.3.4/tcp/1"]', r"line 2: network.bootstrap.*peer id"),
        ("[limits]\nwaiting = 0", r"line 2: limits.waiting"),
        ("[limits]\nwait = 1", r"line 2: limits.wait is not a setting"),
        ("[api]\nkeys_required = false\nlisten = '0.0.0.0:1'", r"line 2: api.keys_required"),
        ("[api", r"verifier.toml: is not TOML"),
    ],
)
def test_a_mistake_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_a_mistake_in_a_variable_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="variable NEXUS_NETWORK_ALLOW_NODES"):
        read(tmp_path, "", NEXUS_NETWORK_ALLOW_NODES="me")


def test_a_mistake_without_a_file_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^flag|api.listen"):
        load_config(None, {}, {"api.listen": "nowhere"})


def test_keys_may_be_off_on_loopback(tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
        path = _file(tmp_path, f"[api]\nkeys_required = false\nlisten = '{address}'")

        assert not load_config(path, {}).keys_required


def test_an_ipv6_address_is_written_in_brackets_in_urls() -> None:
    assert Socket("::1", 0).url(80) == "http://[::1]:80"
    assert Socket("127.0.0.1", 0).url(80) == "http://127.0.0.1:80"


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "verifier.toml"
    path.write_text(text)
    return path
