"""Draft for hosts until you stop it: with Ctrl-C, `nexusnode stop` or SIGTERM.

It drafts while you are away: nobody has touched the computer for five minutes, it is plugged in,
cool and not over a metered connection, and no program fills the screen (node.toml, [run] and
[limits], changes all of that). Where nothing can tell when you are away it stays paused and says
so; --always drafts while you work, too. A pause that you asked for lasts until `nexusnode resume`
or its end, also over a restart and with --always.
---
examples:
  nexusnode run --always --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
  nexusnode run --always --data /tmp/n1 --model ~/models/qwen2.5-0.5b-instruct-q4_0.gguf

Everything but --data can stand in node.toml, or in variables such as NEXUS_HOSTS_BOOTSTRAP.
"""

import argparse

import trio

from nexusnode.cli.data import folders_of
from nexusnode.cli.main import package_version
from nexusnode.daemon.main import run_node
from nexusnode.settings import ROWS, NodeSettings
from p2p.log import open_log
from p2p.network.peer import Libp2pTransport
from p2p.network.transport import Transport


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--always", action="store_true", help="draft whether or not somebody uses this computer"
    )
    parser.add_argument("--model", metavar="PATH", help="draft model: a GGUF file, or its name")
    _many(parser, "--bootstrap", "hosts.bootstrap")
    _many(parser, "--listen", "network.listen")
    _many(parser, "--allow-host", "hosts.allow")
    parser.add_argument("--threads", type=int, help=ROWS["limits.threads"].help)
    parser.add_argument("--sessions", type=int, help=ROWS["limits.sessions"].help)
    parser.add_argument("--json-log", action="store_true", help="log lines as JSON")


def run(flags: argparse.Namespace) -> int:
    folders = folders_of(flags)
    log = open_log("node", as_json=flags.json_log)
    settings = {
        "run.when": "always" if flags.always else None,
        "models.draft": flags.model,
        "hosts.bootstrap": flags.bootstrap,
        "network.listen": flags.listen,
        "hosts.allow": flags.allow_host,
        "limits.threads": flags.threads,
        "limits.sessions": flags.sessions,
    }
    trio.run(run_node, folders, settings, package_version(), make_transport, log)
    return 0


def make_transport(seed: bytes, settings: NodeSettings) -> Transport:
    """Return a client of the network: it dials, and answers no directory questions of others."""
    return Libp2pTransport(seed, listen=settings.listen, bootstrap=settings.bootstrap, server=False)


def _many(parser: argparse.ArgumentParser, flag: str, key: str) -> None:
    parser.add_argument(flag, nargs="+", action="extend", metavar="ADDR", help=ROWS[key].help)
