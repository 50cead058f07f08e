"""The draft engine: what the pipe costs, what batching sessions brings, what candidates cost.

    python -m benchmarks.draft [--quick] [--json PATH]

  pipe         a real draft worker whose every guess is committed at once, over the rate at which
               the bare engine decodes the same tokens one by one (≥ 0.85).
  batching     decoding one token for each of S sessions of L tokens together, over one session
               after the other: at 1 / 2 threads 4 × 200 ≥ 1.1 / 1.5, 16 × 200 ≥ 1.6 / 2.3,
               16 × 1000 ≥ 1.0 / 1.5. The gain falls when the single step gets faster, so tokens a
               second stand beside it.
  costs        c(1), c(2), c(4), c(8), as a worker measures them at load (reported).
  candidates   from a row of logits to the guesses' tokens, by temperature (reported).

Pairs take turns; figures are medians. No target runs.
"""

import os
import sys
import time
from collections.abc import Sequence

import trio

from benchmarks.prior import chat, tokenize
from benchmarks.prompts import load_prompts
from benchmarks.report import (
    Bar,
    Row,
    alternating,
    at_least,
    finish,
    guarded,
    median_ratio,
    middle,
    parser,
    progress,
    ratio,
    reported,
)
from nexusnode.draft.launch import MODULE, NICE_VARIABLE, environment
from nexusnode.draft.llama import COST_ROWS, LlamaEngine, open_llama
from nexusnode.draft.messages import (
    FROM_WORKER,
    TO_WORKER,
    Close,
    Commit,
    Grown,
    Load,
    Loaded,
    Open,
)
from nexusnode.draft.sampling import NATS, Sampling, rank
from nexusnode.draft.sequences import Piece, Sequences
from nexusnode.models.catalogue import bundled_path
from p2p.process.child import Child, open_child
from p2p.wire.messages import Sampler

THREADS = (1, 2)
BATCHES = {(4, 200): (1.1, 1.5), (16, 200): (1.6, 2.3), (16, 1000): (1.0, 1.5)}
CONTEXT = 1280
STREAMS = 16
CHUNK = 64
SAMPLER = Sampler(1000, 0, 1000, 0)  # at T = 1 a text does not run into a repetition
ROWS, AHEAD = 16, 8
SILENCE_SECONDS = 5.0  # nothing grows any more: the draft holds the text to be at its end
KEY = b"eightkey"
FREE = "NEXUS_BENCHMARK_ENVIRONMENT"


async def committed(child: Child, session: int, prompt: Sequence[int], tokens: int) -> list[int]:
    """Open a session and commit each chain's head as soon as it comes; return these tokens."""
    await child.send(
        Open(session, 1, KEY, SAMPLER, 4 * tokens, tuple(prompt), True, ROWS, AHEAD, 1)
    )
    heads: dict[int, tuple[int, int]] = {}  # parent -> its likeliest child, as (id, token)
    text: list[int] = []
    tip = 0
    grown_at = trio.current_time()
    while len(text) < tokens and trio.current_time() < grown_at + SILENCE_SECONDS:
        position = len(prompt) + len(text)
        if tip in heads:
            tip, token = heads[tip]
            text.append(token)
            await child.send(Commit(session, position, tip, (token,), ROWS, AHEAD))
            continue
        message = None
        with trio.move_on_at(grown_at + SILENCE_SECONDS):
            message = await child.receive()
        for growth in message.growths if isinstance(message, Grown) else ():
            if growth.session != session:
                continue
            grown_at = trio.current_time()
            for at, parent in enumerate(growth.parents):
                # A commit that overtook the chain makes it begin anew at the text's end, 0.
                above = parent or (tip if growth.pos == position else -1)
                heads.setdefault(above, (growth.first + at, growth.tokens[at]))
    await child.send(Close(session))
    return text


async def pipe_rates(
    engine: LlamaEngine, prompts: Sequence[list[int]], tokens: int
) -> list[tuple[float, float]]:
    """Return (worker, bare) tokens a second for each prompt."""
    variables = {**environment(1), NICE_VARIABLE: "0"}
    found = []
    async with open_child(
        MODULE, FROM_WORKER, TO_WORKER, role="draft worker", environment=variables
    ) as child:
        await child.send(Load(str(bundled_path()), "known", "cpu", 1, 2, CONTEXT))
        while not isinstance(await child.receive(), Loaded):
            pass
        for number, prompt in enumerate(prompts, start=1):
            warm = await committed(child, 2 * number - 1, prompt, 8)
            began = time.perf_counter()
            text = await committed(child, 2 * number, prompt, tokens)
            worker = time.perf_counter() - began - SILENCE_SECONDS * (len(text) < tokens)
            await trio.sleep(0.1)
            bare = bare_seconds(engine, prompt, text)
            if warm and text:
                found.append((len(text) / worker, len(text) / bare))
    return found


def bare_seconds(engine: LlamaEngine, prompt: Sequence[int], text: Sequence[int]) -> float:
    """Return what the engine alone takes for the prompt in chunks and the text token by token."""
    sequences = Sequences(engine)
    stream = sequences.take()
    began = time.perf_counter()
    fill(sequences, stream, prompt)
    for token in text:
        sequences.decode([Piece(stream, [token], 1)])
    seconds = time.perf_counter() - began
    sequences.release(stream)
    return seconds


def fill(sequences: Sequences, stream: int, tokens: Sequence[int]) -> None:
    for start in range(0, len(tokens), CHUNK):
        sequences.decode([Piece(stream, tokens[start : start + CHUNK], 0)])


def batch_seconds(
    engine: LlamaEngine, sessions: int, length: int, rounds: int
) -> list[tuple[float, float]]:
    """Return (one by one, together) seconds of one token for each session, round by round."""
    sequences = Sequences(engine)
    streams = [sequences.take() for _ in range(sessions)]
    for stream in streams:
        fill(sequences, stream, [1000 + (7 * at + 31 * stream) % 9000 for at in range(length)])
    pieces = [Piece(stream, [1000 + stream], 1) for stream in streams]
    found: dict[bool, list[float]] = {False: [], True: []}
    for _, together in alternating((False, True), rounds):
        began = time.perf_counter()
        if together:
            sequences.decode(pieces)
        else:
            for piece in pieces:
                sequences.decode([piece])
        found[together].append(time.perf_counter() - began)
        for stream in streams:
            sequences.cut(stream, length)
    for stream in streams:
        sequences.release(stream)
    return list(zip(found[False], found[True], strict=True))


def candidate_bars(engine: LlamaEngine, prompt: Sequence[int], rounds: int) -> list[Bar]:
    """Time `rank` on the rows of a real text."""
    sequences = Sequences(engine)
    stream = sequences.take()
    rows = min(len(prompt), engine.limits.outputs)
    fill(sequences, stream, prompt[:-rows])
    logits = sequences.decode([Piece(stream, prompt[-rows:], rows)])[0].copy()
    sequences.release(stream)
    bars = []
    for temperature in (0.0, 0.7, 1.0):
        sampling = Sampling(temperature, 0, 1.0, 0.0)
        edge = NATS * (temperature or 1.0)
        ids = int((logits >= logits.max(axis=1, keepdims=True) - edge).sum()) / rows
        seconds = []
        for number in range(rounds):
            began = time.perf_counter()
            for row in logits:
                rank(row, sampling, KEY, number)
            seconds.append((time.perf_counter() - began) / rows)
        name = f"T = {temperature:g}"
        bars.append(reported(f"one row's candidates, {name}", 1e6 * middle(seconds), "µs"))
        bars.append(
            reported(f"candidates per ms, {name}", ratio(ids, 1e3 * middle(seconds)), "ids")
        )
    return bars


def open_draft(threads: int, streams: int = STREAMS) -> LlamaEngine:
    return open_llama(str(bundled_path()), sessions=streams, context=CONTEXT, threads=threads)


def batching(threads: int, rounds: int) -> tuple[list[Bar], list[Row]]:
    engine = open_draft(threads)
    bars: list[Bar] = []
    rows: list[Row] = []
    for (sessions, length), limits in BATCHES.items():
        pairs = batch_seconds(engine, sessions, length, rounds)
        gain = median_ratio(pairs)
        name = f"{sessions} × {length}, {threads} threads"
        bars.append(at_least(f"batched / one by one, {name}", gain, limits[threads - 1]))
        rows.append(
            {
                "sessions × tokens": f"{sessions} × {length}",
                "threads": threads,
                "one by one tok/s": ratio(sessions, middle([one for one, _ in pairs])),
                "batched tok/s": ratio(sessions, middle([many for _, many in pairs])),
                "gain": gain,
            }
        )
        progress(name)
    for count, seconds in zip(COST_ROWS, engine.limits.costs, strict=True):
        bars.append(reported(f"c({count}), {threads} threads", 1e3 * seconds, "ms"))
    engine.close()
    return bars, rows


def main() -> int:
    flags = parser("draft", __doc__).parse_args()
    if FREE not in os.environ:
        # As the daemon starts a worker: these are read when the libraries load, at exec.
        os.environ.update({**environment(max(THREADS)), FREE: "1"})
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.draft", *sys.argv[1:]])
    engine = open_draft(1, streams=2)
    count, tokens = (4, 96) if flags.quick else (12, 256)
    prompts = [tokenize(engine, chat(prompt.messages)) for prompt in load_prompts(count)]
    pairs = trio.run(pipe_rates, engine, prompts, tokens)
    progress("pipe")
    bars = [
        at_least("worker over its pipe / bare, 1 thread", median_ratio(pairs), 0.85),
        reported("worker over its pipe", middle([worker for worker, _ in pairs]), "tok/s"),
        reported("bare", middle([bare for _, bare in pairs]), "tok/s"),
        *candidate_bars(engine, prompts[0], 5 if flags.quick else 50),
    ]
    engine.close()
    rows: list[Row] = []
    for threads in THREADS:
        more, found = batching(threads, 6 if flags.quick else 30)
        bars += more
        rows += found
    return finish(flags, bars, rows, threads=max(THREADS))


if __name__ == "__main__":
    sys.exit(guarded("draft", main))
