"""`nexus-verifier init`: a commented configuration, and the first API key."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from p2p.errors import ConfigError
from p2p.paths import Folders, write_private
from p2p.settings import Value, write
from verifier_host.api.keys import KeyBook, mint
from verifier_host.config import BUNDLED, DEFAULT_TARGET, TABLE
from verifier_host.front.main import KEYS_FILE

if TYPE_CHECKING:
    from argparse import _SubParsersAction

BUNDLED_KV_TOKENS = 32_768  # a try-out should not take all of a machine's memory
TITLE = """\
Configuration of a Nexus verifier host. Lines that begin with # show the defaults.
After a change: nexus-verifier check"""


def add_to(
    commands: "_SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    command = commands.add_parser(
        "init",
        parents=[common],
        help="write verifier.toml and make an API key",
        description="Write a commented verifier.toml and make one API key, which is shown once.",
    )
    command.add_argument(
        "--model",
        default=DEFAULT_TARGET,
        metavar="MODEL",
        help=f'a GGUF file, a folder, a Hugging Face id, or "{BUNDLED}" (default {DEFAULT_TARGET})',
    )
    command.add_argument("--key-only", action="store_true", help="print nothing but the key")
    command.add_argument("--force", action="store_true", help="replace an existing verifier.toml")
    command.set_defaults(run=run)


def run(flags: argparse.Namespace, place: Folders, config: Path) -> int:
    """Write both files. `ConfigError` if there is a configuration already."""
    if config.exists() and not flags.force:
        raise ConfigError(f"{config} exists already; edit it, or replace it with --force")
    values: dict[str, Value] = {"model.path": flags.model}
    if flags.model == BUNDLED:
        values["model.kv_tokens"] = BUNDLED_KV_TOKENS
    write_private(config, write(TABLE, values, TITLE).encode())
    secret, key = mint("first", int(time.time()))
    KeyBook(place.data / KEYS_FILE).add(key)
    if flags.key_only:
        print(secret)
        return 0
    print(
        f"wrote {config}\n\nAPI key (shown only now; its hash is kept):\n\n  {secret}\n\n"
        "Next:\n"
        "  nexus-verifier check    says what would run and whether it fits\n"
        "  nexus-verifier serve    runs it\n\n"
        "Drafting is allowed to the nodes that network.allow_nodes lists: nobody's, until you\n"
        "add some. Nodes that draft see prompts and answers in clear."
    )
    return 0
