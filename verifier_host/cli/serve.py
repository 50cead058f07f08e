"""`nexus-verifier serve`: the host, until Ctrl-C."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from p2p.log import open_log
from p2p.paths import Folders
from verifier_host.config import load_config
from verifier_host.front.main import serve, serve_until_signal

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(
    commands: "_SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    command = commands.add_parser(
        "serve",
        parents=[common],
        help="run the host",
        description="Run the host until Ctrl-C or SIGTERM. Settings may also be given as variables:"
        " NEXUS_API_LISTEN=127.0.0.1:9000 sets api.listen.",
    )
    command.add_argument(
        "--address-file",
        type=Path,
        metavar="FILE",
        help="write the addresses to FILE as JSON once they are listened on",
    )
    command.set_defaults(run=run)


def run(flags: argparse.Namespace, place: Folders, config: Path) -> int:
    settings = load_config(config)
    log = open_log("host", as_json=settings.log_json)
    host = partial(serve, settings, place, log, address_file=flags.address_file)
    trio.run(serve_until_signal, host, log)
    return 0
