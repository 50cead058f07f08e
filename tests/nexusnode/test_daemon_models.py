"""The models of a daemon: real files, real download children, a real server that can be held."""

import errno
import hashlib
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import trio

from nexusnode.control.messages import Models as ModelsView
from nexusnode.control.messages import ModelView, Pair, SettingsPatch
from nexusnode.daemon.models import Models, Running
from nexusnode.daemon.preferences import Preferences
from nexusnode.models import move
from nexusnode.models.catalogue import BUNDLED, DEFAULT_DOWNLOAD, bundled_path
from nexusnode.models.fit import Fit
from nexusnode.models.gguf import read_header
from nexusnode.models.recommend import Candidate, recommend
from p2p.errors import ControlError, ModelError, ResourceError, UsageError
from p2p.log import quiet_log
from p2p.paths import folders
from p2p.wire.schema import check

pytestmark = pytest.mark.slow  # each reads a header and most download, in real children
DATA = bundled_path().read_bytes()
SHA256 = hashlib.sha256(DATA).hexdigest()
PIECE = 1 << 16


class Server(ThreadingHTTPServer):
    """Serves DATA, from byte `hold_at` on slowly until `go`. `starts` is what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hold_at = 1 << 60
        self.go = threading.Event()
        self.starts: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/got.gguf"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(DATA) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        for place in range(start, len(DATA), PIECE):
            if place >= self.server.hold_at:
                self.server.go.wait(0.05)
            self.wfile.write(DATA[place : place + PIECE])

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


class Node:
    """Models over a data folder, with what was published."""

    def __init__(self, data: Path, nursery: trio.Nursery) -> None:
        self.folders = folders("node", data)
        self.preferences = Preferences(self.folders, {})
        self.preferences.patch(SettingsPatch((Pair("limits.down_mbit", "0.0"),), None))
        self.running = Running(bundled_path(), 120.0, 50_000_000)
        self.wanted: Counter[bytes] = Counter()
        self.relocated: list[str] = []
        self.published: list[ModelsView] = []
        self.news = trio.Event()
        self.models = Models(
            self.folders,
            self.preferences,
            lambda: self.running,
            lambda: self.wanted,
            self.relocated.append,
            self._publish,
            nursery,
            quiet_log(),
        )

    @property
    def folder(self) -> Path:
        return self.folders.models

    def put(self, name: str, data: bytes = DATA) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def choose(self, draft: str) -> None:
        self.preferences.patch(SettingsPatch((Pair("models.draft", f'"{draft}"'),), None))

    async def until(self, name: str, holds: Callable[[ModelView], object]) -> ModelView:
        """Wait until what is published of a model holds."""
        with trio.fail_after(60):
            while True:
                for view in self.published[-1:]:
                    for model in view.models:
                        if model.name == name and holds(model):
                            return model
                self.news = trio.Event()
                await self.news.wait()

    def _publish(self, view: ModelsView) -> None:
        check(view)
        self.published.append(view)
        self.news.set()


@asynccontextmanager
async def open_node(data: Path) -> AsyncIterator[Node]:
    async with trio.open_nursery() as nursery:
        yield Node(data, nursery)
        nursery.cancel_scope.cancel()


def one(view: ModelsView, name: str) -> ModelView:
    return next(model for model in view.models if model.name == name)


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "nexusnode.models.fetch" in child.cmdline()
    ]


async def test_a_new_node_lists_the_bundled_model_and_what_can_be_had(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        view = await node.models.list()

    check(view)
    bundled, other = one(view, BUNDLED.id), one(view, DEFAULT_DOWNLOAD.id)
    assert (bundled.state, bundled.is_bundled, bundled.is_active) == ("ready", True, True)
    assert bundled.speed == 120.0
    assert (other.state, other.family, other.path) == ("absent", "Qwen2.5", "")
    assert view.free_bytes > 0
    assert view.folder == str(node.folder)


async def test_hosts_are_counted_by_the_tokenizer_they_ask_for(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        node.wanted[read_header(bundled_path()).tok_fp] = 3

        view = await node.models.list()

    assert one(view, BUNDLED.id).hosts == 3
    assert one(view, DEFAULT_DOWNLOAD.id).hosts == 0


async def test_a_model_comes_with_its_progress_and_is_ready(server: Server, tmp_path: Path) -> None:
    server.hold_at = len(DATA) * 19 // 20
    async with open_node(tmp_path) as node:
        first = await node.models.pull(server.url, SHA256)
        await node.until("got", lambda model: model.state == "ready")

    assert one(first, "got").state == "loading"
    assert (node.folder / "got.gguf").read_bytes() == DATA
    assert children() == []


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
async def test_a_pause_kills_the_child_and_resume_goes_on_where_it_was(
    server: Server, tmp_path: Path, part: float
) -> None:
    server.hold_at = int(len(DATA) * part)
    async with open_node(tmp_path) as node:
        await node.models.pull(server.url, SHA256)
        await node.until("got", lambda model: model.done_bytes > server.hold_at - 4 * PIECE)
        paused = await node.models.pause("got")
        assert children() == []
        server.go.set()

        await node.models.resume("got")
        await node.until("got", lambda model: model.state == "ready")

    assert one(paused, "got").state == "paused"
    assert one(paused, "got").done_bytes > 0
    assert len(server.starts) == 2
    assert server.starts[1] > server.hold_at - 4 * PIECE
    assert (node.folder / "got.gguf").read_bytes() == DATA


async def test_what_an_earlier_run_left_is_paused_and_can_go_on(
    server: Server, tmp_path: Path
) -> None:
    server.hold_at = len(DATA) // 2
    async with open_node(tmp_path) as node:
        await node.models.pull(server.url, SHA256)
        await node.until("got", lambda model: model.done_bytes > server.hold_at - 4 * PIECE)
    assert children() == []  # the daemon's end is the child's
    server.go.set()

    async with open_node(tmp_path) as node:
        view = await node.models.list()
        await node.models.resume("got")
        await node.until("got", lambda model: model.state == "ready")

    assert one(view, "got").state == "paused"
    assert one(view, "got").file_bytes == len(DATA)
    assert server.starts[1] > 0


async def test_a_cancelled_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.hold_at = len(DATA) // 2
    async with open_node(tmp_path) as node:
        await node.models.pull(server.url, SHA256)
        await node.until("got", lambda model: model.done_bytes > 0)

        view = await node.models.cancel("got")

    assert all(model.name != "got" for model in view.models)
    assert [path.name for path in node.folder.iterdir() if "got" in path.name] == []
    assert children() == []


async def test_a_wrong_hash_fails_with_its_reason_and_free_removes_it(
    server: Server, tmp_path: Path
) -> None:
    async with open_node(tmp_path) as node:
        await node.models.pull(server.url, "0" * 64)
        failed = await node.until("got", lambda model: model.state == "failed")
        before = await node.models.storage()

        after = await node.models.free()

    assert "got.gguf.bad" in failed.reason
    assert before.folders[0].partial_bytes == len(DATA)
    assert after.folders[0].partial_bytes == 0


async def test_a_folder_that_cannot_be_written_fails_the_download_with_its_name(
    server: Server, tmp_path: Path
) -> None:
    async with open_node(tmp_path) as node:
        node.folder.parent.mkdir(exist_ok=True)
        node.folder.write_bytes(b"a file where the folder should be")

        await node.models.pull(server.url, SHA256)
        failed = await node.until("got", lambda model: model.state == "failed")
        node.folder.unlink()
        await node.models.resume("got")
        await node.until("got", lambda model: model.state == "ready")

    assert str(node.folder) in failed.reason


async def test_a_disk_without_room_for_it_is_said_before_any_byte(
    server: Server, tmp_path: Path
) -> None:
    async with open_node(tmp_path) as node:
        node.preferences.patch(SettingsPatch((Pair("limits.disk_reserve_gb", "100000"),), None))

        await node.models.pull(server.url, SHA256)
        failed = await node.until("got", lambda model: model.state == "failed")

    assert "stay free" in failed.reason


async def test_a_download_keeps_to_the_speed_that_was_set(server: Server, tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        node.preferences.patch(SettingsPatch((Pair("limits.down_mbit", "8.0"),), None))

        await node.models.pull(server.url, SHA256)
        loading = await node.until("got", lambda model: model.bytes_per_second > 0)

    assert loading.bytes_per_second < 3_000_000
    assert loading.seconds_left is not None


@pytest.mark.parametrize("name", ["pause", "resume", "cancel"])
async def test_what_is_not_downloaded_cannot_be_paused(tmp_path: Path, name: str) -> None:
    async with open_node(tmp_path) as node:
        with pytest.raises(ControlError, match="not being downloaded"):
            await getattr(node.models, name)("nothing")


async def test_a_model_that_is_here_is_not_downloaded_again(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        node.put("got.gguf")
        node.put(f"{DEFAULT_DOWNLOAD.id}.gguf")

        for source, sha256 in (
            ("http://127.0.0.1:1/got.gguf", SHA256),
            (DEFAULT_DOWNLOAD.id, ""),
            (DEFAULT_DOWNLOAD.source.rpartition("/")[0], ""),
        ):
            with pytest.raises(ControlError, match="here already"):
                await node.models.pull(source, sha256)
        view = await node.models.pull(BUNDLED.id, "")

    assert all(model.state == "ready" for model in view.models if model.path)


async def test_a_url_without_a_hash_is_refused(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        with pytest.raises(UsageError, match="sha256"):
            await node.models.pull("https://example.org/m.gguf", "")


async def test_a_file_that_is_no_model_is_listed_with_the_reason(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        node.put("bad.gguf", DATA[: len(DATA) // 2])

        view = await node.models.list()

    bad = one(view, "bad")
    assert (bad.state, bad.fit) == ("failed", "no")
    assert "not complete" in bad.reason
    assert view.recommended != "bad"


async def test_a_file_that_is_no_model_can_be_removed_and_not_gone_on_with(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        bad = node.put("bad.gguf", b"GGUF and nothing behind it")
        await node.models.list()

        with pytest.raises(ControlError, match="remove it, then get it again"):
            await node.models.resume("bad")
        view = await node.models.cancel("bad")
        node.put("bad.gguf")
        mended = await node.models.list()

    assert bad.exists()
    assert all(model.name != "bad" for model in view.models)
    assert one(mended, "bad").state == "ready"


async def test_the_active_model_is_the_one_that_was_chosen(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        other = tmp_path / "elsewhere.gguf"
        other.write_bytes(DATA)
        node.put("mine.gguf")

        node.choose("mine")
        by_name = await node.models.list()
        node.choose(str(other))
        by_path = await node.models.list()
        node.choose("gone")
        none = await node.models.list()

    assert [model.name for model in by_name.models if model.is_active] == ["mine"]
    assert [model.path for model in by_path.models if model.is_active] == [str(other)]
    assert [model.name for model in none.models if model.is_active] == []


async def test_a_model_is_deleted_unless_it_is_bundled_chosen_or_loaded(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        path, loaded = node.put("mine.gguf"), node.put("loaded.gguf")
        node.choose("mine")
        node.running = Running(loaded, None, 0)

        with pytest.raises(ControlError, match="choose another one first"):
            await node.models.delete("mine")
        with pytest.raises(ControlError, match="started again"):
            await node.models.delete("loaded")
        node.choose("")
        with pytest.raises(ControlError, match="in use"):
            await node.models.delete(BUNDLED.id)
        node.choose("loaded")
        with pytest.raises(ModelError, match="comes with the program"):
            await node.models.delete(BUNDLED.id)
        with pytest.raises(ModelError, match="no model named"):
            await node.models.delete("nothing")
        view = await node.models.delete("mine")

    assert not path.exists()
    assert all(model.name != "mine" for model in view.models)


async def test_models_move_with_what_is_left_of_downloads_and_the_settings_follow(
    tmp_path: Path,
) -> None:
    async with open_node(tmp_path / "data") as node:
        mine = node.put("mine.gguf")
        node.put("half.gguf.part", b"half")
        node.put("notes.txt", b"the user's own")
        node.running = Running(mine, None, 0)
        node.choose(str(mine))

        view = await node.models.move(str(tmp_path / "big disk"))

    target = tmp_path / "big disk"
    assert (target / "mine.gguf").read_bytes() == DATA
    assert (target / "half.gguf.part").exists()
    assert [path.name for path in node.folder.iterdir()] == ["notes.txt"]
    assert view.folder == str(target)
    assert one(view, "mine").is_active
    assert node.relocated == [str(target / "mine.gguf")]
    assert Preferences(node.folders, {}).current.models_folder == str(target)


async def test_a_move_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_node(tmp_path / "data") as node:
        node.put("a.gguf")
        node.put("b.gguf", b"other")
        target = tmp_path / "new"
        target.mkdir()
        (target / "b.gguf").write_bytes(b"somebody's")

        with pytest.raises(ResourceError, match="there already"):
            await node.models.move(str(target))
        with pytest.raises(ControlError, match="already"):
            await node.models.move(str(node.folder))
        with pytest.raises(ControlError, match="from the root"):
            await node.models.move("models")
        with pytest.raises(ResourceError):
            await node.models.move("/proc/nowhere")

    assert [path.name for path in target.iterdir()] == ["b.gguf"]
    assert sorted(path.name for path in node.folder.glob("*.gguf")) == ["a.gguf", "b.gguf"]
    assert node.preferences.current.models_folder == ""


def test_a_copy_to_another_disk_is_written_out_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(*paths: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    path = tmp_path / "a.gguf"
    path.write_bytes(DATA)

    made = move.copy_models([path], tmp_path / "b", 0, lambda: None)

    assert made[0].read_bytes() == DATA
    with pytest.raises(ResourceError, match="stay free"):
        move.copy_models([path], tmp_path / "c", 1 << 60, lambda: None)
    assert list((tmp_path / "c").iterdir()) == []


def candidate(
    name: str, family: str, fit: Fit = Fit.FITS, hosts: int = 0, speed: float | None = None
) -> Candidate:
    return Candidate(name, family, fit, "Fits.", hosts, speed, is_bundled=name == "bundled")


BUNDLED_ONE = candidate("bundled", "Small")


@pytest.mark.parametrize(
    ("candidates", "name", "words"),
    [
        ([BUNDLED_ONE, candidate("q4", "Big"), candidate("q8", "Big")], "q4", "serves Small hosts"),
        ([candidate("bundled", "Small", hosts=2), candidate("q4", "Big")], "bundled", "2 hosts"),
        ([BUNDLED_ONE, candidate("q4", "Big", hosts=1)], "q4", "1 host asks"),
        ([BUNDLED_ONE, candidate("q4", "Big", Fit.TIGHT)], "bundled", "serves Small hosts only"),
        ([candidate("bundled", "Small", Fit.NO)], "", "close other programs"),
        ([candidate("q4", "Big", speed=9.0), candidate("q8", "Big", speed=12.0)], "q8", "Big"),
    ],
)
def test_the_recommended_model_fits_and_is_wanted(
    candidates: list[Candidate], name: str, words: str
) -> None:
    found, why = recommend(candidates, "Big")

    assert found == name
    assert words in why
