import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import trio

from nexusnode.cli import chat, models, pause, status
from nexusnode.cli.data import MAX_PAUSE_SECONDS, parse_length, parse_time, until_words
from nexusnode.cli.main import COMMANDS, main
from nexusnode.control.endpoint import bound_socket
from nexusnode.control.messages import (
    API,
    ChatEnd,
    ChatEvent,
    ChatStarted,
    ChatToken,
    HostView,
    Nothing,
    Pair,
    Settings,
    Snapshot,
    Welcome,
    WorkerView,
)
from nexusnode.control.server import Client, ControlServer
from nexusnode.models.fetch import Progress
from p2p.errors import Unavailable, UsageError
from p2p.log import quiet_log
from p2p.paths import folders, socket_path

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SNAPSHOT = Snapshot(
    state="running",
    reason="ok",
    blockers=(),
    missing=(),
    until_unix_seconds=None,
    node_id="12D3KooWnode",
    model="a draft Q4_0",
    model_path="/m.gguf",
    tok_fp="ab",
    worker=WorkerView("drafting", "", 7, 2, 3, 1000),
    hosts=(
        HostView("12D3KooWone", "/ip4/1.2.3.4/tcp/1", "serving", "", 3, 200, 60, 100),
        HostView("12D3KooWtwo", "", "waiting", "nobody is there", 0, 0, 0, 0),
    ),
    bootstrap_peers=1,
    uptime_seconds=5.0,
    duty=1.0,
    autostart=False,
)


class Daemon:
    """Answers the control API from a thread of its own, as a daemon process would."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.snapshot = SNAPSHOT
        self.chat_url = '"http://h/v1"'
        self.chat_events: list[ChatEvent] = []
        self.error: Exception | None = None
        self.publish_and_quit = False

    async def handle(self, client: Client, request: Any) -> Any:
        self.calls.append((request.method, request.params))
        if self.error is not None:
            raise self.error
        match request.method:
            case "state.snapshot" | "pause" | "resume" | "finish":
                return self.snapshot
            case "settings.get" | "settings.set":
                return Settings(1, (Pair("chat.url", self.chat_url),), ())
            case "chat.start":
                for event in self.chat_events:
                    client.publish("chat", event)
                return ChatStarted(1)
            case "quit":
                self.quit.set()
        return Nothing()

    async def publish(self, server: ControlServer) -> None:
        """Once somebody watches: say that the node is paused, and end."""
        while not (self.publish_and_quit and server.has_watchers):
            await trio.sleep(0.01)
        server.publish("state", replace(self.snapshot, state="paused", reason="user-pause"))
        self.quit.set()

    def departed(self, client: Client) -> None:
        """A client left."""

    async def run(self, path: Path, ready: Event) -> None:
        server = ControlServer(Welcome(API, "1", 1, "/", (), "test"), self, quiet_log())
        self.quit = trio.Event()
        self.token = trio.lowlevel.current_trio_token()
        with bound_socket(path) as listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run, listener)
                nursery.start_soon(self.publish, server)
                ready.set()
                await self.quit.wait()
                await server.flush()
                nursery.cancel_scope.cancel()


@contextmanager
def running(folder: Path) -> Iterator[Daemon]:
    daemon, ready = Daemon(), Event()
    path = socket_path(folders("node", folder).data)
    thread = Thread(target=trio.run, args=(daemon.run, path, ready))
    thread.start()
    assert ready.wait(10)
    try:
        yield daemon
    finally:
        with suppress(trio.RunFinishedError):  # it may have ended by itself, or just now
            daemon.token.run_sync_soon(daemon.quit.set)
        thread.join(10)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    return tmp_path / "n"


LOADED = """
import sys
from nexusnode.cli.main import COMMANDS, _load
_load(COMMANDS[sys.argv[1]].module)
print(*sys.modules)
"""


def modules_of(command: str) -> set[str]:
    """Return what a fresh interpreter has loaded once it knows a command."""
    return set(
        subprocess.run(
            [sys.executable, "-c", LOADED, command], capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"run", "bootstrap"}))
def test_only_run_and_bootstrap_load_the_network(name: str) -> None:
    assert not {"libp2p", "torch", "llama_cpp", "transformers"} & modules_of(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["status", "pause", "resume", "stop", "chat", "id"])
def test_the_quick_commands_do_not_even_load_trio(name: str) -> None:
    assert not {"trio", "httpx", "numpy"} & modules_of(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_teaches_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"\nexamples:\n  nexusnode {name}" in text
    assert "---" not in text, "what parts help and examples is not shown"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])

    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dance"])

    assert ended.value.code == 2


@pytest.mark.parametrize("words", [["status"], ["pause"], ["resume"], ["stop"], ["chat", "hi"]])
def test_without_a_daemon_the_exit_status_is_4_and_the_sentence_helps(
    words: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--data", str(home)]) == 4

    assert "nexusnode run" in capsys.readouterr().err


def test_status_says_state_model_hosts_and_what_was_kept(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home):
        assert main(["status", "--data", str(home)]) == 0

    text = capsys.readouterr().out
    for part in ("Running.", "a draft Q4_0", "12D3KooWone", "kept 60%", "nobody is there",
                 "200 tokens", "60 of 100", "2 restarts"):  # fmt: skip
        assert part in text


def test_status_as_json_has_stable_keys(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(home):
        main(["status", "--json", "--data", str(home)])

    found = json.loads(capsys.readouterr().out)
    assert set(found) == {
        "state", "reason", "blockers", "missing", "until_unix_seconds", "node_id", "model",
        "model_path", "tok_fp", "worker", "hosts", "bootstrap_peers", "uptime_seconds", "title",
        "sentence", "connected", "sessions", "restarts", "drafted", "accepted", "committed",
        "kept_share", "duty", "autostart",
    }  # fmt: skip
    assert (found["drafted"], found["accepted"], found["kept_share"]) == (200, 60, 0.6)
    assert (found["connected"], found["hosts"][0]["peer"]) == (1, "12D3KooWone")


def test_a_node_without_commits_has_kept_nothing_yet() -> None:
    assert status.share(0, 0) == 0.0


def test_pause_sends_a_length_or_a_time(home: Path) -> None:
    with running(home) as daemon:
        assert main(["pause", "--for", "1h30m", "--data", str(home)]) == 0
        assert main(["pause", "--until", "2099-01-01T00:00+00:00", "--data", str(home)]) == 0
        assert main(["pause", "--data", str(home)]) == 0
        assert main(["pause", "--finish", "--data", str(home)]) == 0
        assert main(["resume", "--data", str(home)]) == 0

    assert [
        (method, getattr(params, "for_seconds", 0), getattr(params, "until_unix_seconds", 0))
        for method, params in daemon.calls
    ] == [
        ("pause", 5400.0, None),
        ("pause", None, 4070908800),
        ("pause", None, None),
        ("finish", 0, 0),
        ("resume", 0, 0),
    ]


def test_a_length_and_a_time_together_are_a_usage_error(home: Path) -> None:
    parser = argparse.ArgumentParser()
    pause.configure(parser)

    with pytest.raises(SystemExit):
        parser.parse_args(["--for", "1h", "--until", "18:00"])


def test_watching_goes_on_until_the_node_ends(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home) as daemon:
        daemon.publish_and_quit = True

        assert main(["status", "--watch", "--json", "--data", str(home)]) == 4

    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert states == ["running", "paused"]


def test_stop_waits_until_the_node_has_ended(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home):
        assert main(["stop", "--data", str(home)]) == 0

    assert "ended" in capsys.readouterr().out


def test_a_refusal_of_the_daemon_is_one_sentence_and_a_status(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home) as daemon:
        daemon.error = Unavailable("not now")

        assert main(["resume", "--data", str(home)]) == 2

    assert capsys.readouterr().err == "nexusnode: not now\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("45s", 45),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("366d", MAX_PAUSE_SECONDS),
    ],
)
def test_lengths_are_read(text: str, seconds: float) -> None:
    assert parse_length(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "5x", "m", "1.5h", "367d", "٣m", "9" * 400])
def test_a_length_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="--for"):
        parse_length(text)


def test_a_time_of_day_is_the_next_one() -> None:
    today = parse_time("12:30", NOW)
    tomorrow = parse_time("12:00", NOW)

    assert today - NOW.timestamp() == 1800
    assert tomorrow - NOW.timestamp() == 86_400


@pytest.mark.parametrize("text", ["25:00", "soon", "2020-01-01", "12:60", "999999999"])
def test_a_time_that_is_none_or_over_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="--until"):
        parse_time(text, NOW)


def test_until_is_said_as_a_time_today_and_as_a_date_later() -> None:
    assert until_words(int(NOW.timestamp()) + 60, NOW) == "at 12:01"
    assert until_words(int(NOW.timestamp()) + 86_400, NOW) == "on 2026-03-05 at 12:00"
    assert until_words(None, NOW) is None


END = ChatEnd("stop", "", "", 3, 1, 4, 2)


def test_chat_streams_the_answer_and_sums_it_up(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home) as daemon:
        daemon.chat_events = [
            ChatEvent(1, (ChatToken("Hel", ""), ChatToken("lo\x1b[2J", "node")), None),
            ChatEvent(9, (ChatToken("another chat", ""),), None),
            ChatEvent(1, (), END),
        ]

        assert main(["chat", "--no-draft", "--seed", "5", "Hi", "--data", str(home)]) == 0

    captured = capsys.readouterr()
    assert captured.out == "Hello[2J\n"
    assert "1 of 3 tokens" in captured.err
    question = next(params for method, params in daemon.calls if method == "chat.start")
    assert (question.turns[0].text, question.draft, question.seed) == ("Hi", False, 5)


def test_chat_that_fails_says_why_with_the_right_status(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home) as daemon:
        end = ChatEnd("failed", "unavailable", "the engine restarts", 0, 0, 0, 0)
        daemon.chat_events = [ChatEvent(1, (), end)]

        assert main(["chat", "Hi", "--data", str(home)]) == 5

    assert "the engine restarts" in capsys.readouterr().err


def test_chat_stores_address_and_key_and_asks_nobody_where_there_is_no_terminal(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("nx-1\n")
    with running(home) as daemon:
        daemon.chat_url = '""'
        daemon.chat_events = [ChatEvent(1, (), END)]

        assert main(["chat", "Hi", "--data", str(home)]) == 3
        assert "--url" in capsys.readouterr().err
        access = ["--url", "http://x/v1", "--key-file", str(tmp_path / "key")]
        assert main(["chat", "Hi", *access, "--data", str(home)]) == 0
        assert main(["chat", "Hi", "--key-file", str(tmp_path / "no"), "--data", str(home)]) == 3

    patch = next(params for method, params in daemon.calls if method == "settings.set")
    assert patch.pairs == (Pair("chat.url", '"http://x/v1"'), Pair("chat.key", '"nx-1"'))


def test_a_conversation_remembers_what_was_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("One\n\nTwo\n"))
    with running(home) as daemon:
        daemon.chat_events = [ChatEvent(1, (ChatToken("yes", ""),), None), ChatEvent(1, (), END)]

        assert main(["chat", "--data", str(home)]) == 0

    turns = [params.turns for method, params in daemon.calls if method == "chat.start"]
    assert [[turn.text for turn in asked] for asked in turns] == [["One"], ["One", "yes", "Two"]]


@pytest.mark.parametrize("flag", [["--max-tokens", "0"], ["--temperature", "3"], ["--seed", "-1"]])
def test_a_chat_flag_out_of_range_is_named(
    flag: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home):
        assert main(["chat", "Hi", *flag, "--data", str(home)]) == 2

    assert flag[0] in capsys.readouterr().err


def test_drafted_tokens_are_shown_differently_only_where_colour_is_wanted() -> None:
    drafted, own = ChatToken("a", "node"), ChatToken("b", "")

    assert chat.Painter(True).paint(drafted) == "\x1b[1;4ma\x1b[0m"
    assert chat.Painter(True).paint(own) == "b"
    assert chat.Painter(False).paint(drafted) == "a"


def test_models_are_listed_and_found_without_a_daemon(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list", "--data", str(home)]) == 0
    text = capsys.readouterr().out
    assert main(["models", "--data", str(home), "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["models", "path", "--data", str(home)]) == 0
    path = Path(capsys.readouterr().out.strip())

    assert "bundled" in text
    assert "nexusnode models pull" in text
    assert found["models"][0]["path"] == str(path)
    assert path.is_file()


def test_a_model_that_is_not_there_has_status_6(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "path", "nothing", "--data", str(home)]) == 6

    assert "nothing" in capsys.readouterr().err


def test_pulling_what_is_bundled_needs_no_network(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", "smollm2-draft-50m-q4_0", "--data", str(home)]) == 0

    assert Path(capsys.readouterr().out.strip()).is_file()


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(0, 0), "0 kB of an unknown size"),
        (
            Progress(215_000_000, 430_000_000),
            "[###############               ]  50%  215.0 MB of 430.0 MB",
        ),
        (Progress(2_000_000_000, 2_000_000_000), "[" + "#" * 30 + "] 100%  2.0 GB of 2.0 GB"),
    ],
)
def test_progress_is_a_bar(progress: Progress, line: str) -> None:
    assert models.bar(progress) == line


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = models.ProgressBar(is_terminal=False)
    for done in range(100):
        bar.show(Progress(done, 99))
    bar.end()
    lines = capsys.readouterr().err.splitlines()
    fancy = models.ProgressBar(is_terminal=True)
    fancy.show(Progress(1, 2))
    fancy.end()

    assert len(lines) == 1
    assert lines[0].startswith("[###")
    assert capsys.readouterr().err.startswith("\r\x1b[K[###")


def test_the_id_is_made_once_and_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["id", "--data", str(home)]) == 0
    first = capsys.readouterr().out
    assert main(["id", "--data", str(home)]) == 0

    assert capsys.readouterr().out == first
    assert first.startswith("12D3KooW")


def test_a_missing_extra_is_named_with_the_line_that_installs_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['httpx'] = None; from nexusnode.cli.main import main;"
        "sys.exit(main(['models', 'list']))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "pip install 'nexusnode[node]'" in done.stderr
