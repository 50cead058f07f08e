"""Say what the node does and why, for which hosts, and how much of it they kept.
---
examples:
  nexusnode status
  nexusnode status --watch         a new picture whenever something changes
  nexusnode status --json | jq .state

JSON: keys are only ever added. With --watch, one object a line.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Any

from nexusnode.cli.data import connected, until_words
from nexusnode.control.messages import Snapshot, Topics
from nexusnode.states import Missing, Reason, Words, describe


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--watch", action="store_true", help="go on until Ctrl-C")


def run(flags: argparse.Namespace) -> int:
    with connected(flags) as client:
        snapshot = client.call("state.snapshot")
        _show(snapshot, flags, clear=False)
        if not flags.watch:
            return 0
        client.call("subscribe", Topics(("state",)))
        while True:
            notice = client.next_notice()
            if notice is not None:
                _show(notice.data, flags, clear=sys.stdout.isatty())


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return everything of a snapshot, with the sums and sentences that people see."""
    drafted, credited, committed = totals(snapshot)
    words = words_of(snapshot)
    return {
        **asdict(snapshot),
        "title": words.title,
        "sentence": words.sentence,
        "connected": sum(host.state == "serving" for host in snapshot.hosts),
        "sessions": snapshot.worker.sessions,
        "restarts": snapshot.worker.restarts,
        "drafted": drafted,
        "accepted": credited,
        "committed": committed,
        "kept_share": share(credited, committed),
    }


def words_of(snapshot: Snapshot) -> Words:
    missing = tuple(Missing(value) for value in snapshot.missing)
    until = until_words(snapshot.until_unix_seconds, datetime.now().astimezone())
    return describe(Reason(snapshot.reason), missing, until)


def totals(snapshot: Snapshot) -> tuple[int, int, int]:
    hosts = snapshot.hosts
    return (
        sum(host.drafted for host in hosts),
        sum(host.credited for host in hosts),
        sum(host.committed for host in hosts),
    )


def share(credited: int, committed: int) -> float:
    """Return which part of the committed tokens was drafted here in time."""
    return round(credited / committed, 4) if committed else 0.0


def as_text(snapshot: Snapshot) -> str:
    words = words_of(snapshot)
    drafted, credited, committed = totals(snapshot)
    worker = snapshot.worker
    lines = [
        f"{words.title}. {words.sentence}",
        "",
        f"node      {snapshot.node_id}",
        f"model     {snapshot.model}",
        f"worker    {worker.state}, {worker.sessions} sessions, {worker.restarts} restarts"
        + (f" (the last: {worker.reason})" if worker.reason else ""),
        f"drafted   {drafted} tokens",
        f"accepted  {credited} of {committed} committed tokens ({share(credited, committed):.0%})",
        f"peers     {snapshot.bootstrap_peers} known for finding hosts",
        f"hosts     {len(snapshot.hosts)}",
    ]
    for host in snapshot.hosts:
        kept = share(host.credited, host.committed)
        lines.append(
            f"  {host.peer}  {host.state}, {host.sessions} sessions, kept {kept:.0%}"
            + (f" ({host.reason})" if host.reason else "")
        )
    return "\n".join(lines)


def _show(snapshot: Snapshot, flags: argparse.Namespace, clear: bool) -> None:
    if flags.json:
        text = json.dumps(as_json(snapshot), indent=None if flags.watch else 1)
    else:
        text = as_text(snapshot)
    if clear and not flags.json and os.environ.get("TERM", "dumb") != "dumb":
        text = "\x1b[H\x1b[J" + text
    print(text, flush=True)
