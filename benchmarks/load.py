"""Never slower, and better together: one fleet under 1 to 64 sessions, with good and bad nodes.

    python -m benchmarks.load [--quick] [--json PATH] [--threads 2] [--only PART ...]

Batches of the same prompts are asked with and without drafts in turn; a figure is the median ratio
of such pairs, each batch timed from its first request to its last answer, prompts warm in the
prefix cache. Every pair must say the same texts, or the exit status is 1. The parts and their bars:

  sessions   1, 4, 16 and 64 sessions, greedy and T = 1: speculative is never slower than plain
             (≥ 0.98), gains at 4 sessions (≥ 1.3), and its throughput does not fall as sessions
             are added and drafting switches itself off (≥ 0.95 of the point before).
  nodes      drafting switched on with no node, with one that never guesses, one that lies and one
             that is 5 s away: the price of hoping (≥ 0.99, 0.99, 0.97, 0.97).
  batching   16 plain sessions beside one (≥ 8×), and the prefill of 1,024 tokens beside
             transformers' own (≥ 0.9×).
  arrival    4 running sessions while a prompt of 1,024 tokens arrives: the 99th percentile of the
             time between two pieces, over that without (≤ 2×).
"""

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.fleet import Fleet, Member
from benchmarks.prompts import Prompt, load_prompts
from benchmarks.report import (
    Bar,
    Row,
    alternating,
    at_least,
    at_most,
    finish,
    guarded,
    median_ratio,
    middle,
    parser,
    progress,
    quantile,
    ratio,
    reported,
)
from benchmarks.stock import Stock
from benchmarks.streaming import SEED, Answer, Way, scrape, stream_all
from p2p.errors import Unavailable

JUNK_NODE = Path(__file__).parents[1] / "tests" / "system" / "junk_node.py"
READY_SECONDS = 240.0
LEAVE_SECONDS = 30.0
SILENCE_SECONDS = 600.0
PARTS = ("sessions", "nodes", "batching", "arrival")
TEMPERATURES = (0.0, 1.0)
PROMPT_TOKENS = 1024
RUNNING = 4  # sessions that a long prompt disturbs
LEAST_ID = 1000  # token ids below are rare and special ones


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: sessions → tokens of each answer; pairs; prompts for prefill."""

    tokens: dict[int, int]
    pairs: int
    few_tokens: int
    running_tokens: int
    prefills: int


FULL = Size({1: 96, 4: 96, 16: 64, 64: 48}, 5, 64, 256, 5)
QUICK = Size({1: 24, 4: 24, 16: 12, 64: 6}, 2, 16, 96, 2)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some answers at once; `rate` is tokens a second of all together."""

    texts: tuple[str, ...]
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        return ratio(self.tokens, self.seconds)


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs of (with drafts, without), and whether their texts are the same."""

    name: str
    pairs: tuple[tuple[Batch, Batch], ...]

    @property
    def ratio(self) -> float:
        return median_ratio([(on.rate, off.rate) for on, off in self.pairs])

    @property
    def rate(self) -> float:
        return middle([on.rate for on, _ in self.pairs])

    @property
    def texts_equal(self) -> bool:
        return all(on.texts == off.texts for on, off in self.pairs)

    def row(self) -> Row:
        ratios = [ratio(on.rate, off.rate) for on, off in self.pairs]
        return {
            "what": self.name,
            "pairs": len(self.pairs),
            "plain tok/s": middle([off.rate for _, off in self.pairs]),
            "drafted tok/s": self.rate,
            "ratio": self.ratio,
            "least": min(ratios, default=math.nan),
            "greatest": max(ratios, default=math.nan),
            "texts": "same" if self.texts_equal else "DIFFER",
        }


class Crowd:
    """Asks many prompts at once over one client: its own work is small beside the host's."""

    def __init__(self, fleet: Fleet, client: httpx.Client) -> None:
        self._fleet = fleet
        self._client = client
        self._prompts = load_prompts()
        self._next = 0

    def prompts(self, count: int) -> list[Prompt]:
        """Return the next prompts in line, so that no pair repeats the one before."""
        self._next += count
        places = range(self._next - count, self._next)
        return [self._prompts[place % len(self._prompts)] for place in places]

    def ask(self, prompts: Sequence[Prompt], way: Way, tokens: int, ends: bool = True) -> Batch:
        """Ask all of them at once; without `ends` every answer has all its tokens."""
        with ThreadPoolExecutor(len(prompts)) as pool:
            began = time.monotonic()
            found = list(pool.map(lambda p: self._complete(p, way, tokens, ends), prompts))
            seconds = time.monotonic() - began
        return Batch(tuple(text for text, _ in found), sum(count for _, count in found), seconds)

    def compare(self, name: str, sessions: int, temperature: float, tokens: int, pairs: int
    ) -> Compared:  # fmt: skip
        """Ask the same prompts with and without drafts, `pairs` times."""
        ways = (Way("drafted", temperature, True), Way("plain", temperature, False))
        batches: dict[str, list[Batch]] = {way.name: [] for way in ways}
        prompts: list[Prompt] = []
        for number, way in alternating(ways, pairs):
            if len(batches["drafted"]) == len(batches["plain"]) == number:
                prompts = self.prompts(sessions)
                self.ask(prompts, Way("warm", temperature, False), 1)
            batches[way.name].append(self.ask(prompts, way, tokens))
        progress(name)
        return Compared(name, tuple(zip(batches["drafted"], batches["plain"], strict=True)))

    def prefill(self, ids: Sequence[int]) -> float:
        """Return the seconds from a request of `ids` to its one token."""
        began = time.monotonic()
        self._post(
            "/v1/completions", {"prompt": list(ids), "max_tokens": 1, "nexus": {"draft": False}}
        )
        return time.monotonic() - began

    def _complete(self, prompt: Prompt, way: Way, tokens: int, ends: bool) -> tuple[str, int]:
        found = self._post(
            "/v1/chat/completions",
            {
                "messages": prompt.messages,
                "max_tokens": tokens,
                "temperature": way.temperature,
                "seed": SEED,
                "ignore_eos": not ends,
                "nexus": {"draft": way.draft},
            },
        )
        text: str = found["choices"][0]["message"]["content"]
        return text, int(found["usage"]["completion_tokens"])

    def _post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        reply = self._client.post(
            f"{self._fleet.url}{path}",
            json={"model": self._fleet.model, **body},
            headers=self._fleet.headers,
        )
        if reply.status_code != 200:
            raise Unavailable(f"the host answered {reply.status_code}: {reply.text[:300]}")
        found: dict[str, Any] = reply.json()
        return found


@dataclass(slots=True)
class Found:
    """What the parts have found so far."""

    bars: list[Bar]
    rows: list[Row]
    texts_equal: bool = True

    def add(self, compared: Compared) -> Compared:
        self.rows.append(compared.row())
        self.texts_equal &= compared.texts_equal
        return compared


def sessions_part(crowd: Crowd, size: Size, found: Found) -> None:
    """1 to 64 sessions, with the fleet's one good node."""
    for temperature in TEMPERATURES:
        rates: list[float] = []
        for sessions, tokens in size.tokens.items():
            name = f"{sessions} sessions, T = {temperature:g}"
            one = found.add(crowd.compare(name, sessions, temperature, tokens, size.pairs))
            found.bars.append(at_least(f"speculative / plain, {name}", one.ratio, 0.98))
            if sessions == 4 and not temperature:
                found.bars.append(at_least(f"… the gain, {name}", one.ratio, 1.3))
            rates.append(one.rate)
        least = min(late / early for early, late in itertools.pairwise(rates))
        found.bars.append(
            at_least(f"throughput by sessions, least step, T = {temperature:g}", least, 0.95)
        )


def nodes_part(crowd: Crowd, size: Size, found: Found, fleet: Fleet) -> None:
    """Nodes that are of no use, one at a time."""
    kinds = {"no node": 0.99, "mute": 0.99, "junk": 0.97, "late": 0.97}
    with replaced(fleet) as start:
        for kind, bar in kinds.items():
            start(kind)
            for sessions in (1, 4):
                name = f"{kind}, {sessions} sessions"
                one = crowd.compare(name, sessions, 0.0, size.few_tokens, size.pairs)
                found.bars.append(
                    at_least(f"drafting on / off, {name}", found.add(one).ratio, bar)
                )  # fmt: skip


def batching_part(crowd: Crowd, size: Size, found: Found, stock: Stock | None) -> None:
    """Many plain sessions beside one, and a long prompt beside transformers."""
    plain = Way("plain", 0.0, False)
    pairs = []
    for _ in range(size.pairs):
        prompts = crowd.prompts(16)
        crowd.ask(prompts, plain, 1)
        one = crowd.ask(prompts[:1], plain, size.few_tokens, ends=False)
        all_together = crowd.ask(prompts, plain, size.few_tokens, ends=False)
        pairs.append((all_together.rate, one.rate))
    progress("16 plain sessions")
    found.bars.append(at_least("16 plain sessions / 1, aggregate", median_ratio(pairs), 8.0))
    found.bars.append(reported("1 plain session", middle([alone for _, alone in pairs]), "tok/s"))
    found.bars.append(reported("16 plain sessions", middle([many for many, _ in pairs]), "tok/s"))
    own, other = [], []
    for number in range(size.prefills):
        ids = long_prompt(number)
        own.append(crowd.prefill(ids))
        if stock is not None:
            other.append(stock.generate(ids, 1).seconds)
    progress("prefill")
    found.bars.append(reported(f"prefill of {PROMPT_TOKENS}", PROMPT_TOKENS / middle(own), "tok/s"))
    if stock is not None:
        pairs = list(zip(other, own, strict=True))
        name = f"prefill of {PROMPT_TOKENS}, speed / transformers"
        found.bars.append(at_least(name, median_ratio(pairs), 0.9))


def arrival_part(crowd: Crowd, size: Size, found: Found, fleet: Fleet) -> None:
    """Running sessions, and a long prompt in their midst."""
    plain = Way("plain", 0.0, False)
    calm: list[float] = []
    disturbed: list[float] = []
    for number in range(max(1, size.pairs // 2)):
        prompts = crowd.prompts(RUNNING)
        crowd.ask(prompts, plain, 1)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(stream_all, fleet, prompts, plain, size.running_tokens, True)
            generated = _generated(fleet)
            while _generated(fleet) < generated + RUNNING * size.running_tokens // 4:
                time.sleep(0.05)
            began = time.monotonic()
            crowd.prefill(long_prompt(100 + number))
            ended = time.monotonic()
        for one in running.result():
            gaps = split_gaps(one, began, ended)
            calm += gaps[0]
            disturbed += gaps[1]
    progress("arrival of a long prompt")
    before, during = quantile(calm, 0.99), quantile(disturbed, 0.99)
    found.bars += [
        at_most(f"ITL p99 while {PROMPT_TOKENS} tokens arrive", ratio(during, before), 2.0),
        reported("ITL p99 without", 1e3 * before, "ms"),
        reported("ITL p99 with", 1e3 * during, "ms"),
        reported("ITL median without", 1e3 * middle(calm), "ms"),
        reported("ITL median with", 1e3 * middle(disturbed), "ms"),
    ]


def split_gaps(one: Answer, began: float, ended: float) -> tuple[list[float], list[float]]:
    """Return the gaps between pieces outside [began, ended], and those that touch it."""
    calm: list[float] = []
    disturbed: list[float] = []
    for early, late in zip(one.stamps, one.stamps[1:], strict=False):
        touches = late >= began and early <= ended
        (disturbed if touches else calm).append(late - early)
    return calm, disturbed


def long_prompt(seed: int) -> tuple[int, ...]:
    """Return `PROMPT_TOKENS` token ids that no prefix cache knows."""
    chosen = np.random.default_rng(seed).integers(LEAST_ID, 40_000, PROMPT_TOKENS)
    return tuple(int(token) for token in chosen)


class Start:
    """Puts another node in the place of the fleet's only one."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._node: Member = fleet.nodes[0]

    def __call__(self, kind: str) -> None:
        self._node.end()
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._fleet.connected() and time.monotonic() < deadline:
            time.sleep(0.1)
        folder, bootstrap = str(self._node.folder), self._fleet.bootstrap_address
        match kind:
            case "no node":
                return
            case "good":
                self._fleet.start_node(self._node)
            case "junk":
                self._node.start(sys.executable, "-P", str(JUNK_NODE), folder, bootstrap)
            case _:
                self._node.start(
                    sys.executable, "-m", "benchmarks.odd_node", kind, folder, bootstrap
                )
        self._fleet.wait_connected(1, READY_SECONDS)


@contextmanager
def replaced(fleet: Fleet) -> Iterator[Start]:
    """Yield what replaces the fleet's node; the good one is back at the end."""
    start = Start(fleet)
    yield start
    start("good")


def _generated(fleet: Fleet) -> float:
    counts = scrape(fleet)
    return sum(
        value for name, value in counts.items() if name.startswith("vllm:generation_tokens_total")
    )


def run(flags: argparse.Namespace, fleet: Fleet, stock: Stock | None) -> int:
    size = QUICK if flags.quick else FULL
    fleet.start()
    fleet.wait_ready(READY_SECONDS, progress)
    if stock is not None:
        progress("transformers loads both models")
        stock.wait()
    found = Found([], [])
    limits = httpx.Limits(max_connections=128, max_keepalive_connections=128)
    with httpx.Client(timeout=SILENCE_SECONDS, limits=limits) as client:
        crowd = Crowd(fleet, client)
        for draft in (True, False):
            crowd.ask(crowd.prompts(4), Way("warm", 0.0, draft), 16)
        if "batching" in flags.only:
            batching_part(crowd, size, found, stock)
        if "arrival" in flags.only:
            arrival_part(crowd, size, found, fleet)
        if "sessions" in flags.only:
            sessions_part(crowd, size, found)
        if "nodes" in flags.only:
            nodes_part(crowd, size, found, fleet)
    return finish(
        flags, found.bars, found.rows, threads=flags.threads, texts_equal=found.texts_equal
    )


def main() -> int:
    made = parser("load", __doc__)
    made.add_argument("--threads", type=int, default=2, help="of host and transformers (2)")
    made.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    made.add_argument("--no-stock", action="store_true", help="leave transformers out")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    flags = made.parse_args()
    has_stock = "batching" in flags.only and not flags.no_stock
    with (
        tempfile.TemporaryDirectory() as folder,
        Stock(flags.threads, flags.dtype) if has_stock else nullcontext() as stock,
        Fleet(
            Path(folder) / "fleet", 1, dtype=flags.dtype,
            environment={
                "NEXUS_MODEL_THREADS": str(flags.threads),
                "NEXUS_LIMITS_WAITING": "256",
                "NEXUS_LIMITS_WAIT_SECONDS": "3600",
            },
        ) as fleet,
    ):  # fmt: skip
        return run(flags, fleet, stock)


if __name__ == "__main__":
    sys.exit(guarded("load", main))
