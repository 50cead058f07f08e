"""The engine's step by rows: how far from its linears alone, and where the rest of the time goes.

    python -m benchmarks.engine [--quick] [--json PATH] [--dtype fp32|bf16] [--threads 0]

  step / oneDNN    a whole step over a pass of the same rows through oneDNN's packed linears alone
                   (≤ 1.25 at 1, 8 and 16 rows in fp32; bf16 is reported).
  step / linears   the same over the engine's own linears (reported).
  step / 1 row     what a row more costs (reported).

The profile runs the step's parts by themselves, in the order of the step: laying it out, norms and
SwiGLU, attention, the choice of tokens; `rest` is what the step takes beyond all of them. Planning
and pipe are of the scheduler's side of the loop, with one session whose rows are a chain. Each
figure is the least of several rounds that take turns: other work on the machine only adds.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.report import Bar, Row, at_most, finish, guarded, parser, ratio, reported
from verifier_host.engine.target import Target, open_target
from verifier_host.messages import FROM_ENGINE, Guesses, Load, Sampling, Start
from verifier_host.scheduling.rows import TILE, Chosen, Int32, Rows, SessionRows
from verifier_host.scheduling.scheduler import Scheduler, Step
from verifier_host.targets import find_target

ROWS = (1, 4, 8, 16, 64)
BARRED = (1, 8, 16)
BAR = 1.25
CHUNK = 64
EXPECTED_ROWS = 16  # what oneDNN is told when it packs
ROUNDS, QUICK_ROUNDS = 12, 6

Part = Callable[[], object]


def main() -> int:
    made = parser("engine", __doc__)
    made.add_argument("--model", default="bundled", help="a GGUF file, a folder, or bundled")
    made.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    made.add_argument("--threads", type=int, default=0, help="0 = all cores")
    made.add_argument("--context", type=int, default=256, help="committed tokens")
    made.add_argument("--temperature", type=float, default=0.0)
    flags = made.parse_args()
    return run(flags)


def run(flags: argparse.Namespace) -> int:
    target = open_target(load_of(flags), lambda done, what: None)
    print(f"{target.kernels}, exact {target.exact}, {target.body.threads} threads\n")
    tokens = np.random.default_rng(0).integers(3, 1000, flags.context + CHUNK).astype(np.int32)
    sampling = Sampling(temperature=flags.temperature)
    for start in range(0, flags.context, CHUNK):
        stop = min(flags.context, start + CHUNK)
        target.forward(chain(tokens, start, stop, sampling))
    steps = {n: chain(tokens, flags.context, flags.context + n, sampling) for n in ROWS}
    stock = stock_linears(target, max(ROWS))
    parts = {n: parts_of(target, rows) | {"oneDNN": partial(stock, n)} for n, rows in steps.items()}
    least: dict[tuple[int, str], float] = {}
    for _ in range(QUICK_ROUNDS if flags.quick else ROUNDS):
        for n in ROWS:
            for name, part in parts[n].items():
                took = seconds(part)
                least[n, name] = min(took, least.get((n, name), took))
    rows = [row_of(n, least) for n in ROWS]
    return finish(flags, bars_of(least, flags.dtype), rows, threads=target.body.threads)


def load_of(flags: argparse.Namespace) -> Load:
    return Load(
        path=str(find_target(flags.model).path),
        name="benchmark",
        dtype=flags.dtype,
        threads=flags.threads,
        kv_tokens=2 * flags.context + 1024,
        max_context=0,
        max_rows=CHUNK,
        debug=False,
    )


def row_of(n: int, least: dict[tuple[int, str], float]) -> Row:
    """One line of the profile, in milliseconds."""
    own = {name: 1e3 * took for (rows, name), took in least.items() if rows == n}
    inside = ("linears", "layout", "norms, SwiGLU", "attention", "choice")
    return {
        "rows": n,
        "step ms": own["step"],
        **{name: own[name] for name in inside},
        "rest": own["step"] - sum(own[name] for name in inside),
        "planning": own["planning"],
        "pipe": own["pipe"],
        "oneDNN": own["oneDNN"],
        "step / oneDNN": own["step"] / own["oneDNN"],
        "step / linears": own["step"] / own["linears"],
        "step / 1 row": own["step"] / (1e3 * least[1, "step"]),
    }


def bars_of(least: dict[tuple[int, str], float], dtype: str) -> list[Bar]:
    bars = []
    for n in ROWS:
        value = ratio(least[n, "step"], least[n, "oneDNN"])
        name = f"step / oneDNN's packed linears, {n} rows, {dtype}"
        is_barred = n in BARRED and dtype == "fp32"
        bars.append(at_most(name, value, BAR) if is_barred else reported(name, value, "×"))
        own = ratio(least[n, "step"], least[n, "linears"])
        bars.append(reported(f"step / own linears, {n} rows, {dtype}", own, "×"))
    return bars


def seconds(part: Part) -> float:
    """Return what a part took, by its own clock if it says so."""
    began = time.perf_counter()
    said = part()
    return said if isinstance(said, float) else time.perf_counter() - began


def chain(tokens: Int32, start: int, stop: int, sampling: Sampling) -> Rows:
    """One session's rows in tiles of one run."""
    position = np.arange(start, stop, dtype=np.int32)
    parent = np.arange(-1, stop - start - 1, dtype=np.int32)
    prefix = TILE + np.arange(start, dtype=np.int32)
    session = SessionRows(1, 0, stop - start, prefix, bytes(8), sampling, {}, 0)
    wants = np.ones(stop - start, np.bool_)
    return Rows(tokens[start:stop], position, TILE + position, parent, wants, (session,))


def parts_of(target: Target, rows: Rows) -> dict[str, Part]:
    """The step, and its parts each by itself and whole: all layers of it."""
    spec, layers, count = target.spec, target.model.layers, len(rows.token)
    hidden, heads, inner, both = (
        torch.randn(count, size)
        for size in (
            spec.hidden, spec.heads * spec.head_size, spec.intermediate, 2 * spec.intermediate,
        )
    )  # fmt: skip
    qkv = torch.randn(count, (spec.heads + 2 * spec.kv_heads) * spec.head_size)
    logits = torch.randn(count, spec.vocabulary)
    step = target.body.begin(rows)

    @torch.inference_mode()
    def linears() -> None:
        for layer in layers:
            layer.qkv(hidden)
            layer.out(heads)
            layer.gate_up(hidden)
            layer.down(inner)
        target.model.head(hidden)

    def row_wise() -> None:
        for layer in layers:
            step.norm(hidden, None, layer.before_attention)
            step.norm(hidden, None, layer.before_mlp)
            step.swiglu(both)

    def attention() -> None:
        for index, layer in enumerate(layers):
            step.attend(index, qkv, layer.norms)

    return {
        "step": partial(target.forward, rows),
        "linears": linears,
        "layout": partial(target.body.begin, rows),
        "norms, SwiGLU": row_wise,
        "attention": attention,
        "choice": partial(target.chooser.rows, rows, logits),
        **loop_parts(target, count),
    }


def stock_linears(target: Target, most: int) -> Callable[[int], float]:
    """Return a pass of up to `most` rows through fp32 linears of the target's shapes, packed by
    oneDNN and with as many threads as the target has."""
    spec = target.spec
    width = spec.heads * spec.head_size
    shapes = [
        (width + 2 * spec.kv_heads * spec.head_size, spec.hidden),
        (spec.hidden, width),
        (2 * spec.intermediate, spec.hidden),
        (spec.hidden, spec.intermediate),
    ] * spec.layers + [(spec.vocabulary, spec.hidden)]
    pack, run = torch.ops.mkldnn._reorder_linear_weight, torch.ops.mkldnn._linear_pointwise.default
    packed = [(inputs, pack(torch.randn(n, inputs), EXPECTED_ROWS)) for n, inputs in shapes]
    x = {inputs: torch.randn(most, inputs) for _, inputs in shapes}

    @torch.inference_mode()
    def linears(rows: int) -> float:
        torch.set_num_threads(target.body.threads)
        began = time.perf_counter()
        for inputs, weight in packed:
            run(x[inputs][:rows], weight, None, "none", [], "")
        took = time.perf_counter() - began
        torch.set_num_threads(1)  # as the engine runs
        return took

    return linears


def loop_parts(target: Target, count: int) -> dict[str, Part]:
    """The loop's own work for a step of `count` rows of one session, all of them accepted.

    `planning` returns its seconds: getting the scheduler there is not part of it.
    """
    prompt, token = (5,) * 64, 5
    parents = tuple(range(count - 1))
    block = Guesses(
        1, 1, len(prompt) + 1, 1, parents, (token,) * len(parents), b"\xff" * len(parents)
    )
    said: list[object] = []

    def planning() -> float:
        scheduler = Scheduler(
            64 * TILE, 4096, CHUNK, target.spec.vocabulary, (), drafts_always=True
        )
        scheduler.start(Start(1, prompt, (), bytes(8), Sampling(), 1000, b""))
        now = spent = 0.0
        for turn in range(2):  # the prompt's step, and the one that is measured
            if turn and parents:
                scheduler.guesses(block, now)
            began = time.perf_counter()
            step = scheduler.plan(now)
            assert isinstance(step, Step)
            rows = len(step.rows.token)
            chosen = Chosen(np.full(rows, token, np.int32), (None,) * rows)
            now += 0.05
            said[:] = scheduler.apply(chosen, 0.05, now).said
            spent = time.perf_counter() - began
        return spent

    def pipe() -> None:
        for message in said:
            FROM_ENGINE.unpack(FROM_ENGINE.pack(message))

    planning()
    return {"planning": planning, "pipe": pipe}


if __name__ == "__main__":
    sys.exit(guarded("engine", main))
