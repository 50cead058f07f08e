"""Take back a pause: the model is loaded again and the hosts are greeted again.
---
examples:
  nexusnode resume
"""

import argparse

from nexusnode.cli.data import connected
from nexusnode.cli.status import words_of


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(flags: argparse.Namespace) -> int:
    with connected(flags) as client:
        words = words_of(client.call("resume"))
    print(f"{words.title}. {words.sentence}")
    return 0
