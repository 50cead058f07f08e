"""Which decoder a model file describes, and whether this engine can compute it exactly.

Families: Llama, Mistral, Qwen2/2.5 and Qwen3, all one decoder with a few flags. Anything else is
refused: the stock forward would not be row-invariant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from p2p.errors import ModelError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
# Control tokens that end a text though metadata may name only one of them (Qwen2.5: two).
END_TEXTS = frozenset({"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>"})
CONTROL = 3  # tokenizer.ggml.token_type of a control token


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shapes and constants of one target.

    Attributes:
        vocabulary: the tokenizer's size; the embedding may have more (padding) rows, which no token
            has and no logit is computed for.
        frequencies: [head_size / 2] angle per position of each rotated pair.
        digest: SHA-256 over the model's files, hex.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    end_ids: tuple[int, ...]
    max_context: int
    norm_eps: float
    frequencies: tuple[float, ...]
    tied: bool
    qk_norm: bool
    digest: str

    @property
    def group(self) -> int:
        """Query heads per kv head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True)
class Fields:
    """Values of a model's metadata, each asked for by name and type; `where` names the file."""

    where: str
    values: Mapping[str, object]

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if value is None:
            raise ModelError(f"{self.where}: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelError(f"{self.where}: {name} = {value!r}: expected an integer of 1 or more")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name, default)
        if value is None:
            raise ModelError(f"{self.where}: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ModelError(f"{self.where}: {name} = {value!r}: expected a number above 0")
        return float(value)

    def section(self, name: str) -> "Fields":
        value = self.values.get(name)
        return Fields(f"{self.where}: {name}", value if isinstance(value, Mapping) else {})

    def refuse(self, name: str, found: object, expected: str) -> ModelError:
        return ModelError(f"{self.where}: {name} = {found!r} is not supported; {expected}")


def spec_of_gguf(
    fields: Fields, rope_factors: Sequence[float] | None, tied: bool, digest: str
) -> ModelSpec:
    """Read a GGUF's metadata; `rope_factors` is its tensor rope_freqs (how it says "llama3").

    Raises:
        ModelError: the architecture or one of its settings is not among those computed here.
    """
    family = fields.values.get("general.architecture")
    if family not in FAMILIES or not isinstance(family, str):
        raise fields.refuse("general.architecture", family, f"known are {', '.join(FAMILIES)}")
    heads = fields.integer(f"{family}.attention.head_count")
    hidden = fields.integer(f"{family}.embedding_length")
    size = fields.integer(f"{family}.attention.key_length", hidden // heads)
    if fields.integer(f"{family}.attention.value_length", size) != size:
        raise fields.refuse(
            "attention.value_length", "other than the key's", "expected equal sizes"
        )
    if fields.integer(f"{family}.rope.dimension_count", size) != size:
        raise fields.refuse("rope.dimension_count", "a part", "expected whole heads to be rotated")
    scaling = fields.values.get(f"{family}.rope.scaling.type", "none")
    if scaling not in ("none", "linear"):
        raise fields.refuse("rope.scaling.type", scaling, "known are none, linear, llama3")
    factor = fields.real(f"{family}.rope.scaling.factor") if scaling == "linear" else 1.0
    rope = _default_frequencies(fields.real(f"{family}.rope.freq_base", 10000.0), size)
    if rope_factors is not None and len(rope_factors) != size // 2:
        raise ModelError(
            f"{fields.where}: rope_freqs has {len(rope_factors)} values, not {size // 2}"
        )
    divisors = rope_factors or [1.0] * len(rope)
    context = fields.integer(f"{family}.context_length")
    return _checked(
        fields.where,
        ModelSpec(
            family=family,
            layers=fields.integer(f"{family}.block_count"),
            hidden=hidden,
            intermediate=fields.integer(f"{family}.feed_forward_length"),
            heads=heads,
            kv_heads=fields.integer(f"{family}.attention.head_count_kv", heads),
            head_size=size,
            vocabulary=len(_list(fields, "tokenizer.ggml.tokens")),
            end_ids=_gguf_end_ids(fields),
            max_context=min(context, fields.integer(f"{family}.attention.sliding_window", context)),
            norm_eps=fields.real(f"{family}.attention.layer_norm_rms_epsilon"),
            frequencies=tuple(f / factor / d for f, d in zip(rope, divisors, strict=True)),
            tied=tied,
            qk_norm=family == "qwen3",
            digest=digest,
        ),
    )


def spec_of_config(
    fields: Fields, end_ids: Sequence[int], vocabulary: int | None, digest: str
) -> ModelSpec:
    """Read a Hugging Face config.json; `vocabulary` is the tokenizer's size where it is known.

    Raises:
        ModelError: as `spec_of_gguf`.
    """
    values = fields.values
    family = values.get("model_type")
    if family not in FAMILIES or not isinstance(family, str):
        raise fields.refuse("model_type", family, f"known are {', '.join(FAMILIES)}")
    if values.get("hidden_act", "silu") != "silu":
        raise fields.refuse("hidden_act", values["hidden_act"], "expected silu")
    if values.get("quantization_config"):
        raise fields.refuse("quantization_config", "present", "expected plain fp32, bf16 or fp16")
    heads = fields.integer("num_attention_heads")
    hidden = fields.integer("hidden_size")
    size = hidden // heads if values.get("head_dim") is None else fields.integer("head_dim")
    context = fields.integer("max_position_embeddings")
    return _checked(
        fields.where,
        ModelSpec(
            family=family,
            layers=fields.integer("num_hidden_layers"),
            hidden=hidden,
            intermediate=fields.integer("intermediate_size"),
            heads=heads,
            kv_heads=fields.integer("num_key_value_heads", heads),
            head_size=size,
            vocabulary=vocabulary or fields.integer("vocab_size"),
            end_ids=tuple(sorted(set(end_ids))),
            max_context=min(context, _window(fields, context)),
            norm_eps=fields.real("rms_norm_eps"),
            frequencies=_config_frequencies(fields, size),
            tied=bool(values.get("tie_word_embeddings", False)),
            qk_norm=family == "qwen3",
            digest=digest,
        ),
    )


def _checked(where: str, spec: ModelSpec) -> ModelSpec:
    if spec.heads % spec.kv_heads or spec.head_size % 2:
        raise ModelError(
            f"{where}: {spec.heads} heads of {spec.head_size} over {spec.kv_heads} kv heads:"
            " expected a whole number of heads per kv head, and an even size"
        )
    if not all(0 <= token < spec.vocabulary for token in spec.end_ids):
        raise ModelError(f"{where}: end ids {spec.end_ids} go beyond {spec.vocabulary} tokens")
    return spec


def _window(fields: Fields, context: int) -> int:
    """Return how many positions see all earlier ones: attention with a window is full within it."""
    if fields.values.get("use_sliding_window") is False or not fields.values.get("sliding_window"):
        return context
    return fields.integer("sliding_window")


def _default_frequencies(theta: float, size: int) -> tuple[float, ...]:
    """θ^(-2i/d) in float32, as transformers computes it: an ulp here is felt at far positions."""
    exponents = torch.arange(0, size, 2, dtype=torch.int64).float() / size
    return tuple((1.0 / theta**exponents).tolist())


def _config_frequencies(fields: Fields, size: int) -> tuple[float, ...]:
    """Rotation frequencies; transformers 5 writes `rope_parameters`, 4 `rope_scaling` and theta."""
    rope = fields.section(
        "rope_parameters" if "rope_parameters" in fields.values else "rope_scaling"
    )
    theta = rope.real("rope_theta", fields.real("rope_theta", 10000.0))
    if rope.real("partial_rotary_factor", 1.0) != 1.0:
        raise rope.refuse(
            "partial_rotary_factor", rope.values["partial_rotary_factor"], "expected 1"
        )
    plain = _default_frequencies(theta, size)
    match kind := rope.values.get("rope_type", rope.values.get("type", "default")):
        case "default":
            return plain
        case "linear":
            return tuple(f / rope.real("factor") for f in plain)
        case "llama3":
            return tuple(_llama3(rope, f) for f in plain)
        case _:
            raise rope.refuse("rope_type", kind, "known are default, linear, llama3")


def _llama3(rope: Fields, frequency: float) -> float:
    """Slow long waves by `factor`, keep short ones, blend between (Llama 3.1's own rule)."""
    factor, low = rope.real("factor"), rope.real("low_freq_factor")
    high, trained = rope.real("high_freq_factor"), rope.real("original_max_position_embeddings")
    turns = trained * frequency / (2 * math.pi)
    if turns < low:
        return frequency / factor
    if turns > high:
        return frequency
    blend = (turns - low) / (high - low)
    return (1 - blend) * frequency / factor + blend * frequency


def _list(fields: Fields, name: str) -> Sequence[object]:
    value = fields.values.get(name)
    if not isinstance(value, list) or not value:
        raise ModelError(f"{fields.where}: {name} is missing; the file holds no tokenizer")
    return value


def _gguf_end_ids(fields: Fields) -> tuple[int, ...]:
    """Ids that end a text: those the metadata names and control tokens known to mean it."""
    named = (fields.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    ids = {token for token in named if isinstance(token, int)}
    kinds = fields.values.get("tokenizer.ggml.token_type")
    if isinstance(kinds, list):
        tokens = _list(fields, "tokenizer.ggml.tokens")
        ids |= {
            token
            for token, (text, kind) in enumerate(zip(tokens, kinds, strict=False))
            if kind == CONTROL and text in END_TEXTS
        }
    return tuple(sorted(ids))
