"""The main job on one machine: bootstrap peer, verifier host and two draft nodes as real processes.

Waits until the nodes have found the host through the DHT, streams one answer through the HTTP API
with drafted tokens shown differently, then answers the demo prompts with drafting off and on and
prints one table. Whatever happens, no process stays behind (unless `--keep` asks for it).

    python -m benchmarks.demo [--keep] [--prompts 12] [--tokens 96] [--host-threads N]
                             [--json PATH]
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.fleet import Fleet
from benchmarks.prompts import Prompt, load_prompts
from p2p.errors import NexusError, Unavailable, answer

READY_SECONDS = 180.0
FIRST_PROMPT = "Write a short, friendly note that explains what a lighthouse is for."
UNDERLINE, DIM, PLAIN = "\x1b[4m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion: its text, what it took, and where its tokens came from."""

    text: str
    tokens: int
    seconds: float
    steps: int
    drafted: int
    accepted: int
    by_node: Counter[str]


def ask(
    fleet: Fleet, messages: list[dict[str, str]], tokens: int, draft: bool, show: bool = False
) -> Answer:
    """Stream one chat completion; greedy, so that both runs must give one text."""
    body = {
        "model": fleet.model,
        "messages": messages,
        "max_tokens": tokens,
        "temperature": 0,
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "nexus": {"origin": True, "draft": draft},
    }
    pieces: list[str] = []
    nodes: Counter[str] = Counter()
    usage: dict[str, int] = {}
    report: dict[str, int] = {}
    start = time.perf_counter()
    with (
        httpx.Client(timeout=httpx.Timeout(60, connect=5)) as client,
        client.stream(
            "POST", f"{fleet.url}/v1/chat/completions", json=body, headers=fleet.headers
        ) as reply,
    ):
        if reply.status_code != 200:
            said = reply.read().decode()[:300]
            raise Unavailable(f"the host answered {reply.status_code}: {said}")
        for line in reply.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise Unavailable(f"the host ended the answer: {chunk['error']['message']}")
            usage = chunk.get("usage") or usage
            report = chunk.get("nexus") or report
            for choice in chunk["choices"]:
                pieces.append(choice["delta"].get("content") or "")
                for token in (choice.get("nexus") or {}).get("tokens", ()):
                    if token["source"] == "draft":
                        nodes[token["node"]] += 1
                    if show:
                        _show(token["text"], token["source"] == "draft")
    seconds = time.perf_counter() - start
    return Answer(
        "".join(pieces),
        usage.get("completion_tokens", 0),
        seconds,
        report.get("steps", 0),
        report.get("drafted", 0),
        report.get("accepted", 0),
        nodes,
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a kind of prompt, both ways."""

    kind: str
    prompts: int
    plain_tokens_per_second: float
    drafted_tokens_per_second: float
    speed_up: float
    acceptance_rate: float
    tokens_per_pass: float
    identical: bool


def measure(kind: str, pairs: list[tuple[Answer, Answer]]) -> Line:
    """Sum up (plain, drafted) pairs; rates are totals over totals, so long answers count more."""
    plain = sum(p.tokens for p, _ in pairs) / max(1e-9, sum(p.seconds for p, _ in pairs))
    drafted = sum(d.tokens for _, d in pairs) / max(1e-9, sum(d.seconds for _, d in pairs))
    return Line(
        kind,
        len(pairs),
        plain,
        drafted,
        drafted / plain if plain else 0.0,
        sum(d.accepted for _, d in pairs) / max(1, sum(d.drafted for _, d in pairs)),
        sum(d.tokens for _, d in pairs) / max(1, sum(d.steps for _, d in pairs)),
        all(p.text == d.text for p, d in pairs),
    )


def table(lines: list[Line], nodes: Counter[str]) -> str:
    """Return the table as text."""
    head = (
        f"{'':10} {'prompts':>7} {'off tok/s':>10} {'on tok/s':>9} {'speed-up':>9}"
        f" {'acceptance':>11} {'τ':>5}  text"
    )
    rows = [
        f"{line.kind:10} {line.prompts:7} {line.plain_tokens_per_second:10.1f}"
        f" {line.drafted_tokens_per_second:9.1f} {line.speed_up:8.2f}×"
        f" {line.acceptance_rate:10.0%} {line.tokens_per_pass:6.2f}"
        f"  {'identical' if line.identical else 'DIFFERENT'}"
        for line in lines
    ]
    kept = ", ".join(f"{node}: {count}" for node, count in sorted(nodes.items())) or "none"
    return "\n".join([head, *rows, f"accepted tokens per node: {kept}"])


def run(fleet: Fleet, prompts: list[Prompt], tokens: int, json_path: Path | None) -> bool:
    """Stream the first answer, measure, print the table. Return whether all texts were equal."""
    print("\nFirst answer (underlined: drafted by a node and accepted):\n")
    print(f"  {DIM}{FIRST_PROMPT}{PLAIN}\n")
    first = [{"role": "user", "content": FIRST_PROMPT}]
    ask(fleet, first, tokens, draft=True, show=True)
    print("\n")
    pairs: dict[str, list[tuple[Answer, Answer]]] = {"chat": [], "document": []}
    for number, prompt in enumerate(prompts, 1):
        # Alternating who goes first, so that neither way is always the one with a warm prefix
        # cache.
        order = (False, True) if number % 2 else (True, False)
        answers = {way: ask(fleet, prompt.messages, tokens, draft=way) for way in order}
        pairs[prompt.kind].append((answers[False], answers[True]))
        _progress(f"{number}/{len(prompts)} prompts")
    _progress("")
    every = [pair for kind in pairs.values() for pair in kind]
    lines = [measure(kind, found) for kind, found in pairs.items() if found]
    lines.append(measure("total", every))
    nodes: Counter[str] = sum((drafted.by_node for _, drafted in every), Counter())
    print(table(lines, nodes))
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n")
    return lines[-1].identical


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--prompts", type=int, default=12, help="how many (default 12)")
    parser.add_argument("--tokens", type=int, default=96, help="per answer at most (default 96)")
    parser.add_argument(
        "--host-threads",
        type=int,
        default=max(1, (os.cpu_count() or 2) // 2),
        help="cores of the target; a contributor's are not the host's, so by default the nodes"
        " have the other half of this machine's (default %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="also write the table as JSON")
    flags = parser.parse_args()
    try:
        threads = {"NEXUS_MODEL_THREADS": str(flags.host_threads)}
        with Fleet(Path(".demo"), nodes=2, environment=threads) as fleet:
            fleet.start()
            fleet.wait_ready(READY_SECONDS, _progress)
            same = run(fleet, load_prompts(flags.prompts), flags.tokens, flags.json)
            if flags.keep:
                print(fleet.how_to_use(), flush=True)
                fleet.wait_for_end()
            return 0 if same else 1
    except KeyboardInterrupt:
        print("\nstopped; nothing was left running")
        return 130
    except NexusError as error:
        print(f"demo: {error}", file=sys.stderr)
        return answer(error).exit


def _show(text: str, drafted: bool) -> None:
    styled = f"{UNDERLINE}{text}{PLAIN}" if drafted and sys.stdout.isatty() else text
    sys.stdout.write(styled if sys.stdout.isatty() or not drafted else f"[{text}]")
    sys.stdout.flush()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
