"""Token for token what stock transformers' `generate` says, given the same noise (bars of 5.5).

NEXUS_STOCK_FULL=1 runs 20 prompts of 128 tokens; plainly 4 of 48. Ours judges stock's own text in
one step, as a tree of one path: by row invariance that is what decoding row by row would choose.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p2p.drafting.coupling import coupling_key, row_key
from verifier_host.engine.coupling import gumbel
from verifier_host.engine.sampling import Chooser
from verifier_host.engine.weights import Weights, open_weights
from verifier_host.messages import Sampling
from verifier_host.scheduling.rows import Int32, Rows, SessionRows

FULL = os.environ.get("NEXUS_STOCK_FULL") == "1"
PROMPTS, TOKENS = (20, 128) if FULL else (4, 48)
NEAR_TIE = 5e-4  # score gap under which fp32 may say either
PROMPTS_FILE = Path(__file__).parents[2] / "benchmarks" / "prompts.jsonl"

SAMPLINGS = {
    "greedy": Sampling(temperature=0.0),
    "T0.7": Sampling(temperature=0.7),
    "T1": Sampling(temperature=1.0),
    "T0.7-p0.9": Sampling(temperature=0.7, top_p=0.9),
    "T1-k20": Sampling(temperature=1.0, top_k=20),
    "T1-m0.1": Sampling(temperature=1.0, min_p=0.1),
    "T1-all": Sampling(temperature=1.0, top_k=50, top_p=0.95, min_p=0.02),
    "T0-penalties": Sampling(temperature=0.0, frequency_penalty=0.6, presence_penalty=0.4),
    "T1-penalties-bias": Sampling(
        temperature=1.0, frequency_penalty=0.5, presence_penalty=-0.3, logit_bias=((198, -2.5),)
    ),
}
QUICK = ("greedy", "T0.7", "T1", "T1-all", "T1-penalties-bias")


@dataclass
class Ours:
    """Logits processors of `generate`: what docs/protocol.md, 7.4 adds to transformers' own.

    Prompts are padded to the left: `pads` says by how much, so that positions can be told.
    """

    sampling: Sampling
    keys: list[bytes]
    pads: list[int]
    width: int

    def penalise(self, ids: Tensor, z: Tensor) -> Tensor:
        z = z.clone()
        frequency = torch.tensor(self.sampling.frequency_penalty)
        for row in range(len(z)):
            for token, bias in self.sampling.logit_bias:
                z[row, token] += bias
            for token, times in Counter(ids[row, self.width :].tolist()).items():
                z[row, token] -= frequency * torch.tensor(float(times))
                z[row, token] -= self.sampling.presence_penalty
        return z

    def add_noise(self, ids: Tensor, z: Tensor) -> Tensor:
        vocabulary = torch.arange(z.shape[1], dtype=torch.int32)
        at = [ids.shape[1] - pad for pad in self.pads]
        rows = [row_key(key, position) for key, position in zip(self.keys, at, strict=True)]
        return z + torch.stack([gumbel(vocabulary, row) for row in rows])


def processors(ours: Ours) -> Any:
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    sampling = ours.sampling
    found = LogitsProcessorList([ours.penalise])
    if sampling.temperature == 0:
        return found
    found.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        found.append(MinPLogitsWarper(sampling.min_p))
    found.append(ours.add_noise)
    return found


def stock_of(weights: Weights) -> Any:
    """Transformers' own Llama over the same weights (test_weights holds them equal to its own)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    spec = weights.spec
    config = LlamaConfig(
        vocab_size=spec.vocabulary,
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.max_context,
        rms_norm_eps=spec.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=spec.tied,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict({n: source() for n, source in weights.sources.items()}, strict=False)
    model.tie_weights()
    return model


def prompts(target: Path) -> list[list[int]]:
    from verifier_host.front.text import Text
    from verifier_host.front.vocabulary import load_vocabulary
    from verifier_host.targets import find_target

    text = Text(load_vocabulary(find_target(str(target))))
    lines = PROMPTS_FILE.read_text().splitlines()
    chats = [json.loads(line)["messages"][0]["content"] for line in lines[:PROMPTS]]
    return [
        list(text.encode(f"<|im_start|>user\n{c}<|im_end|>\n<|im_start|>assistant\n"))
        for c in chats
    ]


@pytest.fixture(scope="module")
def weights(bundled_target_path: Path) -> Weights:
    return open_weights(bundled_target_path, lambda done, what: None)


@pytest.fixture(scope="module")
def stock(weights: Weights) -> Any:
    return stock_of(weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLINGS if FULL else QUICK)
def test_a_text_is_token_for_token_that_of_stock_generate(
    bundled_target_path: Path,
    make_hand: Callable[..., Any],
    weights: Weights,
    stock: Any,
    name: str,
) -> None:
    sampling = SAMPLINGS[name]
    hand = make_hand(weights.spec, weights=weights)
    chooser = Chooser(weights.spec.vocabulary, weights.spec.end_ids)
    asked = prompts(bundled_target_path)
    keys = [coupling_key(number, 0, ids) for number, ids in enumerate(asked)]
    width = max(len(ids) for ids in asked)
    pads = [width - len(ids) for ids in asked]
    made = stock.generate(
        torch.tensor([[0] * pad + ids for pad, ids in zip(pads, asked, strict=True)]),
        attention_mask=torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads]),
        do_sample=False,
        max_new_tokens=TOKENS,
        pad_token_id=0,
        logits_processor=processors(Ours(sampling, keys, pads, width)),
    )
    differing, ties = [], 0
    for number, (ids, key, pad) in enumerate(zip(asked, keys, pads, strict=True)):
        tokens = made[number, pad:].numpy().astype(np.int32)
        hand.feed(tokens[: len(ids) - 1], [64])
        rows = judged(hand.chain(tokens, len(ids) - 1, len(tokens) - 1), key, sampling)
        logits = hand.model.forward(rows)
        chosen = chooser.rows(rows, logits).tokens
        for at in np.flatnonzero(chosen != tokens[len(ids) :]).tolist():
            ours = Ours(sampling, [key], [0], len(ids))
            gap = score_gap(ours, logits[at], tokens, at, int(chosen[at]))
            ties += gap < NEAR_TIE
            differing.append((number, at, gap))

    print(f"\n{name}: {PROMPTS * TOKENS} tokens, {len(differing)} other, {ties} near ties")
    assert len(differing) == ties, differing
    assert ties <= 1 + PROMPTS * TOKENS // 2560


def judged(rows: Rows, key: bytes, sampling: Sampling) -> Rows:
    """`rows` as a root and guesses of a session with these settings."""
    (old,) = rows.sessions
    session = SessionRows(old.session, old.start, old.stop, old.prefix, key, sampling, {}, 0)
    return Rows(rows.token, rows.position, rows.slot, rows.parent, rows.wants, (session,))


def score_gap(ours: Ours, logits: Tensor, tokens: Int32, at: int, chosen: int) -> float:
    """How much better our choice scores than stock's, by our logits."""
    until = ours.width + at
    ids = torch.from_numpy(tokens[:until].astype(np.int64))[None]
    score = ours.penalise(ids, logits[None])
    if ours.sampling.temperature:
        score = ours.add_noise(ids, score / ours.sampling.temperature)
    return float(score[0, chosen] - score[0, tokens[until]])
