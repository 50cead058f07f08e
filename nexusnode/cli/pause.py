"""Stop drafting at once: the model leaves memory, the hosts are told. Until you resume, by default;
a restart does not end it.
---
examples:
  nexusnode pause
  nexusnode pause --for 2h           goes on by itself; time asleep counts
  nexusnode pause --finish           first ends what is open, within a minute
  nexusnode pause --until 18:30      the next half past six
  nexusnode pause --until 2026-05-01T08:00
"""

import argparse
from datetime import datetime

from nexusnode.cli.data import connected, parse_length, parse_time
from nexusnode.cli.status import words_of
from nexusnode.control.messages import Pause


def configure(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--for", dest="length", metavar="LENGTH", help="such as 30m, 2h, 1h30m")
    group.add_argument("--until", dest="time", metavar="TIME", help="such as 18:30")
    group.add_argument("--finish", action="store_true", help="let open answers end first")


def run(flags: argparse.Namespace) -> int:
    length = parse_length(flags.length) if flags.length else None
    time = parse_time(flags.time, datetime.now().astimezone()) if flags.time else None
    with connected(flags) as client:
        pause = ("finish",) if flags.finish else ("pause", Pause(length, time))
        words = words_of(client.call(*pause))
    print(f"{words.title}. {words.sentence}")
    return 0
