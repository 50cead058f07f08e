"""The decoder of all supported families over a `Body`: rows in, logits of the wanted rows out.

Heads are laid out as the body wants them: query heads first, then each kv head's key beside its
value, and rotated pairs side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verifier_host.engine.body import Body, Linear
from verifier_host.engine.spec import ModelSpec
from verifier_host.engine.weights import Weights
from verifier_host.scheduling.rows import Rows


@dataclass(frozen=True, slots=True)
class Layer:
    """`norms` [heads + kv_heads, d] are Qwen3's, by head; None elsewhere."""

    before_attention: Tensor
    qkv: Linear
    norms: Tensor | None
    out: Linear
    before_mlp: Tensor
    gate_up: Linear
    down: Linear


class Model:
    """One target in memory. `forward` is the only thing that happens after loading."""

    def __init__(
        self,
        spec: ModelSpec,
        body: Body,
        embedding: Tensor,
        layers: tuple[Layer, ...],
        last_norm: Tensor,
        head: Linear,
    ) -> None:
        self.spec = spec
        self.layers = layers
        self.head = head
        self._body = body
        self._embedding = embedding
        self._last_norm = last_norm

    @torch.inference_mode()
    def forward(self, rows: Rows) -> Tensor:
        """Compute one step, writing its keys and values.

        Returns:
            [W, V] float32 logits of the W wanted rows, in order; V is the tokenizer's size.
        """
        step = self._body.begin(rows)
        x = self._embedding[step.token].float()
        added: Tensor | None = None
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(step.norm(x, added, layer.before_attention))
            added = layer.out(step.attend(index, qkv, layer.norms))
            both = layer.gate_up(step.norm(x, added, layer.before_mlp))
            added = layer.down(step.swiglu(both))
        if not len(step.wanted):
            return torch.empty(0, self.spec.vocabulary)
        assert added is not None
        last = step.norm(x[step.wanted], added[step.wanted], self._last_norm)
        return self.head(last)


def open_model(
    weights: Weights, body: Body, dtype: torch.dtype, progress: Callable[[float, str], None]
) -> Model:
    """Pack `weights` for `body`. `progress` is told the share done after every layer.

    Raises:
        ModelError: a tensor is missing or has another shape than the spec says.
    """
    spec = weights.spec
    embedding = weights.matrix("model.embed_tokens.weight", None, spec.hidden)[: spec.vocabulary]
    layers = []
    for index in range(spec.layers):
        progress(index / spec.layers, f"layer {index + 1} of {spec.layers}")
        layers.append(_open_layer(weights, body, f"model.layers.{index}.", dtype))
    if spec.tied:
        head = embedding
    else:
        head = weights.matrix("lm_head.weight", None, spec.hidden)[: spec.vocabulary]
    return Model(
        spec,
        body,
        embedding.to(dtype),
        tuple(layers),
        weights.vector("model.norm.weight", spec.hidden).to(dtype).float(),
        body.pack(head, None),
    )


def _open_layer(weights: Weights, body: Body, prefix: str, dtype: torch.dtype) -> Layer:
    spec = weights.spec
    attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
    width, kv_width = spec.heads * spec.head_size, spec.kv_heads * spec.head_size

    def linear(name: str, outputs: int, inputs: int) -> Linear:
        bias = weights.bias(f"{name}.bias", outputs)
        return body.pack(weights.matrix(f"{name}.weight", outputs, inputs), bias)

    def joined(sizes: dict[str, int]) -> tuple[list[Tensor], list[Tensor | None]]:
        matrices = [weights.matrix(f"{n}.weight", size, spec.hidden) for n, size in sizes.items()]
        return matrices, [weights.bias(f"{n}.bias", size) for n, size in sizes.items()]

    def norm(name: str) -> Tensor:
        return weights.vector(f"{prefix}{name}.weight", spec.hidden).to(dtype).float().contiguous()

    names = {f"{attention}{x}_proj": n for x, n in (("q", width), ("k", kv_width), ("v", kv_width))}
    matrices, biases = joined(names)
    present = [bias for bias in biases if bias is not None]
    qkv = _heads_in_order(spec, *matrices)
    bias = (
        _heads_in_order(spec, *(b[:, None] for b in present)).flatten()
        if len(present) == 3
        else None
    )
    norms = None
    if spec.qk_norm:
        q, k = (weights.vector(f"{attention}{x}_norm.weight", spec.head_size) for x in "qk")
        by_head = [q.repeat(spec.heads), k.repeat(spec.kv_heads)]
        norms = _paired(torch.cat(by_head)[:, None], spec.head_size).float().contiguous()
    halves, half_biases = joined({f"{mlp}{x}_proj": spec.intermediate for x in ("gate", "up")})
    both = [bias for bias in half_biases if bias is not None]
    return Layer(
        before_attention=norm("input_layernorm"),
        qkv=body.pack(qkv, bias),
        norms=norms,
        out=linear(f"{attention}o_proj", spec.hidden, width),
        before_mlp=norm("post_attention_layernorm"),
        gate_up=body.pack(torch.cat(halves), torch.cat(both) if len(both) == 2 else None),
        down=linear(f"{mlp}down_proj", spec.hidden, spec.intermediate),
    )


def _paired(x: Tensor, size: int) -> Tensor:
    """Reorder [n·size, K] so that what a rotation mixes, i and i + size/2, lie side by side."""
    return x.view(-1, 2, size // 2, x.shape[-1]).transpose(1, 2).reshape(x.shape)


def _heads_in_order(spec: ModelSpec, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Join [outputs, K]: the query heads, then key and value of each kv head."""
    pair = [x.view(spec.kv_heads, spec.head_size, -1) for x in (_paired(k, spec.head_size), v)]
    return torch.cat([_paired(q, spec.head_size), torch.cat(pair, 1).flatten(0, 1)])
