"""List, download and find draft models. The node need not run.

A download is resumed where it ended, checked against its SHA-256, and only then given its name.
---
examples:
  nexusnode models list
  nexusnode models pull qwen2.5-0.5b-instruct-q4_0
  nexusnode models pull Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q8_0.gguf
  nexusnode models pull https://example.org/draft.gguf --sha256 9f86d081...
  nexusnode run --always --model "$(nexusnode models path qwen2.5-0.5b-instruct-q4_0)"
"""

import argparse
import json
import sys
import time

import trio

from nexusnode.cli.data import folders_of
from nexusnode.models.catalogue import CATALOGUE, DEFAULT_DOWNLOAD
from nexusnode.models.fetch import Progress
from nexusnode.models.pull import pull
from nexusnode.models.store import ModelStore
from nexusnode.settings import models_folder, node_settings, read_values
from p2p.errors import ModelError

BAR_WIDTH = 30
LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="list | pull | path")
    listing = commands.add_parser("list", help="models on this computer, and known ones to get")
    listing.add_argument("--json", action="store_true", help="for programs")
    pulling = commands.add_parser("pull", help="download a model")
    pulling.add_argument(
        "source",
        nargs="?",
        default=DEFAULT_DOWNLOAD.id,
        help=f"a name from the list, a Hugging Face id or a URL (default {DEFAULT_DOWNLOAD.id})",
    )
    pulling.add_argument("--sha256", metavar="HEX", help="expected hash; needed for a URL")
    path = commands.add_parser("path", help="print where a model lies")
    path.add_argument("name", nargs="?", default="", help="default: the bundled one")
    for command in (listing, pulling, path):
        command.add_argument(
            "--data", metavar="DIR", help=argparse.SUPPRESS, default=argparse.SUPPRESS
        )


def run(flags: argparse.Namespace) -> int:
    folders = folders_of(flags)
    folder = models_folder(folders, node_settings(read_values(folders)))
    store = ModelStore(folder)
    match flags.action:
        case "list":
            print(_listing(store, flags.json))
        case "path":
            print(store.path(flags.name) if flags.name else store.check_bundled())
        case _:
            bar = ProgressBar(sys.stderr.isatty())
            try:
                path = trio.run(pull, flags.source, flags.sha256, folder, bar.show)
            finally:
                bar.end()
            print(path)
    return 0


def _listing(store: ModelStore, as_json: bool) -> str:
    here = store.models()
    names = {model.name for model in here}
    to_get = [entry for entry in CATALOGUE if entry.file.removesuffix(".gguf") not in names]
    if as_json:
        local = [
            {
                "name": model.name,
                "path": str(model.path),
                "size_bytes": model.size_bytes,
                "bundled": model.is_bundled,
            }
            for model in here
        ]
        known = [{"id": entry.id, "name": entry.name, "source": entry.source} for entry in to_get]
        return json.dumps({"models": local, "catalogue": known}, indent=1)
    if not here and not to_get:
        raise ModelError("no model is here and none is known: install the program again")
    lines = [
        f"{model.name:34} {_size(model.size_bytes):>9}  {'bundled' if model.is_bundled else 'here'}"
        for model in here
    ]
    lines += [
        f"{entry.id:34} {_size(entry.about_bytes):>9}  nexusnode models pull {entry.id}"
        for entry in to_get
    ]
    return "\n".join(lines)


class ProgressBar:
    """A bar on one line of the terminal; where there is none, a line every few seconds."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._started = self._said = time.monotonic()
        self._start_bytes: int | None = None

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._start_bytes is None:
            self._start_bytes = progress.done_bytes
        rate = (progress.done_bytes - self._start_bytes) / max(1e-3, now - self._started)
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{bar(progress)} {_size(int(rate))}/s")
        elif now - self._said >= LINE_SECONDS or progress.done_bytes == progress.total_bytes:
            self._said = now
            sys.stderr.write(f"{bar(progress)} {_size(int(rate))}/s\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._is_terminal and self._start_bytes is not None:
            sys.stderr.write("\n")


def bar(progress: Progress) -> str:
    """Return a line such as `[#####     ]  50 %  215 MB of 429 MB`."""
    if not progress.total_bytes:
        return f"{_size(progress.done_bytes)} of an unknown size"
    part = min(1.0, progress.done_bytes / progress.total_bytes)
    filled = "#" * int(BAR_WIDTH * part)
    sizes = f"{_size(progress.done_bytes)} of {_size(progress.total_bytes)}"
    return f"[{filled:{BAR_WIDTH}}] {part:4.0%}  {sizes}"


def _size(count: int) -> str:
    if count >= 10**9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 10**6 else f"{count / 1e3:.0f} kB"
