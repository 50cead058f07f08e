"""End the node: hosts are told, no process stays behind. The same as Ctrl-C where it runs.
---
examples:
  nexusnode stop
"""

import argparse

from nexusnode.cli.data import connected
from p2p.errors import NoDaemon, Unavailable

END_SECONDS = 15.0


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(flags: argparse.Namespace) -> int:
    with connected(flags) as client:
        client.call("quit")
        try:
            client.next_notice(END_SECONDS)
        except NoDaemon:
            print("The node has ended.")
            return 0
    raise Unavailable(f"the node is still there {END_SECONDS:.0f} s after it was told to end")
