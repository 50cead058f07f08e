"""The two children of the models room as real processes: killed, starved, stopped, resumed."""

import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import trio

from nexusnode.models.catalogue import bundled_path
from nexusnode.models.fetch import Order, Progress, fetch
from nexusnode.models.gguf import inspect, read_header
from nexusnode.models.pull import pull
from p2p.errors import DownloadError, ModelError, ResourceError

pytestmark = pytest.mark.system
SIZE = 20_000_000
CUT_BYTES = 2_100_000


class Server(ThreadingHTTPServer):
    """Serves `data`, cuts each answer after 2.1 MB, and drips from `slow_at` on until `go`."""

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.slow_at = 1 << 60
        self.go = threading.Event()
        self.starts: list[int] = []
        self.served = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data, start = self.server.data, int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        for place in range(start, min(start + CUT_BYTES, len(data)), 1 << 16):
            if place >= self.server.slow_at:
                self.server.go.wait(0.05)
            piece = data[place : place + (1 << 16)]
            self.wfile.write(piece)
            self.server.served += len(piece)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(random.Random(1).randbytes(SIZE)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def download_children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "nexusnode.models.fetch" in child.cmdline()
    ]


async def test_a_file_arrives_through_cuts_and_three_sigkills(
    server: Server, tmp_path: Path
) -> None:
    order = Order(f"{server.url}/m.gguf", server.sha256, str(tmp_path / "m.gguf"), 0)
    kills = 0

    def kill_once_past(bytes_done: int, progress: Progress) -> None:
        if progress.done_bytes >= bytes_done:
            for child in download_children():
                child.send_signal(signal.SIGKILL)

    for bytes_done in (1, 5_000_000, 9_000_000):
        server.go.clear()
        server.slow_at = bytes_done
        with pytest.raises(DownloadError, match=r"SIGKILL.*goes on where it ended"):
            await fetch(order, lambda progress, at=bytes_done: kill_once_past(at, progress))
        kills += 1
        server.go.set()
    found = await fetch(order, lambda progress: None)

    assert kills == 3
    assert found == server.sha256
    assert (tmp_path / "m.gguf").read_bytes() == server.data
    assert sorted(os.listdir(tmp_path)) == ["m.gguf"]
    assert server.served < SIZE + 3 * CUT_BYTES
    assert download_children() == []


async def test_a_cancelled_download_leaves_no_process_and_can_go_on(
    server: Server, tmp_path: Path
) -> None:
    order = Order(f"{server.url}/m.gguf", server.sha256, str(tmp_path / "m.gguf"), 0)
    server.slow_at = 3_000_000
    with trio.CancelScope() as scope:
        await fetch(order, lambda progress: scope.cancel())
    server.go.set()
    assert scope.cancelled_caught
    assert download_children() == []

    await fetch(order, lambda progress: None)

    assert (tmp_path / "m.gguf").read_bytes() == server.data


async def test_a_full_disk_and_a_wrong_hash_come_through_the_pipe_as_themselves(
    server: Server, tmp_path: Path
) -> None:
    path = str(tmp_path / "m.gguf")
    with pytest.raises(ResourceError, match="GB free"):
        await fetch(Order(f"{server.url}/m.gguf", server.sha256, path, 1 << 60), print)
    with pytest.raises(DownloadError, match=r"kept as m\.gguf\.bad"):
        await fetch(Order(f"{server.url}/m.gguf", "0" * 64, path, 0), lambda progress: None)


async def test_pull_brings_a_model_that_can_be_used(server: Server, tmp_path: Path) -> None:
    server.data = bundled_path().read_bytes()
    sha256 = hashlib.sha256(server.data).hexdigest()
    done: list[Progress] = []

    path = await pull(f"{server.url}/d.gguf", sha256, tmp_path / "models", done.append)
    again = await pull(f"{server.url}/d.gguf", sha256, tmp_path / "models", done.append)

    assert path == again == tmp_path / "models" / "d.gguf"
    assert path.read_bytes() == server.data
    assert done[-1] == Progress(len(server.data), len(server.data))


async def test_pull_names_a_file_that_is_right_and_no_model(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x\.gguf: is not a GGUF file"):
        await pull(f"{server.url}/x.gguf", server.sha256, tmp_path, lambda progress: None)


async def test_a_header_read_by_the_child_is_the_one_read_here() -> None:
    assert await inspect(bundled_path()) == read_header(bundled_path())


async def test_a_file_that_is_no_model_is_refused_through_the_pipe(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF\3\0\0\0")

    with pytest.raises(ModelError, match=r"^x\.gguf: ends in the middle of its header"):
        await inspect(path)
    with pytest.raises(ModelError, match="No such file"):
        await inspect(tmp_path / "missing.gguf")


async def test_a_reader_that_never_ends_is_killed_in_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.gguf")
    before = set(psutil.Process().children())  # other tests may keep some, such as a display

    with pytest.raises(ModelError, match=r"x\.gguf: reading its header took more than 1 s"):
        await inspect(tmp_path / "x.gguf", timeout_seconds=1.0)
    assert set(psutil.Process().children()) == before


@pytest.mark.parametrize("name", ["a\udcff.gguf", "x" * 5000])
async def test_a_path_that_cannot_be_sent_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"rename the file|reading its header failed"):
        await inspect(tmp_path / name)
