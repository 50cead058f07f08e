"""Every family's logits are those of stock transformers: chains, trees, prompts cut in chunks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from verifier_host.engine.weights import open_weights

LENGTH = 140
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
# family, heads, kv heads, head size, further settings
CASES = {
    "llama-1": ("Llama", 3, 3, 64, {"tie_word_embeddings": True}),
    "llama-3": ("Llama", 9, 3, 64, {}),
    "llama-8-llama3": ("Llama", 8, 1, 128, {"rope_parameters": LLAMA3}),
    "llama-linear": ("Llama", 4, 2, 64, {"rope_parameters": LINEAR}),
    "llama-biases": ("Llama", 4, 2, 64, {"attention_bias": True, "mlp_bias": True}),
    "mistral-5": ("Mistral", 5, 1, 64, {"sliding_window": None}),
    "mistral-window": ("Mistral", 4, 2, 128, {"sliding_window": 512}),
    "qwen2-7": ("Qwen2", 14, 2, 64, {"tie_word_embeddings": True}),
    "qwen2-8": ("Qwen2", 8, 1, 128, {}),
    "qwen3-8": ("Qwen3", 16, 2, 128, {"tie_word_embeddings": True}),
    "qwen3-1": ("Qwen3", 3, 3, 64, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_stock_transformers(
    tmp_path: Path, make_hand: Callable[..., Any], case: str
) -> None:
    import transformers

    family, heads, kv_heads, size, further = CASES[case]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=200,
        hidden_size=32 * heads,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=size,
        max_position_embeddings=512,
        **further,
    )
    config.eos_token_id = 2
    stock = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in stock.parameters():  # biases and norms as well: none stays 0 or 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    stock.save_pretrained(tmp_path)
    weights = open_weights(tmp_path, lambda done, what: None)
    hand = make_hand(weights.spec, weights=weights)
    tokens = np.random.default_rng(0).integers(0, 200, LENGTH).astype(np.int32)

    with torch.inference_mode():
        expected = stock(torch.from_numpy(tokens).long()[None]).logits[0]

    assert expected.std() > 0.5
    for chunks, junk in [([64], 0), ([5], 0), ([LENGTH], 0), ([6], 2)]:
        found = hand.feed(tokens, chunks, junk)
        assert (found - expected).abs().max() < 1e-4, (chunks, junk)
