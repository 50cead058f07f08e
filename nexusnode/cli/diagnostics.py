"""Write a zip for whoever helps you: doctor's findings, settings, state and log.

It holds no keys, no chats and no addresses of others, and your home folder is written as ~. Look
into it before you pass it on. The node need not run.
---
examples:
  nexusnode diagnostics report.zip
"""

import argparse
from pathlib import Path

import trio

from nexusnode.cli.data import connected, folders_of
from nexusnode.cli.main import package_version
from nexusnode.control.messages import FileTarget, Report, Written
from nexusnode.daemon.diagnostics import Diagnostics
from nexusnode.daemon.examination import Examination
from p2p.errors import NoDaemon
from p2p.log import quiet_log

EXAMINE_SECONDS = 120.0  # every check of the doctor has a deadline of its own


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="the zip to write")


def run(flags: argparse.Namespace) -> int:
    path = str(Path(flags.path).expanduser().resolve())
    try:
        with connected(flags) as client:
            report = client.call("diagnostics.preview", seconds=EXAMINE_SECONDS)
            written = client.call("diagnostics.write", FileTarget(path))
    except NoDaemon:
        report, written = trio.run(_without_node, flags, path)
    for file in report.files:
        print(f"{file.bytes:9,} bytes  {file.name}")
    print(written.path)
    return 0


async def _without_node(flags: argparse.Namespace, path: str) -> tuple[Report, Written]:
    folders = folders_of(flags)
    examination = Examination(folders)
    diagnostics = Diagnostics(
        folders,
        package_version(),
        lambda: examination.node_id,
        lambda: examination.run(lambda finding: None),
        lambda: None,
        quiet_log(),
    )
    return await diagnostics.preview(), await diagnostics.write(path)
