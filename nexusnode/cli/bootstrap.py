"""Help nodes and hosts to find each other: a directory server, without model and without drafting.

Prints the address that others need, and runs until Ctrl-C or SIGTERM.
---
examples:
  nexusnode bootstrap --listen /ip4/0.0.0.0/tcp/4001
  nexusnode bootstrap --listen /ip4/0.0.0.0/tcp/4001 --announce /ip4/192.0.2.7/tcp/4001
  nexusnode bootstrap --listen /ip4/127.0.0.1/tcp/0 --data /tmp/b --address-file /tmp/b/address
"""

import argparse
import signal
from pathlib import Path

import trio

from nexusnode.cli.data import folders_of
from nexusnode.control.endpoint import hold_lock
from p2p.errors import NexusError
from p2p.log import open_log
from p2p.network.keyfile import load_or_create_seed
from p2p.network.peer import Libp2pTransport
from p2p.network.transport import Startup
from p2p.paths import make_private, write_private

LISTEN = "/ip4/127.0.0.1/tcp/4001"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        nargs="+",
        default=[LISTEN],
        metavar="ADDR",
        help=f"addresses to listen on (default {LISTEN}: this machine only)",
    )
    parser.add_argument(
        "--announce",
        nargs="+",
        default=[],
        metavar="ADDR",
        help="addresses to tell others (default: this machine's own that are listened on)",
    )
    parser.add_argument(
        "--bootstrap", nargs="+", default=[], metavar="ADDR", help="other peers of the directory"
    )
    parser.add_argument(
        "--address-file", metavar="PATH", help="write the address there once it can be dialled"
    )


def run(flags: argparse.Namespace) -> int:
    folders = folders_of(flags)
    make_private(folders.data)
    with hold_lock(folders.lock):
        transport = Libp2pTransport(
            load_or_create_seed(folders.identity),
            listen=flags.listen,
            announce=flags.announce,
            bootstrap=flags.bootstrap,
            server=True,
        )
        file = Path(flags.address_file) if flags.address_file else None
        trio.run(_serve, transport, file)
    return 0


async def _serve(transport: Libp2pTransport, address_file: Path | None) -> None:
    log = open_log("bootstrap")
    startup = Startup()
    failures: list[NexusError] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def be_a_peer() -> None:
                try:
                    await transport.run(task_status=startup)
                except NexusError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(be_a_peer)
            await startup.wait()
            _say(transport, address_file)
            async for number in signals:
                log.event("bootstrap.ended", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()
                break
    if failures:
        raise failures[0]


def _say(transport: Libp2pTransport, address_file: Path | None) -> None:
    addresses = [f"{address}/p2p/{transport.me}" for address in transport.addresses()]
    for address in addresses:
        print(f"listening on {address}", flush=True)
    if address_file is not None and addresses:
        write_private(address_file, f"{addresses[0]}\n".encode())
