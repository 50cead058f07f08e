"""From what a person names to a model file in the folder: `nexusnode models pull`."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from nexusnode.models.catalogue import BUNDLED, HUB, bundled_path, default_of_repository, find
from nexusnode.models.fetch import Order, Progress, fetch
from nexusnode.models.gguf import inspect
from nexusnode.models.partial import is_sha256
from nexusnode.models.store import file_sha256
from p2p.errors import DownloadError, ModelError, UsageError

LISTING_SECONDS = 20.0
_MAX_LISTING_BYTES = 4 << 20
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
# By use: the fast type on CPUs, then what GPUs and most repositories have.
_PREFERRED = ("q4_0", "q8_0", "q4_k_m")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to download. `sha256` empty: the hub's own word counts."""

    url: str
    file: str
    sha256: str


async def pull(
    source: str,
    sha256: str | None,
    folder: Path,
    progress: Callable[[Progress], None],
    hub: str = HUB,
) -> Path:
    """Download a model into `folder`, check it, and return its path. A file that is there is kept.

    Args:
        source: a catalogue id, `owner/repository`, `owner/repository/file.gguf` or a URL.
        sha256: in hex; must be given for a URL.
        progress: called at most five times a second.

    Raises:
        UsageError: `source` or `sha256` is none of these.
        DownloadError, ResourceError: as `fetch`; without a network the bundled draft is named.
        ModelError: the file is there and right, but no GGUF that this program can use.
    """
    entry = find(source)
    if entry is BUNDLED:
        return bundled_path()
    try:
        wanted = await resolve(source, sha256, hub)
        path = folder / wanted.file
        if path.exists():
            await _check_existing(path, wanted.sha256)
        else:
            await fetch(Order(wanted.url, wanted.sha256, str(path)), progress)
    except DownloadError as error:
        raise DownloadError(
            f"{error}. The draft {BUNDLED.id} (for hosts of {BUNDLED.family}-135M-Instruct) comes "
            "with the program and needs no network"
        ) from error
    await inspect(path)
    return path


async def resolve(source: str, sha256: str | None, hub: str = HUB) -> Wanted:
    """Return what to download; asks the hub only for `owner/repository` outside the catalogue."""
    digest = (sha256 or "").lower()
    if digest and not is_sha256(digest):
        raise UsageError("--sha256: expected 64 hex digits")
    if "://" in source:
        return _of_url(source, digest)
    entry = find(source) or default_of_repository(source)
    if entry is not None:
        source, digest = entry.source, digest or entry.sha256
    parts = source.split("/")
    if len(parts) < 2 or not all(_PART.fullmatch(part) for part in parts):
        raise UsageError(
            f"{source[:128]!r}: expected a Hugging Face id (owner/repository/file.gguf) or a URL"
        )
    if len(parts) == 2:
        parts += (await _choose(hub, source)).split("/")
    if not parts[-1].endswith(".gguf"):
        raise UsageError(f"{parts[-1]!r}: expected a file that ends in .gguf")
    owner, repository, *file = parts
    return Wanted(f"{hub}/{owner}/{repository}/resolve/main/{'/'.join(file)}", parts[-1], digest)


def _of_url(url: str, digest: str) -> Wanted:
    file = url.partition("?")[0].rpartition("/")[2]
    if not _PART.fullmatch(file) or not file.endswith(".gguf"):
        raise UsageError("the URL must end in the name of a .gguf file")
    if not digest:
        raise UsageError(f"{file}: a download by URL needs --sha256 from its publisher")
    return Wanted(url, file, digest)


async def _choose(hub: str, repository: str) -> str:
    """Return the repository's file to take: one of the preferred types, or its only GGUF."""
    files = [name for name in await _listing(hub, repository) if not _SHARD.search(name)]
    for wanted in _PREFERRED:
        for name in files:
            if wanted in name.lower():
                return name
    if len(files) == 1:
        return files[0]
    raise UsageError(
        f"{repository}: name one of its files, as {repository}/FILE: "
        + (", ".join(files[:20]) or "it has no GGUF file")
    )


async def _listing(hub: str, repository: str) -> list[str]:
    """Return the names of the GGUF files of a repository."""
    body = bytearray()
    try:
        with trio.fail_after(LISTING_SECONDS):
            async with (
                httpx.AsyncClient(timeout=LISTING_SECONDS) as client,
                client.stream("GET", f"{hub}/api/models/{repository}") as response,
            ):
                if response.status_code != 200:
                    raise DownloadError(
                        f"{repository}: the hub knows no such public repository "
                        f"(HTTP {response.status_code})"
                    )
                async for data in response.aiter_bytes():
                    if len(body) <= _MAX_LISTING_BYTES:  # what is past it is no list of files
                        body += data
    except (httpx.TransportError, trio.TooSlowError) as error:
        raise DownloadError(
            f"{httpx.URL(hub).host} cannot be reached ({type(error).__name__})"
        ) from error
    try:
        names = [str(entry["rfilename"]) for entry in json.loads(body)["siblings"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DownloadError(f"{repository}: the hub's listing cannot be read") from error
    is_plain = re.compile(rf"{_PART.pattern}(/{_PART.pattern})*")
    return [name for name in names if name.endswith(".gguf") and is_plain.fullmatch(name)]


async def _check_existing(path: Path, sha256: str) -> None:
    """See that a file which is there already is the one that was asked for."""
    if not sha256:
        return
    found = await trio.to_thread.run_sync(file_sha256, path)
    if found != sha256:
        raise ModelError(
            f"{path} is there with SHA-256 {found}, not the {sha256} asked for: delete it first"
        )
