"""Step times of the engine by rows, beside its linears alone: `python -m benchmarks.engine`.

Each figure is the least of several rounds that take turns, as other work on the machine only adds.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from verifier_host.engine.target import Target, open_target
from verifier_host.messages import Load, Sampling
from verifier_host.scheduling.rows import TILE, Int32, Rows, SessionRows
from verifier_host.targets import find_target

ROWS = (1, 4, 8, 16, 64)
CHUNK = 64


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--model", default="bundled", help="a GGUF file, a folder, or bundled")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=0, help="0 = all cores")
    parser.add_argument("--context", type=int, default=256, help="committed tokens")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    load = Load(
        path=str(find_target(asked.model).path),
        name="benchmark",
        dtype=asked.dtype,
        threads=asked.threads,
        kv_tokens=2 * asked.context + 1024,
        max_context=0,
        max_rows=CHUNK,
        debug=False,
    )
    began = time.perf_counter()
    target = open_target(load, lambda done, what: None)
    print(f"{target.linears}, exact {target.exact}, load {time.perf_counter() - began:.1f} s")
    tokens = np.random.default_rng(0).integers(3, 1000, asked.context + CHUNK).astype(np.int32)
    sampling = Sampling(temperature=asked.temperature)
    for start in range(0, asked.context, CHUNK):
        target.forward(chain(tokens, start, min(asked.context, start + CHUNK), sampling))
    steps = {n: chain(tokens, asked.context, asked.context + n, sampling) for n in ROWS}
    linears = {n: linears_alone(target, n) for n in ROWS}
    whole: dict[int, list[float]] = {n: [] for n in ROWS}
    alone: dict[int, list[float]] = {n: [] for n in ROWS}
    for _ in range(asked.rounds):
        for n in ROWS:
            whole[n].append(seconds(partial(target.forward, steps[n])))
            alone[n].append(seconds(linears[n]))
    print("rows   step ms   linears ms   step / linears   step / 1 row")
    for n in ROWS:
        step, rest = min(whole[n]), min(alone[n])
        print(
            f"{n:4} {step * 1e3:9.1f} {rest * 1e3:12.1f} {step / rest:16.2f}"
            f" {step / min(whole[1]):14.2f}"
        )


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def chain(tokens: Int32, start: int, stop: int, sampling: Sampling) -> Rows:
    """One session's rows in tiles of one run."""
    position = np.arange(start, stop, dtype=np.int32)
    parent = np.arange(-1, stop - start - 1, dtype=np.int32)
    prefix = TILE + np.arange(start, dtype=np.int32)
    session = SessionRows(1, 0, stop - start, prefix, bytes(8), sampling, {}, 0)
    wants = np.ones(stop - start, np.bool_)
    return Rows(tokens[start:stop], position, TILE + position, parent, wants, (session,))


def linears_alone(target: Target, rows: int) -> Callable[[], object]:
    """All linears of a step, without anything between them."""
    spec = target.spec
    count = max(2, rows)
    hidden, heads, inner = (
        torch.randn(count, size)
        for size in (spec.hidden, spec.heads * spec.head_size, spec.intermediate)
    )

    @torch.inference_mode()
    def run() -> None:
        for layer in target.model.layers:
            layer.qkv(hidden)
            layer.out(heads)
            layer.gate_up(hidden)
            layer.down(inner)
        target.model.head(hidden)

    return run


if __name__ == "__main__":
    main()
