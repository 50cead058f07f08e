"""Print this node's peer id, for a host's allowlist. The identity is made if there is none.
---
examples:
  nexusnode id
  nexusnode id --data /tmp/n1
"""

import argparse

from nexusnode.cli.data import folders_of
from p2p.network.keyfile import load_or_create_seed
from p2p.wire.identity import Identity


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(flags: argparse.Namespace) -> int:
    print(Identity(load_or_create_seed(folders_of(flags).identity)).peer)
    return 0
