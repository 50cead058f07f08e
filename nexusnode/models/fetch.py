"""One download over HTTPS, resumed by ranges. A child process, killed to pause it.

What is on the disk, and whether it is right, is `partial.py`'s.
"""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import trio

from nexusnode.models.partial import RESERVE_BYTES, Partial, Source, is_sha256, open_partial
from p2p.errors import ChildError, DownloadError, NexusError, ResourceError
from p2p.process.child import open_child
from p2p.process.pipe import EXIT_STOP, leave, open_pipe
from p2p.wire.schema import U64, Codec, Size

ATTEMPTS = 5  # in a row without a byte
MAX_REDIRECTS = 5
SILENCE_SECONDS = 120.0  # of the child: longer than any of its own waits
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)

Report = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What to download to `path`. `sha256` in hex; empty: the one the Hugging Face hub names.

    `bytes_per_second`: at most so fast; 0 = as fast as it goes.
    """

    url: Annotated[str, Size(1, 4096)]
    sha256: Annotated[str, Size(0, 64)]
    path: Annotated[str, Size(1, 4096)]
    reserve_bytes: U64 = RESERVE_BYTES
    bytes_per_second: U64 = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """`total_bytes` is 0 while it is not known."""

    done_bytes: U64
    total_bytes: U64


@dataclass(frozen=True, slots=True)
class Fetched:
    sha256: Annotated[str, Size(64, 64)]


@dataclass(frozen=True, slots=True)
class Failed:
    """`code` is that of the error to raise."""

    code: Annotated[str, Size(1, 64)]
    text: Annotated[str, Size(1, 4096)]


TO_FETCH = Codec({0: Order})
FROM_FETCH = Codec({0: Progress, 1: Fetched, 2: Failed})


async def fetch(order: Order, report: Report) -> str:
    """Download in a child process and return the file's SHA-256. Cancelled: a later call goes on.

    Raises:
        DownloadError: network, server, size or hash; the message says what to do.
        ResourceError: the disk is full.
    """
    name = Path(order.path).name
    try:
        async with open_child(
            "nexusnode.models.fetch", FROM_FETCH, TO_FETCH, role="download"
        ) as it:
            await it.send(order)
            while True:
                with trio.move_on_after(SILENCE_SECONDS) as silence:
                    message = await it.receive()
                if silence.cancelled_caught:
                    raise ChildError(f"said nothing for {SILENCE_SECONDS:.0f} s")
                match message:
                    case Progress():
                        report(message)
                    case Fetched(sha256):
                        return sha256
                    case Failed(ResourceError.code, text):
                        raise ResourceError(text)
                    case Failed(_, text):
                        raise DownloadError(text)
    except ChildError as error:
        raise DownloadError(f"{name}: {error}; the same command goes on where it ended") from error


def download(order: Order, report: Report, wait: Callable[[float], None] = time.sleep) -> Fetched:
    """Download in this process; errors as for `fetch`. `wait` sleeps between two attempts."""
    check_url(order.url)
    path, source = Path(order.path), Source(order.url, order.sha256)
    try:
        with (
            open_partial(path, source, _counts(report), order.reserve_bytes) as part,
            httpx.Client(timeout=_TIMEOUT) as client,
        ):
            failures = 0
            pace = Pace(order.bytes_per_second, wait)
            while not part.is_complete:
                before = part.done_bytes
                try:
                    _transfer(client, part, pace)
                except (httpx.TransportError, _TryAgain) as error:
                    failures = 0 if part.done_bytes > before else failures + 1
                    if failures >= ATTEMPTS:
                        host = httpx.URL(order.url).host
                        raise DownloadError(
                            f"{path.name}: no answer from {host} in {ATTEMPTS} attempts "
                            f"({_reason(error)}); the same command goes on where it ended"
                        ) from error
                    if failures:
                        wait(2.0 ** (failures - 1))
            return Fetched(part.finish())
    except OSError as error:
        raise ResourceError(f"{path}: {error.strerror}") from error


class _TryAgain(Exception):
    """The server's answer is no file now and may be one soon."""


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _TryAgain) else type(error).__name__


def _counts(report: Report) -> Callable[[int, int], None]:
    return lambda done, total: report(Progress(done, total))


def check_url(url: str, came_from: str | None = None) -> None:
    """Raise `DownloadError` unless `url` is https, or http to this very machine.

    Args:
        came_from: the URL that redirected here; from https only https is followed.
    """
    try:
        to = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise DownloadError(f"not a URL: {error}") from error
    downgraded = came_from is not None and came_from.startswith("https:")
    if to.scheme == "https" or (to.scheme == "http" and _is_loopback(to.host) and not downgraded):
        return
    raise DownloadError(f"{to.scheme or 'no scheme'}://{to.host}: downloads need https")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Pace:
    """A token bucket that holds one second: after a pause the line is not flooded."""

    def __init__(
        self,
        bytes_per_second: int,
        wait: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = bytes_per_second
        self._wait = wait
        self._clock = clock
        self._due = clock()

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may have come."""
        if self._rate:
            now = self._clock()
            self._due = max(self._due, now - 1.0) + count / self._rate
            if self._due > now:
                self._wait(self._due - now)


def _transfer(client: httpx.Client, part: Partial, pace: Pace) -> None:
    """Ask for the bytes that are missing and take what comes.

    Raises:
        httpx.TransportError, _TryAgain: cut, or not now.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": "nexusnode"}
    if part.done_bytes:
        headers["Range"] = f"bytes={part.done_bytes}-"
        if part.source.etag:
            headers["If-Range"] = part.source.etag
    url, linked_sha256 = part.source.url, ""
    for _ in range(MAX_REDIRECTS + 1):
        with client.stream("GET", url, headers=headers) as response:
            linked_sha256 = linked_sha256 or _linked_sha256(response.headers)
            if response.is_redirect:
                target = str(response.url.join(response.headers.get("Location", "")))
                check_url(target, came_from=url)
                url = target
                continue
            _take(response, part, linked_sha256, pace)
            return
    raise DownloadError(f"{httpx.URL(url).host}: more than {MAX_REDIRECTS} redirects")


def _take(response: httpx.Response, part: Partial, linked_sha256: str, pace: Pace) -> None:
    host = response.url.host
    match response.status_code:
        case 200:
            if part.done_bytes:  # the range was not served, or the file has changed
                part.restart()
            total = _number(response.headers.get("Content-Length", "0"))
        case 206:
            start, total = _content_range(response.headers.get("Content-Range", ""))
            if start != part.done_bytes:
                raise DownloadError(f"{host}: asked for byte {part.done_bytes}, sent {start}")
        case 416 if part.done_bytes:
            part.restart()
            return
        case 401 | 403 | 404 as status:
            raise DownloadError(f"{host}: there is no such public file (HTTP {status})")
        case status if status >= 500 or status == 429:
            raise _TryAgain(f"HTTP {status}")
        case status:
            raise DownloadError(f"{host}: answered HTTP {status}")
    etag = response.headers.get("ETag", "")
    known = part.source.total_bytes
    if part.done_bytes and known and total != known:
        raise DownloadError(f"{host}: the file has {total} bytes now, {known} before")
    part.begin("" if etag.startswith("W/") else etag, total, linked_sha256)
    for data in response.iter_raw():
        part.write(data)
        pace.take(len(data))
        if total and part.done_bytes > total:
            raise DownloadError(f"{host}: sent more than the {total} bytes it announced")
    part.end()


def _linked_sha256(headers: httpx.Headers) -> str:
    """Return the hub's word on a file, given with the redirect to where it lies."""
    said = headers.get("X-Linked-ETag", "").strip('"').lower()
    return said if is_sha256(said) else ""


def _content_range(header: str) -> tuple[int, int]:
    """Return start and total of `bytes 5-9/10`; (-1, 0) if it is not of this form."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    start, _, _ = span.partition("-")
    return (_number(start), _number(total)) if unit == "bytes" and start.isdigit() else (-1, 0)


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 19 else 0


def main() -> None:
    """Carry out one Order and leave."""
    pipe = open_pipe(TO_FETCH, FROM_FETCH)
    try:
        pipe.send(download(pipe.receive(), pipe.send))
    except NexusError as error:
        pipe.send(Failed(error.code, str(error)[:1000]))
    leave(EXIT_STOP)


if __name__ == "__main__":
    main()
