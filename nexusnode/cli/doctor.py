"""Check installation, identity, model, llama.cpp and the way to the network. The node need not run.

Makes the node's identity if there is none. The exit status is that of the first thing that is
wrong.
---
examples:
  nexusnode doctor
  nexusnode doctor --json
"""

import argparse
import json
import sys
from dataclasses import asdict

import trio

from nexusnode.cli.data import folders_of
from nexusnode.daemon.examination import Examination, Finding, summary
from p2p.errors import ANSWERS, Answer


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def run(flags: argparse.Namespace) -> int:
    examination = Examination(folders_of(flags))
    findings = trio.run(examination.run, _silent if flags.json else _tell)
    if flags.json:
        report = {
            "node_id": examination.node_id,
            "ok": all(finding.is_well for finding in findings),
            "checks": [asdict(finding) for finding in findings],
        }
        print(json.dumps(report, indent=1))
    else:
        print(summary(findings))
    ill = next((finding for finding in findings if not finding.is_well), None)
    return 0 if ill is None else ANSWERS.get(ill.code, Answer()).exit


def _tell(finding: Finding) -> None:
    mark = {"well": "ok ", "note": "-- "}.get(finding.status, "NO ")
    print(f"{mark} {finding.name:12} {finding.fact}")
    if finding.advice:
        print(f"{'':16} {finding.meaning} {finding.advice}")
    sys.stdout.flush()


def _silent(finding: Finding) -> None:
    """With --json everything is said at the end."""
