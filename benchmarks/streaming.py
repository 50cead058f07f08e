"""Stream an answer and note when its pieces came: what a client sees, not what the host says.

`decode_seconds` runs from the first piece, which is one token, to the end, so that neither the
prompt nor a warm prefix cache counts.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import psutil

from benchmarks.fleet import Fleet
from benchmarks.prompts import Prompt
from p2p.errors import Unavailable

SILENCE_SECONDS = 300.0
SEED = 11


@dataclass(frozen=True, slots=True)
class Way:
    """How a prompt is asked."""

    name: str
    temperature: float = 0.0
    draft: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `stamps` are monotonic seconds at which a piece of text arrived."""

    text: str
    tokens: int
    began: float
    ended: float
    stamps: tuple[float, ...]
    report: Mapping[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def decode_seconds(self) -> float:
        return self.ended - self.stamps[0] if self.stamps else 0.0

    @property
    def decoded(self) -> int:
        """Tokens that came after the first piece."""
        return max(0, self.tokens - 1)

    @property
    def steps(self) -> int:
        return self.report.get("steps", 0)

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces."""
        return [late - early for early, late in zip(self.stamps, self.stamps[1:], strict=False)]


def stream(fleet: Fleet, prompt: Prompt, way: Way, tokens: int, ignore_end: bool = False) -> Answer:
    """Ask one prompt; `Unavailable` with the host's own words if it refuses."""
    body = {
        "model": fleet.model,
        "messages": prompt.messages,
        "max_tokens": tokens,
        "temperature": way.temperature,
        "seed": SEED,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": ignore_end,
        "nexus": {"draft": way.draft},
    }
    pieces: list[str] = []
    stamps: list[float] = []
    usage: dict[str, int] = {}
    report: dict[str, int] = {}
    began = ended = time.monotonic()
    with (
        httpx.Client(verify=False, timeout=httpx.Timeout(SILENCE_SECONDS, connect=10)) as client,
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
            now = time.monotonic()
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise Unavailable(f"the host ended the answer: {chunk['error']['message']}")
            usage = chunk.get("usage") or usage
            report = chunk.get("nexus") or report
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                if piece:
                    pieces.append(piece)
                    stamps.append(now)
                if choice["finish_reason"]:
                    ended = now
    tokens_made = usage.get("completion_tokens", 0)
    return Answer("".join(pieces), tokens_made, began, ended, tuple(stamps), report)


def stream_all(
    fleet: Fleet, prompts: list[Prompt], way: Way, tokens: int, ignore_end: bool = False
) -> list[Answer]:
    """Ask all prompts at once; answers in their order."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(
            pool.map(lambda prompt: stream(fleet, prompt, way, tokens, ignore_end), prompts)
        )


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that these processes and their children have used."""
    used = 0.0
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
    return used


def scrape(fleet: Fleet) -> dict[str, float]:
    """Return the host's metrics, each by its name with its labels as Prometheus writes them."""
    text = httpx.get(f"{fleet.metrics_url}/metrics", timeout=10).text
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            found[name] = float(value)
    return found


def step_curve(metrics: Mapping[str, float]) -> list[tuple[int, float]]:
    """Return (rows, median seconds of late steps) as the host measured them, by rows."""
    head, tail = 'nexus_step_seconds{rows="', '"}'
    return sorted(
        (int(name.removeprefix(head).removesuffix(tail)), seconds)
        for name, seconds in metrics.items()
        if name.startswith(head)
    )
