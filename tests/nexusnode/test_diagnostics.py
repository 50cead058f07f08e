"""The report for helpers: what it never holds, and that it is what was shown."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusnode.cli.main import main
from nexusnode.control.messages import HostView, LogQuery, Snapshot, WorkerView
from nexusnode.daemon.diagnostics import MAX_FILE_BYTES, Diagnostics, tail
from nexusnode.daemon.examination import Finding
from nexusnode.daemon.redaction import Redactor
from p2p.errors import ControlError, ResourceError
from p2p.log import Log, quiet_log
from p2p.paths import Folders, folders
from p2p.wire.frame import frame
from p2p.wire.schema import check, dump, packb

ME = "12D3KooWBJK1DyPxnKKYbFpkwfYBrxJMRV23N21GSj6LnYPQWs2o"
OTHER = "12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust"
KEY = "my own key, with spaces"
ADDRESS = f"/ip4/203.0.113.9/tcp/4001/p2p/{OTHER}"
SECRETS = (OTHER, "203.0.113.9", KEY, "sk-abcdefgh12345", "host.example", str(Path.home()))


def snapshot() -> Snapshot:
    host = HostView(OTHER, ADDRESS, "waiting", f"no answer from {ADDRESS}", 0, 1, 2, 3)
    return Snapshot(
        "running", "ok", (), (), None, ME, "m", str(Path.home() / "m.gguf"), "ab" * 32,
        WorkerView("ready", "", 1, 0, 0, 0), (host,), 1, 5.0, 1.0, False,
    )  # fmt: skip


def diagnostics(where: Folders, log: Log | None = None) -> Diagnostics:
    async def examine() -> Sequence[Finding]:
        fact = f"{ADDRESS}: no answer"
        return [Finding("network", False, fact, "peer.gone", "ill", "Why.", "What to do.")]

    return Diagnostics(where, "1.0", lambda: ME, examine, snapshot, log or quiet_log())


@pytest.fixture
def where(tmp_path: Path) -> Folders:
    """A node's folder full of what nobody else should read."""
    found = folders("node", tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "node-output.log").write_text(f"asked https://host.example/v1 with {KEY}")
    (tmp_path / "node.toml").write_text(
        f'[hosts]\nbootstrap = ["{ADDRESS}"]\nallow = ["{OTHER}"]\n'
        '[chat]\nurl = "http://host.example:8000/v1"\n'
    )
    (tmp_path / "chat-key").write_text(KEY + "\n")
    (tmp_path / "identity").write_bytes(b"the node's private key")
    return found


async def test_nothing_that_is_not_ones_own_is_in_the_report(where: Folders) -> None:
    log = quiet_log()
    log.event("host.ended", peer=OTHER, reason=f"{ADDRESS} used sk-abcdefgh12345")

    report = await diagnostics(where, log).preview()

    check(report)
    frame(packb(dump(report)))  # one answer holds it
    texts = {file.name: file.text for file in report.files}
    for secret in (*SECRETS, "private key"):
        assert not any(secret in text for text in texts.values()), secret
    assert ME in texts["state.json"]
    assert "ab" * 32 in texts["state.json"]
    assert "~/m.gguf" in texts["state.json"]
    assert "<peer 1>" in texts["settings.toml"]
    assert "What to do." in texts["doctor.txt"]
    assert "asked <url 2> with <secret>" in texts["logs/node-output.log"]


async def test_what_is_written_is_what_was_shown(where: Folders, tmp_path: Path) -> None:
    log = quiet_log()
    made = diagnostics(where, log)
    report = await made.preview()
    log.event("something.later")

    written = await made.write(str(tmp_path / "report.zip"))

    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        held = {name: archive.read(name).decode() for name in archive.namelist()}
    assert held == {file.name: file.text for file in report.files}
    assert written.bytes == (tmp_path / "report.zip").stat().st_size
    with pytest.raises(ControlError, match="is a folder"):
        await made.write(str(tmp_path))
    with pytest.raises(ResourceError):
        await made.write(str(tmp_path / "missing" / "report.zip"))


async def test_long_logs_give_their_end(where: Folders) -> None:
    (where.logs / "big.log").write_text("old " * 200_000 + "the last word")

    report = await diagnostics(where).preview()

    (big,) = [file for file in report.files if file.name == "logs/big.log"]
    assert big.bytes <= MAX_FILE_BYTES
    assert big.text.endswith("the last word")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("10.0.0.1:4001 and 10.0.0.1:4001", "<ip 1> and <ip 1>"),
        ("fe80::1:2:3 at 12:34:56", "<ip 1> at 12:34:56"),
        ("/home/ann/x and /home/anna", "~/x and /home/anna"),
        ("llama.cpp 0.3.36, Q4_0, 4.0 ms", "llama.cpp 0.3.36, Q4_0, 4.0 ms"),
        ("c" * 64, "<long 1>"),
        ("hf_abcdefghijkl", "<secret>"),
        ("nx-abcdefghijkl", "<secret>"),
        ("/run/nexus/nexus-ef08d046.sock", "/run/nexus/nexus-ef08d046.sock"),
    ],
)
def test_marks_say_what_was_there(text: str, cleaned: str) -> None:
    assert Redactor("/home/ann", [], []).clean(text) == cleaned


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_stored_secret_never_stays(before: str, after: str) -> None:
    assert "Zw7-secret" not in Redactor("/home/a", [], ["Zw7-secret"]).clean(
        f"{before}Zw7-secret{after}"
    )


def test_the_log_is_cut_by_level_and_count() -> None:
    log = quiet_log()
    for number in range(5):
        log.event("a.thing", number=number)
        log.warning("a.worry", number=number)

    assert len(tail(log, LogQuery(2000, "debug")).lines) == 10
    worries = tail(log, LogQuery(2, "warning")).lines
    assert [line.split()[-1] for line in worries] == ["number=3", "number=4"]
    with pytest.raises(ControlError, match="debug, info, warning, error"):
        tail(log, LogQuery(2, "loud"))


def test_a_log_of_long_lines_fits_in_one_answer() -> None:
    log = quiet_log()
    for number in range(2000):
        log.event("long", text="ü" * 2000, number=number)

    lines = tail(log, LogQuery(2000, "info"))

    check(lines)
    frame(packb(dump(lines)))
    assert len(lines.lines) > 500


@pytest.mark.slow
def test_the_command_writes_a_report_without_a_node(
    where: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["diagnostics", str(tmp_path / "report.zip"), "--data", str(where.data)])

    said = capsys.readouterr().out
    assert status == 0
    assert "doctor.txt" in said
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        assert archive.read("state.json") == b"the node does not run"
        assert b"203.0.113.9" not in archive.read("doctor.txt")
