"""One stream, fast: own plain and speculative decoding beside transformers, on one machine.

    python -m benchmarks.speculative [--quick] [--json PATH] [--threads 2] [--dtype fp32]
    python -m benchmarks.speculative --ngram-only [--quick] [--json PATH]

Bootstrap peer, host and one node run as real processes over libp2p on loopback; every fifth bundled
prompt is answered each way, the ways taking turns. A rate is all tokens after each answer's first
over the seconds from that first token to the answer's end, at the client. transformers `generate`
and its assisted generation (its defaults, the same draft) run in a child process that sleeps while
others are measured. The bars:

  own plain over generate          the engine without any draft
  speculative over plain           greedy in all, on chats and on documents; at T = 0.7 and T = 1
  speculative over assisted        what a user of transformers gets from the same two models
  efficiency                       speed-up ÷ (τ · t_plain/t_verify), the median over prompts: τ is
                                   tokens per target pass from the replies, the step times are the
                                   host's medians (nexus_step_seconds), t_verify at the mean rows of
                                   the answer's steps. 1: all that the tree earns arrives.

With --ngram-only no node runs and the host drafts from the text alone: documents must gain, chats
must not lose. Exit status 1: a text with drafts differs from the plain one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fleet import Fleet
from benchmarks.prompts import Prompt, load_prompts
from benchmarks.report import (
    Bar,
    Row,
    alternating,
    at_least,
    at_most,
    finish,
    guarded,
    middle,
    parser,
    progress,
    ratio,
    reported,
)
from benchmarks.stock import Made, Stock
from benchmarks.streaming import Answer, Way, cpu_seconds, scrape, step_curve, stream
from verifier_host.api.backend import Message
from verifier_host.front.text import Text
from verifier_host.front.vocabulary import load_vocabulary
from verifier_host.targets import find_target

TOKENS, QUICK_TOKENS = 128, 64
QUICK_STOCK_TOKENS = 16  # of transformers' answers: rates are per token, and it is slow
QUICK_PROMPTS = 4
EVERY = 5
WARM_TOKENS = 8
READY_SECONDS = 240.0
GAUGE_SECONDS = 0.25  # after an answer, until the host's metrics tell of all of it
KINDS = ("chat", "document")

PLAIN, DRAFTED = Way("plain", 0.0, False), Way("speculative", 0.0, True)
WAYS = (
    PLAIN,
    DRAFTED,
    Way("plain T0.7", 0.7, False),
    Way("speculative T0.7", 0.7, True),
    Way("plain T1", 1.0, False),
    Way("speculative T1", 1.0, True),
)
GENERATE, ASSISTED = "generate", "assisted"


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer of one way. `mean_rows` and the step seconds are of the host's own measuring."""

    way: str
    kind: str
    prompt: str
    text: str
    tokens: int
    decoded: int
    decode_seconds: float
    seconds: float
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    mean_rows: float = 0.0
    plain_step_seconds: float = 0.0
    step_seconds: float = 0.0


class Bench:
    """All ways to answer a prompt."""

    def __init__(self, fleet: Fleet, stock: Stock | None, tokens: int, stock_tokens: int) -> None:
        self._fleet = fleet
        self._stock = stock
        self._tokens = tokens
        self._stock_tokens = stock_tokens
        self._text = Text(load_vocabulary(find_target("bundled")))
        self.rest_cores: list[float] = []  # held by those not measured, each time

    def warm(self, prompt: Prompt, ways: Sequence[Way | str]) -> None:
        """Answer a little each way, so that no first time is measured."""
        for way in ways:
            if isinstance(way, Way):
                stream(self._fleet, prompt, way, WARM_TOKENS)
            elif self._stock is not None:
                self._stock.generate(self._ids(prompt), WARM_TOKENS, way == ASSISTED)

    def answer(self, prompt: Prompt, way: Way | str) -> Timed:
        resting = self._stock.pids if isinstance(way, Way) and self._stock else self._fleet.pids
        cpu, began = cpu_seconds(resting()), time.monotonic()
        timed = self._answer(prompt, way)
        if self._stock is not None:
            used = cpu_seconds(resting()) - cpu
            self.rest_cores.append(used / (time.monotonic() - began))
        return timed

    def _answer(self, prompt: Prompt, way: Way | str) -> Timed:
        if isinstance(way, Way):
            before = scrape(self._fleet)
            found = stream(self._fleet, prompt, way, self._tokens)
            time.sleep(GAUGE_SECONDS)
            return _own(prompt, way, found, before, scrape(self._fleet))
        assert self._stock is not None
        made = self._stock.generate(self._ids(prompt), self._stock_tokens, way == ASSISTED)
        return self._other(prompt, way, made)

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        return self._text.encode_chat([Message(m["role"], m["content"]) for m in prompt.messages])

    def _other(self, prompt: Prompt, way: str, made: Made) -> Timed:
        text = b"".join(self._text.spoken(id) for id in made.ids).decode(errors="replace")
        return Timed(
            way, prompt.kind, prompt.id, text, len(made.ids),
            made.decoded, made.decode_seconds, made.seconds,
        )  # fmt: skip


def _own(
    prompt: Prompt, way: Way, found: Answer, before: dict[str, float], after: dict[str, float]
) -> Timed:
    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    rows = grown('nexus_rows_total{source="target"}') + grown('nexus_rows_total{source="draft"}')
    mean_rows = rows / (found.steps - 1) if found.steps > 1 else 0.0  # the first is the prompt's
    curve = step_curve(after)
    at, seconds = ([x for x, _ in curve], [y for _, y in curve]) if curve else ([1], [0.0])
    return Timed(
        way.name, prompt.kind, prompt.id, found.text, found.tokens,
        found.decoded, found.decode_seconds, found.seconds,
        found.steps, found.report.get("drafted", 0), found.report.get("accepted", 0),
        mean_rows,
        float(np.interp(1.0, at, seconds)), float(np.interp(mean_rows, at, seconds)),
    )  # fmt: skip


class Results:
    """All answers, by way, kind and prompt."""

    def __init__(self, timed: Sequence[Timed]) -> None:
        self.timed = timed

    def of(self, way: str, kind: str = "") -> list[Timed]:
        return [one for one in self.timed if one.way == way and kind in ("", one.kind)]

    def rate(self, way: str, kind: str = "") -> float:
        """Tokens a second: totals over totals, so long answers count more."""
        found = self.of(way, kind)
        return ratio(sum(o.decoded for o in found), sum(o.decode_seconds for o in found))

    def gain(self, over: str, under: str, kind: str = "") -> float:
        return ratio(self.rate(over, kind), self.rate(under, kind))

    def efficiencies(self) -> list[float]:
        """Speed-up ÷ (τ · t_plain/t_verify) of each prompt, greedy."""
        plain = {one.prompt: one for one in self.of(PLAIN.name)}
        found = []
        for one in self.of(DRAFTED.name):
            was = plain[one.prompt]
            if one.steps < 2 or not (one.decode_seconds and one.step_seconds):
                continue
            speed_up = ratio(was.decode_seconds, one.decode_seconds)
            tau = one.decoded / (one.steps - 1)  # the first step is the prompt's
            possible = tau * one.plain_step_seconds / one.step_seconds
            if possible:
                found.append(speed_up / possible)
        return found

    def differing(self, over: str, under: str) -> list[str]:
        """Return the prompts whose two texts are not the same."""
        texts = {one.prompt: one.text for one in self.of(under)}
        return [one.prompt for one in self.of(over) if one.text != texts[one.prompt]]

    def beginnings(self, way: str) -> int:
        """Return how many texts of `way`, cut short or not, are how the plain one begins."""
        texts = {one.prompt: one.text for one in self.of(PLAIN.name)}
        return sum(texts[one.prompt].startswith(one.text) for one in self.of(way))

    def rows(self) -> list[Row]:
        """One row per way and kind."""
        names = list(dict.fromkeys(one.way for one in self.timed))
        return [self._row(name, kind) for name in names for kind in (*KINDS, "")]

    def _row(self, way: str, kind: str) -> Row:
        found = self.of(way, kind)
        steps = sum(one.steps for one in found)
        wall = sum(one.seconds for one in found)
        tokens = sum(one.tokens for one in found)
        decoding = sum(max(0, one.steps - 1) for one in found)
        return {
            "way": way,
            "kind": kind or "total",
            "prompts": len(found),
            "tokens": tokens,
            "tok/s": self.rate(way, kind),
            "tok/s with prompt": ratio(tokens, wall),
            "τ": ratio(tokens, steps),
            "acceptance": ratio(sum(o.accepted for o in found), sum(o.drafted for o in found)),
            "rows a step": middle([one.mean_rows for one in found if one.steps]),
            "step ms (host)": 1e3 * middle([one.step_seconds for one in found if one.steps]),
            "step ms (client)": 1e3 * ratio(sum(o.decode_seconds for o in found), decoding),
        }


def bars_of(found: Results, has_stock: bool) -> list[Bar]:
    """Return the bars of the run with a node."""
    drafted, plain = DRAFTED.name, PLAIN.name
    bars = []
    if has_stock:
        bars.append(at_least("plain / generate", found.gain(plain, GENERATE), 1.5))
    bars += [
        at_least("speculative / plain, greedy", found.gain(drafted, plain), 2.0),
        at_least("speculative / plain, greedy (goal)", found.gain(drafted, plain), 2.5),
        at_least("… documents", found.gain(drafted, plain, "document"), 2.3),
        at_least("… chats", found.gain(drafted, plain, "chat"), 1.8),
        at_least("speculative / plain, T = 0.7", found.gain("speculative T0.7", "plain T0.7"), 1.6),
        at_least("speculative / plain, T = 1", found.gain("speculative T1", "plain T1"), 1.4),
    ]
    if has_stock:
        gain = found.gain(drafted, ASSISTED)
        bars += [
            at_least("speculative / assisted", gain, 2.5),
            at_least("speculative / assisted (goal)", gain, 3.2),
            reported("assisted / generate", found.gain(ASSISTED, GENERATE), "×"),
        ]
    bars.append(at_least("efficiency", middle(found.efficiencies()), 0.85, ""))
    for way in (plain, drafted, "speculative T0.7", "speculative T1"):
        bars.append(reported(f"{way}", found.rate(way), "tok/s"))
    for way in (drafted, "speculative T0.7", "speculative T1"):
        answers = found.of(way)
        tau = ratio(sum(one.tokens for one in answers), sum(one.steps for one in answers))
        bars.append(reported(f"τ, {way}", tau, "tokens"))
    return bars


def ngram_bars(found: Results) -> list[Bar]:
    """Return the bars of the host's own drafts, no node there."""
    return [
        at_least(
            "n-gram only / plain, documents",
            found.gain(DRAFTED.name, PLAIN.name, "document"), 1.2,
        ),
        at_least("n-gram only / plain, chats", found.gain(DRAFTED.name, PLAIN.name, "chat"), 0.99),
    ]  # fmt: skip


def run(flags: argparse.Namespace, fleet: Fleet, stock: Stock | None) -> int:
    fleet.start()
    fleet.wait_ready(READY_SECONDS, progress)
    if stock is not None:
        progress("transformers loads both models")
        stock.wait()
    prompts = load_prompts()[::EVERY][: flags.prompts]
    ways: tuple[Way | str, ...] = (PLAIN, DRAFTED) if flags.ngram_only else WAYS
    if stock is not None:
        ways = (*ways, GENERATE, ASSISTED)
    bench = Bench(fleet, stock, flags.tokens, flags.stock_tokens)
    bench.warm(load_prompts()[1], ways)
    timed = []
    for number, way in alternating(ways, len(prompts)):
        timed.append(bench.answer(prompts[number], way))
        if len(timed) % len(ways) == 0:
            progress(f"{number + 1}/{len(prompts)} prompts")
    found = Results(timed)
    bars = ngram_bars(found) if flags.ngram_only else bars_of(found, stock is not None)
    pairs = [(w.name, p.name) for w, p in zip(WAYS[1::2], WAYS[::2], strict=True)]
    differing = {over: found.differing(over, under) for over, under in pairs}
    for way, names in differing.items():
        if names:
            progress(f"{way}: another text than plain for {', '.join(names)}")
    if stock is not None:
        bars.append(at_most("cores held by who is not measured", max(bench.rest_cores), 0.1, ""))
        for way in (GENERATE, ASSISTED):
            same = found.beginnings(way)
            bars.append(reported(f"texts of {way} that are plain's", same, f"of {len(prompts)}"))
    return finish(
        flags, bars, found.rows(), threads=flags.threads, texts_equal=not any(differing.values())
    )


def main() -> int:
    made = parser("speculative", __doc__)
    made.add_argument("--threads", type=int, default=2, help="of host and transformers (2)")
    made.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    made.add_argument("--prompts", type=int, help="how many of every fifth (default all)")
    made.add_argument("--tokens", type=int, help=f"of an answer at most (default {TOKENS})")
    made.add_argument("--no-stock", action="store_true", help="leave transformers out")
    made.add_argument("--ngram-only", action="store_true", help="no node: the host's n-grams")
    flags = made.parse_args()
    flags.tokens = flags.tokens or (QUICK_TOKENS if flags.quick else TOKENS)
    flags.stock_tokens = min(flags.tokens, QUICK_STOCK_TOKENS if flags.quick else flags.tokens)
    flags.prompts = flags.prompts or (QUICK_PROMPTS if flags.quick else None)
    environment = {"NEXUS_MODEL_THREADS": str(flags.threads)}
    if flags.ngram_only:
        environment["NEXUS_DRAFTING_NGRAM"] = "true"
    has_stock = not (flags.no_stock or flags.ngram_only)
    with (
        tempfile.TemporaryDirectory() as folder,
        Stock(flags.threads, flags.dtype) if has_stock else nullcontext() as stock,
        Fleet(
            Path(folder) / "fleet", 0 if flags.ngram_only else 1,
            dtype=flags.dtype, environment=environment,
        ) as fleet,
    ):  # fmt: skip
        return run(flags, fleet, stock)


if __name__ == "__main__":
    sys.exit(guarded("speculative", main))
