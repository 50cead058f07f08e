"""`nexus-verifier keys`: who may use the API."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from p2p.paths import Folders
from verifier_host.api.keys import ANYONE, Key, KeyBook, mint
from verifier_host.front.main import KEYS_FILE

if TYPE_CHECKING:
    from argparse import _SubParsersAction
from dataclasses import replace


def add_to(
    commands: "_SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    group = commands.add_parser("keys", help="add, list and revoke API keys")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", parents=[common], help="make a key; it is shown once")
    add.add_argument("name", help="for whom or what it is")
    add.add_argument("--no-draft", action="store_true", help="never show its requests to any node")
    add.add_argument("--model", action="append", default=[], metavar="NAME", help="only this model")
    for flag, what in (
        ("--concurrent", "requests at a time"),
        ("--requests-per-minute", "requests a minute"),
        ("--tokens-per-minute", "tokens of prompts and answers a minute"),
    ):
        add.add_argument(flag, type=_count, default=0, metavar="N", help=f"{what}; 0 = no limit")
    add.set_defaults(run=add_key)
    show = actions.add_parser("list", parents=[common], help="show all keys, never the keys alone")
    show.set_defaults(run=list_keys)
    revoke = actions.add_parser("revoke", parents=[common], help="end a key at once")
    revoke.add_argument("id", help="its id or name, as keys list shows it")
    revoke.set_defaults(run=revoke_key)


def add_key(flags: argparse.Namespace, place: Folders, _config: Path) -> int:
    template = replace(
        ANYONE,
        draft=not flags.no_draft,
        models=tuple(flags.model),
        concurrent=flags.concurrent,
        requests_per_minute=flags.requests_per_minute,
        tokens_per_minute=flags.tokens_per_minute,
    )
    secret, key = mint(flags.name, int(time.time()), template)
    _book(place).add(key)
    print(secret)
    return 0


def list_keys(_flags: argparse.Namespace, place: Folders, _config: Path) -> int:
    keys = _book(place).keys()
    if not keys:
        print("no keys; make one: nexus-verifier keys add NAME")
    for key in keys:
        made = time.strftime("%Y-%m-%d", time.localtime(key.created))
        print(f"{key.id}  {made}  {key.name}{_limits(key)}")
    return 0


def revoke_key(flags: argparse.Namespace, place: Folders, _config: Path) -> int:
    key = _book(place).revoke(flags.id)
    print(f"revoked {key.id} ({key.name})")
    return 0


def _book(place: Folders) -> KeyBook:
    return KeyBook(place.data / KEYS_FILE)


def _limits(key: Key) -> str:
    parts = [
        "" if key.draft else "no drafting",
        f"only {', '.join(key.models)}" if key.models else "",
        f"{key.concurrent} at a time" if key.concurrent else "",
        f"{key.requests_per_minute} requests/min" if key.requests_per_minute else "",
        f"{key.tokens_per_minute} tokens/min" if key.tokens_per_minute else "",
    ]
    found = ", ".join(part for part in parts if part)
    return f"  ({found})" if found else ""


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError("expected 0 or more")
    return count
