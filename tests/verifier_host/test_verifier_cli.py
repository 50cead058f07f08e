"""`nexus-verifier` as an operator types it."""

import json
import stat
from pathlib import Path

import pytest

from p2p.errors import ConfigError
from verifier_host.cli.check import report
from verifier_host.cli.main import main, parser
from verifier_host.config import FILE, load_config
from verifier_host.estimate import Estimate
from verifier_host.targets import ModelFacts, Target

Capture = pytest.CaptureFixture[str]
FACTS = ModelFacts("llama", "Q4_1", 134_515_008, 30, 3, 64, 49_152, 8_192)


def run(folder: Path, *arguments: str) -> int:
    return main([*arguments, "--data", str(folder)])


def test_init_writes_a_file_that_is_read_back_and_a_key_that_is_not(
    tmp_path: Path, capsys: Capture
) -> None:
    assert run(tmp_path, "init", "--model", "bundled") == 0

    said = capsys.readouterr().out
    secret = next(word for word in said.split() if word.startswith("nx-"))
    config = load_config(tmp_path / FILE, {})
    assert config.model_path == "bundled"
    assert config.kv_tokens == 32_768
    assert secret not in (tmp_path / "keys").read_text()
    for name in (FILE, "keys"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_init_can_print_the_key_alone(tmp_path: Path, capsys: Capture) -> None:
    run(tmp_path, "init", "--key-only")

    assert capsys.readouterr().out.strip().startswith("nx-")
    assert len(capsys.readouterr().out.split()) == 0


def test_init_does_not_overwrite_unless_forced(tmp_path: Path, capsys: Capture) -> None:
    assert run(tmp_path, "init") == 0
    assert run(tmp_path, "init") == 3
    assert "--force" in capsys.readouterr().err
    assert run(tmp_path, "init", "--force", "--model", "bundled") == 0


def test_keys_are_added_listed_and_revoked(tmp_path: Path, capsys: Capture) -> None:
    assert run(tmp_path, "keys", "list") == 0
    assert "no keys" in capsys.readouterr().out
    run(tmp_path, "keys", "add", "ann", "--no-draft", "--concurrent", "2", "--model", "m")
    run(tmp_path, "keys", "add", "bob", "--requests-per-minute", "5", "--tokens-per-minute", "9")
    capsys.readouterr()

    run(tmp_path, "keys", "list")
    listed = capsys.readouterr().out
    assert "ann  (no drafting, only m, 2 at a time)" in listed
    assert "bob  (5 requests/min, 9 tokens/min)" in listed
    assert run(tmp_path, "keys", "revoke", "ann") == 0
    assert run(tmp_path, "keys", "revoke", "ann") == 3
    assert [key["name"] for key in json.loads((tmp_path / "keys").read_text())] == ["bob"]


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["keys"], ["keys", "add", "x", "--concurrent", "-1"], ["init", "x"]]
)
def test_a_command_that_makes_no_sense_is_status_2(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2


def test_help_teaches(capsys: Capture) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["init", "--help"], ["keys", "--help"]):
        with pytest.raises(SystemExit) as caught:
            parser().parse_args(arguments)
        assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "nexus-verifier init --model bundled && nexus-verifier serve" in said
    assert "NEXUS_API_LISTEN" in said


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_mistake_in_the_file_is_status_3_and_named(
    tmp_path: Path, capsys: Capture, command: str
) -> None:
    (tmp_path / FILE).write_text('[model]\ndtype = "int4"\n')

    assert run(tmp_path, command) == 3
    assert f"{FILE} line 2: model.dtype" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_model_that_is_not_there_is_status_6(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    assert run(tmp_path, command) == 6
    assert "bundled" in capsys.readouterr().err


def test_the_file_may_lie_elsewhere(tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[x]\ny = 1\n")

    assert main(["check", "--data", str(tmp_path), "--config", str(other)]) == 3
    assert "other.toml line 2" in capsys.readouterr().err


@pytest.mark.slow
def test_check_says_what_would_run(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "init", "--model", "bundled")
    capsys.readouterr()

    assert run(tmp_path, "check") == 0
    said = capsys.readouterr().out
    assert "SmolLM2-135M-Instruct (llama, 135 M parameters, Q4_1 file)" in said
    assert "1 keys" in said
    assert said.splitlines()[-1] == "ok"

    monkeypatch.setenv("NEXUS_MODEL_KV_TOKENS", str(10**9))
    assert run(tmp_path, "check") == 7
    assert "memory:" in capsys.readouterr().err


def test_check_warns_of_what_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("m", Path("/m.gguf"), True, "0")
    found = Estimate(10**9, 10**8, 1000, 5000)

    lines = report(load_config(None, {}), target, FACTS, found, 0, 1e10)

    assert any("no API key" in line for line in lines)
    assert any("allow_nodes is empty" in line for line in lines)
    assert any("100 ms or more" in line for line in lines)
    assert lines[-1] == "ok"


def test_check_says_whose_nodes_see_what() -> None:
    target = Target("m", Path("/m.gguf"), True, "0")
    found = Estimate(1, 1, 1, 1)
    for drafting, words in (("open", "see prompts and answers"), ("off", "no node drafts")):
        config = load_config(None, {"NEXUS_NETWORK_DRAFTING": drafting})
        lines = report(config, target, FACTS, found, 3, 1e10)
        assert any(words in line for line in lines)
        assert not any("warning" in line for line in lines)


def test_an_error_of_ours_never_shows_a_traceback(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "keys").write_text("rubbish")
    (tmp_path / "keys").chmod(0o600)

    assert run(tmp_path, "keys", "list") == 3
    assert "Traceback" not in capsys.readouterr().err
    assert issubclass(ConfigError, Exception)
