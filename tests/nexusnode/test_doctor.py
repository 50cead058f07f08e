import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from nexusnode.cli.main import main
from nexusnode.daemon import examination as examination_module
from nexusnode.daemon.examination import (
    BANNER,
    PACKAGES,
    Examination,
    Finding,
    package_folder,
    reach,
    summary,
)
from nexusnode.draft.messages import Loaded
from p2p.errors import ConfigError, PeerGone
from p2p.paths import folders

PEER = "12D3KooWBJK1DyPxnKKYbFpkwfYBrxJMRV23N21GSj6LnYPQWs2o"


@asynccontextmanager
async def listening(says: bytes) -> AsyncIterator[str]:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(says)
        await stream.receive_some(100)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        yield f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}/p2p/{PEER}"
        nursery.cancel_scope.cancel()


async def found(examination: Examination, name: str) -> Finding:
    (finding,) = await examination.run(lambda finding: None, only=name)
    return finding


async def test_a_libp2p_peer_is_reached_by_what_it_says_first() -> None:
    async with listening(BANNER) as address:
        await reach(address)


async def test_what_is_no_libp2p_peer_is_told_apart() -> None:
    async with listening(b"SSH-2.0-OpenSSH_9.2\r\n" + b"x" * 20) as address:
        with pytest.raises(PeerGone, match="no libp2p peer"):
            await reach(address)


async def test_a_port_where_nobody_listens_is_named() -> None:
    with pytest.raises(PeerGone, match="tcp/1/"):
        await reach(f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}")


@pytest.mark.parametrize("address", ["", "192.0.2.7:4001", f"/ip4/1.2.3.4/tcp/70000/p2p/{PEER}"])
async def test_an_address_that_is_none_is_shown_with_the_right_form(address: str) -> None:
    with pytest.raises(ConfigError, match="/ip4/"):
        await reach(address)


def test_our_four_packages_come_from_one_folder() -> None:
    assert len({package_folder(name) for name in PACKAGES}) == 1
    assert package_folder("no_such_package") is None


async def test_an_intruder_among_the_packages_is_named_with_its_folder(tmp_path: Path) -> None:
    def origins(name: str) -> Path | None:
        return Path("/elsewhere") if name == "gui" else Path("/here")

    finding = await found(Examination(folders("node", tmp_path), origins), "packages")

    assert not finding.is_well
    assert finding.code == "config"
    assert "gui" in finding.fact
    assert "/elsewhere" in finding.fact


async def test_a_missing_package_is_named(tmp_path: Path) -> None:
    examination = Examination(
        folders("node", tmp_path), lambda name: None if name == "p2p" else Path("/here")
    )

    assert "p2p is missing" in (await found(examination, "packages")).fact


@pytest.mark.slow
async def test_a_broken_model_is_named_and_what_needs_it_is_not_tried(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    (tmp_path / "node.toml").write_text(f'[models]\ndraft = "{tmp_path}/bad.gguf"\n')
    findings = {
        finding.name: finding
        for finding in await Examination(folders("node", tmp_path)).run(lambda finding: None)
    }

    assert findings["model"].code == "model"
    assert "bad.gguf" in findings["model"].fact
    assert findings["draft worker"].fact == "there is no model to try"


async def test_a_mistake_in_the_settings_is_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[limits]\nthreads = -1\n")

    finding = await found(Examination(folders("node", tmp_path)), "settings")

    assert "node.toml line 2" in finding.fact


@pytest.mark.slow
def test_doctor_makes_the_identity_and_says_what_is_wrong_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["doctor", "--json", "--data", str(tmp_path)])

    report = json.loads(capsys.readouterr().out)
    facts = {check["name"]: check for check in report["checks"]}
    assert status == 3  # only the bootstrap peers are not set yet
    assert report["ok"] is False
    assert [name for name, check in facts.items() if not check["is_well"]] == ["network"]
    assert report["node_id"] in facts["identity"]["fact"]
    assert "ms a token" in facts["draft worker"]["fact"]
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_doctor_speaks_to_people_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_HOSTS_BOOTSTRAP", f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}")

    status = main(["doctor", "--data", str(tmp_path)])

    lines = capsys.readouterr().out.splitlines()
    assert status == 5
    assert sum(line.startswith("ok ") for line in lines) == len(lines) - 3
    assert "set hosts.bootstrap" in lines[-2]
    assert lines[-1] == "needs attention: network"


async def test_what_is_ill_says_why_it_matters_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[limits]\nthreads = -1\n")

    ill = await found(Examination(folders("node", tmp_path)), "settings")
    well = await found(Examination(folders("node", tmp_path / "b")), "settings")

    assert (ill.status, well.status) == ("ill", "well")
    assert "keeps the node from starting" in ill.meaning
    assert "Mend that line" in ill.advice
    assert well.advice == ""


async def test_a_history_that_was_put_aside_is_worth_a_note(tmp_path: Path) -> None:
    (tmp_path / "damaged-20260501-120000").mkdir()

    finding = await found(Examination(folders("node", tmp_path)), "history")

    assert (finding.status, finding.is_well) == ("note", True)
    assert "damaged-20260501-120000" in finding.fact


async def test_a_disk_that_is_almost_full_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination_module, "LOW_DISK_BYTES", 1 << 60)

    finding = await found(Examination(folders("node", tmp_path)), "disk")

    assert (finding.status, finding.code) == ("ill", "resource")
    assert "GB free" in finding.fact


async def test_a_worker_that_runs_is_asked_and_no_second_one_started(tmp_path: Path) -> None:
    loaded = Loaded(512, 256, 4, "streams", (0.004,), 0, "cpu", 2)
    examination = Examination(folders("node", tmp_path), loaded=lambda: loaded)

    findings = {one.name: one for one in await examination.run(lambda finding: None)}

    assert findings["draft worker"].fact == "llama.cpp loads it; 4.0 ms a token with 2 threads"


def test_a_clean_bill_says_so() -> None:
    assert summary([Finding("x", True, "fine")]) == "everything is ready"


async def test_a_clock_from_before_the_installation_is_wrong(
    tmp_path: Path,
) -> None:
    long_ago = time.time() - 10 * 365 * 86_400
    examination = Examination(folders("node", tmp_path), clock=lambda: long_ago)

    finding = await found(examination, "clock")

    assert not finding.is_well
    assert "set the clock" in finding.fact


async def test_a_socket_path_that_is_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.path.join(tmp_path, "x" * 100))

    finding = await found(Examination(folders("node", tmp_path)), "socket")

    assert "XDG_RUNTIME_DIR" in finding.fact
