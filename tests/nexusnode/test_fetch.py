"""Downloads against a real HTTP server on loopback that cuts, lies and redirects as told."""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nexusnode.models import partial
from nexusnode.models.fetch import (
    ATTEMPTS,
    MAX_REDIRECTS,
    Order,
    Pace,
    Progress,
    check_url,
    download,
)
from nexusnode.models.pull import pull, resolve
from p2p.errors import DownloadError, ModelError, ResourceError, UsageError

pytestmark = pytest.mark.slow  # 0.3 s each: httpx loads the certificates for every client
DATA = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Script:
    """What the server does; `ranges` is what it was asked for."""

    data: bytes = DATA
    cut_after: int = 0  # bytes of one answer; 0 never
    cut_answers: int = 10**6
    ranged: bool = True
    etag: str = '"v1"'
    linked: str = ""
    length: bool = True
    statuses: list[int] = field(default_factory=list)
    content_range: str = ""
    extra: bytes = b""
    redirects: int = 0
    location: str = ""
    listing: bytes = b""
    ranges: list[str | None] = field(default_factory=list)
    if_ranges: list[str | None] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    script: Script

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        script = self.server.script
        if self.path.startswith("/api/models/"):
            self._answer(200 if script.listing else 404, script.listing, {})
        elif script.redirects:
            script.redirects -= 1
            location = script.location or f"/hop{script.redirects}.gguf"
            linked = {"X-Linked-ETag": f'"{script.linked}"'} if script.linked else {}
            self._answer(302, b"", {"Location": location, **linked})
        elif script.statuses:
            self._answer(script.statuses.pop(0), b"", {})
        else:
            self._send_file(script)

    def _send_file(self, script: Script) -> None:
        asked, if_range = self.headers.get("Range"), self.headers.get("If-Range")
        script.ranges.append(asked)
        script.if_ranges.append(if_range)
        start = int(asked[6:-1]) if asked and script.ranged else 0
        if if_range not in (None, script.etag):
            start = 0
        if start > len(script.data):
            self._answer(416, b"", {})
            return
        headers = {"ETag": script.etag} if script.etag else {}
        if start:
            total = len(script.data)
            headers["Content-Range"] = script.content_range or f"bytes {start}-{total - 1}/{total}"
        self._answer(206 if start else 200, script.data[start:], headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        script = self.server.script
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if script.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if script.cut_after and script.cut_answers and len(body) > script.cut_after:
            script.cut_answers -= 1
            body = body[: script.cut_after]
        self.wfile.write(body + script.extra)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.script = Script()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Run:
    """One download in this process, with its progress and the waits it asked for."""

    def __init__(self, server: Server, folder: Path, sha256: str = SHA256) -> None:
        self.path = folder / "m.gguf"
        self.order = Order(f"{server.url}/m.gguf", sha256, str(self.path), reserve_bytes=0)
        self.progress: list[Progress] = []
        self.waits: list[float] = []

    def __call__(self) -> str:
        return download(self.order, self.progress.append, self.waits.append).sha256

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


def test_a_whole_file_comes_with_its_hash_and_progress(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path)

    assert run() == SHA256
    assert run.path.read_bytes() == DATA
    assert run.left == ["m.gguf"]
    assert run.progress[-1] == Progress(len(DATA), len(DATA))


def test_a_download_that_is_cut_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.script.cut_after = 300_000
    run = Run(server, tmp_path)

    run()

    assert run.path.read_bytes() == DATA
    assert len(server.script.ranges) == 4
    assert server.script.ranges[0] is None
    assert all(re.fullmatch(r"bytes=[1-9]\d*-", asked or "") for asked in server.script.ranges[1:])
    assert server.script.if_ranges[1:] == ['"v1"'] * 3
    assert run.waits == []  # each attempt brought bytes


def test_a_server_without_ranges_is_asked_for_all_again(server: Server, tmp_path: Path) -> None:
    server.script.cut_after, server.script.cut_answers = 300_000, 1
    server.script.ranged = False
    run = Run(server, tmp_path)

    run()

    assert run.path.read_bytes() == DATA


def cut_part(server: Server, run: Run) -> int:
    """Leave a part behind, as a process that was killed does; return its size."""
    server.script.cut_after, server.script.cut_answers = 300_000, 1
    server.script.content_range = "bytes 1-2/3"
    with pytest.raises(DownloadError):
        run()
    server.script.content_range = ""
    server.script.ranges.clear()
    server.script.if_ranges.clear()
    return (run.path.parent / "m.gguf.part").stat().st_size


def test_what_an_earlier_process_left_is_hashed_and_gone_on_with(
    server: Server, tmp_path: Path
) -> None:
    run = Run(server, tmp_path)
    have = cut_part(server, run)
    assert run.left == ["m.gguf.part", "m.gguf.part.json"]

    run()

    assert server.script.ranges == [f"bytes={have}-"]
    assert run.path.read_bytes() == DATA


def test_bytes_that_changed_on_the_disk_are_found_by_the_hash(
    server: Server, tmp_path: Path
) -> None:
    run = Run(server, tmp_path)
    cut_part(server, run)
    part = tmp_path / "m.gguf.part"
    part.write_bytes(b"\xff" + part.read_bytes()[1:])

    with pytest.raises(DownloadError, match=r"expected .*kept as m\.gguf\.bad"):
        run()
    assert run.left == ["m.gguf.bad"]


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://127.0.0.1:1/other.gguf"},
        {"sha256": "0" * 64},
        {"total_bytes": "many"},
        {"etag": None},
        {"more": 1},
        None,
    ],
)
def test_a_part_of_another_source_is_begun_anew(
    server: Server, tmp_path: Path, change: dict[str, object] | None
) -> None:
    run = Run(server, tmp_path)
    cut_part(server, run)
    side = tmp_path / "m.gguf.part.json"
    side.write_text(
        "[" if change is None else json.dumps({**json.loads(side.read_text()), **change})
    )

    run()

    assert server.script.ranges == [None]
    assert run.path.read_bytes() == DATA


def test_a_file_that_changed_at_the_server_is_begun_anew(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path)
    cut_part(server, run)
    server.script.etag = '"v2"'

    run()

    assert server.script.if_ranges == ['"v1"']
    assert run.path.read_bytes() == DATA


def test_a_part_longer_than_the_file_is_begun_anew(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path)
    cut_part(server, run)
    side = tmp_path / "m.gguf.part.json"
    side.write_text(json.dumps({**json.loads(side.read_text()), "total_bytes": 0}))
    (tmp_path / "m.gguf.part").write_bytes(bytes(len(DATA) + 1))

    run()

    assert run.path.read_bytes() == DATA


def test_a_file_of_the_wrong_hash_is_put_aside_and_named(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path, sha256="0" * 64)

    with pytest.raises(DownloadError, match=f"SHA-256 is {SHA256}, expected 0000"):
        run()
    assert run.left == ["m.gguf.bad"]


def test_the_hubs_word_on_the_hash_counts_where_none_is_given(
    server: Server, tmp_path: Path
) -> None:
    server.script.redirects, server.script.linked = 1, SHA256

    assert Run(server, tmp_path, sha256="")() == SHA256


@pytest.mark.parametrize("linked", ["", "abc", "z" * 64])
def test_without_any_hash_nothing_is_downloaded(
    server: Server, tmp_path: Path, linked: str
) -> None:
    server.script.redirects, server.script.linked = 1, linked

    with pytest.raises(DownloadError, match="names no SHA-256"):
        Run(server, tmp_path, sha256="")()


def test_a_file_of_unknown_length_ends_with_the_answer(server: Server, tmp_path: Path) -> None:
    server.script.length = False
    run = Run(server, tmp_path)

    run()

    assert run.path.read_bytes() == DATA


def test_weak_or_missing_etags_resume_by_range_and_hash(server: Server, tmp_path: Path) -> None:
    server.script.etag = 'W/"v1"'
    server.script.cut_after, server.script.cut_answers = 300_000, 1
    run = Run(server, tmp_path)

    run()

    assert server.script.if_ranges == [None, None]
    assert run.path.read_bytes() == DATA


def test_a_server_that_is_gone_is_tried_five_times_with_growing_waits(
    server: Server, tmp_path: Path
) -> None:
    run = Run(server, tmp_path)
    run.order = Order("http://127.0.0.1:1/m.gguf", SHA256, str(run.path), 0)

    with pytest.raises(DownloadError, match=r"no answer from 127\.0\.0\.1 .*ConnectError.*goes on"):
        run()
    assert run.waits == [1, 2, 4, 8]
    assert len(run.waits) == ATTEMPTS - 1


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.script.statuses = [503, 429, 500]
    run = Run(server, tmp_path)

    assert run() == SHA256
    assert run.waits == [1, 2, 4]


def test_a_server_that_stays_busy_is_named_with_its_status(server: Server, tmp_path: Path) -> None:
    server.script.statuses = [503] * ATTEMPTS

    with pytest.raises(DownloadError, match="HTTP 503"):
        Run(server, tmp_path)()


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no such public file"), (403, "public"), (418, "HTTP 418")]
)
def test_a_file_that_cannot_be_had_is_refused_at_once(
    server: Server, tmp_path: Path, status: int, words: str
) -> None:
    server.script.statuses = [status]

    with pytest.raises(DownloadError, match=words):
        Run(server, tmp_path)()


@pytest.mark.parametrize("answer", ["bytes 7-9/10", "pages 1-2/3", "bytes x-9/10", "", "bytes"])
def test_an_answer_of_another_range_is_refused(server: Server, tmp_path: Path, answer: str) -> None:
    run = Run(server, tmp_path)
    have = cut_part(server, run)
    server.script.content_range = answer or " "

    with pytest.raises(DownloadError, match=f"asked for byte {have}"):
        run()


def test_a_file_of_another_size_than_before_is_refused(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path)
    have = cut_part(server, run)
    server.script.content_range = f"bytes {have}-999/1000"

    with pytest.raises(DownloadError, match=f"1000 bytes now, {len(DATA)} before"):
        run()


@pytest.mark.parametrize(("redirects", "is_good"), [(MAX_REDIRECTS, True), (6, False)])
def test_redirects_are_followed_five_times(
    server: Server, tmp_path: Path, redirects: int, is_good: bool
) -> None:
    server.script.redirects = redirects
    run = Run(server, tmp_path)

    if is_good:
        assert run() == SHA256
    else:
        with pytest.raises(DownloadError, match="more than 5 redirects"):
            run()


@pytest.mark.parametrize("location", ["http://192.0.2.1/m.gguf", "ftp://127.0.0.1/m", "file:///m"])
def test_a_redirect_to_an_open_line_is_not_followed(
    server: Server, tmp_path: Path, location: str
) -> None:
    server.script.redirects, server.script.location = 1, location

    with pytest.raises(DownloadError, match="downloads need https"):
        Run(server, tmp_path)()


@pytest.mark.parametrize(
    ("url", "came_from", "is_good"),
    [
        ("https://example.org/m.gguf", None, True),
        ("http://127.0.0.9/m.gguf", None, True),
        ("http://[::1]:8000/m.gguf", None, True),
        ("http://localhost/m.gguf", "http://127.0.0.1/m.gguf", True),
        ("http://localhost/m.gguf", "https://example.org/m.gguf", False),
        ("http://example.org/m.gguf", None, False),
        ("http://127.0.0.1.example.org/m.gguf", None, False),
        ("m.gguf", None, False),
        ("http://[::1/m.gguf", None, False),
        ("http://a\0b/", None, False),
    ],
)
def test_downloads_are_https_but_on_this_machine(
    url: str, came_from: str | None, is_good: bool
) -> None:
    if is_good:
        check_url(url, came_from)
        return
    with pytest.raises(DownloadError, match=r"need https|not a URL"):
        check_url(url, came_from)


def test_a_disk_without_room_is_said_before_any_byte(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path)
    run.order = Order(run.order.url, SHA256, str(run.path), reserve_bytes=1 << 60)

    with pytest.raises(ResourceError, match=r"m\.gguf needs 0\.0 GB more, and 1152921504\.6 GB"):
        run()


def test_room_is_looked_at_again_while_bytes_come(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    source = partial.Source("https://example.org/m.gguf", SHA256)
    with partial.open_partial(tmp_path / "m.gguf", source, lambda *_: None, 0) as part:
        part.begin("", 0, "")
        part._reserve_bytes = free * 2
        chunk = bytes(1 << 20)
        for _ in range(partial.CHECK_BYTES // len(chunk) - 1):
            part._unchecked += len(chunk)
        with pytest.raises(ResourceError, match="GB free"):
            part.write(chunk)


@pytest.mark.parametrize(("rate", "seconds"), [(0, 0.0), (1000, 9.0), (500, 19.0)])
def test_bytes_come_as_fast_as_allowed_after_one_second_of_them(rate: int, seconds: float) -> None:
    now = 100.0

    def wait(length: float) -> None:
        nonlocal now
        now += length

    pace = Pace(rate, wait, lambda: now)
    now += 3600.0  # what was not used in an hour is not made up for

    for _ in range(100):
        pace.take(100)

    assert now - 3700.0 == pytest.approx(seconds)


def test_parts_are_listed_with_their_source_and_discarded(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path)
    have = cut_part(server, run)
    (tmp_path / "orphan.gguf.part").write_bytes(b"of an unknown source")

    ((path, source, done_bytes),) = partial.partials(tmp_path)
    partial.discard(path)

    assert (path, source.url, done_bytes) == (run.path, run.order.url, have)
    assert run.left == ["orphan.gguf.part"]


def test_two_processes_never_write_one_part(server: Server, tmp_path: Path) -> None:
    run = Run(server, tmp_path)
    source = partial.Source(run.order.url, SHA256)

    with (
        partial.open_partial(run.path, source, lambda *_: None),
        pytest.raises(DownloadError, match="another process is downloading it"),
    ):
        run()


def test_a_folder_that_cannot_be_made_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    run = Run(server, tmp_path / "file" / "models")

    with pytest.raises(ResourceError, match=r"Not a directory|File exists"):
        run()


# ---- what a person names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "sha256", "url", "digest"),
    [
        ("o/r/f.gguf", None, "https://huggingface.co/o/r/resolve/main/f.gguf", ""),
        ("o/r/sub/f.gguf", SHA256.upper(), ".../o/r/resolve/main/sub/f.gguf", SHA256),
        ("qwen2.5-0.5b-instruct-q8_0", None, ".../qwen2.5-0.5b-instruct-q8_0.gguf", ""),
        (
            "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
            None,
            ".../resolve/main/qwen2.5-0.5b-instruct-q4_0.gguf",
            "",
        ),
        ("https://e.org/x/f.gguf?download=true", SHA256, "https://e.org/x/f.gguf?d...", SHA256),
    ],
)
async def test_a_source_names_one_file(
    source: str, sha256: str | None, url: str, digest: str
) -> None:
    found = await resolve(source, sha256)

    assert found.sha256 == digest
    assert found.url.startswith(url.split("...")[0])
    assert found.url.endswith(url.split("...")[-1])
    assert found.file.endswith(".gguf")


@pytest.mark.parametrize(
    ("source", "sha256", "words"),
    [
        ("", None, "expected a Hugging Face id"),
        ("model", None, "expected a Hugging Face id"),
        ("../../etc/passwd", None, "expected a Hugging Face id"),
        ("o/r/.hidden.gguf", None, "expected a Hugging Face id"),
        ("o//f.gguf", None, "expected a Hugging Face id"),
        ("o/r/f.bin", None, "ends in .gguf"),
        ("o/r/f.gguf", "abc", "64 hex digits"),
        ("https://e.org/f.gguf", None, "needs --sha256"),
        ("https://e.org/f.bin", SHA256, "the name of a .gguf file"),
        ("https://e.org/..%2ff.gguf", SHA256, "the name of a .gguf file"),
    ],
)
async def test_a_source_of_another_form_is_a_wrong_command(
    source: str, sha256: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        await resolve(source, sha256)


def listing(*names: str) -> bytes:
    return json.dumps({"siblings": [{"rfilename": name} for name in names]}).encode()


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("README.md", "m-Q8_0.gguf", "m-Q4_0.gguf"), "m-Q4_0.gguf"),
        (("m-Q2_K.gguf", "m-Q4_K_M.gguf"), "m-Q4_K_M.gguf"),
        (("sub/only.gguf", "m-Q4_0-00001-of-00002.gguf"), "sub/only.gguf"),
        (("only.gguf", "../../evil-q4_0.gguf"), "only.gguf"),
    ],
)
async def test_a_repository_gives_its_file_for_drafting(
    server: Server, names: tuple[str, ...], chosen: str
) -> None:
    server.script.listing = listing(*names)

    found = await resolve("o/r", None, server.url)

    assert found.url == f"{server.url}/o/r/resolve/main/{chosen}"


@pytest.mark.parametrize(
    ("names", "words"), [(("a.gguf", "b.gguf"), "a.gguf, b.gguf"), ((), "no GGUF file")]
)
async def test_a_repository_with_no_one_file_must_be_asked_by_file(
    server: Server, names: tuple[str, ...], words: str
) -> None:
    server.script.listing = listing(*names)

    with pytest.raises(UsageError, match=words):
        await resolve("o/r", None, server.url)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"siblings": [1]}', b"[" * 10_000, bytes(5 << 20)]
)
async def test_a_hub_without_a_readable_listing_is_named(server: Server, body: bytes) -> None:
    server.script.listing = body

    with pytest.raises(DownloadError, match="o/r: the hub"):
        await resolve("o/r", None, server.url)


async def test_without_a_network_the_bundled_draft_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"cannot be reached .*smollm2-draft-50m-q4_0"):
        await pull("o/r", None, tmp_path, print, hub="http://127.0.0.1:1")


async def test_the_bundled_draft_is_there_without_a_download(tmp_path: Path) -> None:
    path = await pull("smollm2-draft-50m-q4_0", None, tmp_path, print, hub="http://127.0.0.1:1")

    assert path.is_file()


async def test_a_file_of_that_name_with_another_hash_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "f.gguf").write_bytes(b"mine")

    with pytest.raises(ModelError, match="delete it first"):
        await pull("https://e.org/f.gguf", SHA256, tmp_path, print)
    assert (tmp_path / "f.gguf").read_bytes() == b"mine"
