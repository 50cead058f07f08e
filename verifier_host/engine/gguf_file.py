"""Reads a GGUF of the llama.cpp family into float32 tensors under transformers' names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor

from p2p.errors import ModelError
from verifier_host.engine.spec import Fields, ModelSpec, spec_of_gguf

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROPE = "rope_freqs.weight"  # Llama 3's divisors of the frequencies
# What the reader raises on a file that ends early or is another thing: it checks nothing itself.
DAMAGE = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, OSError, MemoryError)


def read_gguf(
    path: Path, digest: str, progress: Callable[[float, str], None]
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Dequantise a whole file.

    Raises:
        ModelError: not a GGUF, cut short, of another family, or with tensors we do not know.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start[:4] != b"GGUF":
        raise ModelError(f"{path}: not a GGUF file: it does not begin with the letters GGUF")
    if len(start) < 8 or start[4:] not in (b"\2\0\0\0", b"\3\0\0\0"):
        raise ModelError(f"{path}: a GGUF of an unknown version; known are 2 and 3, little-endian")
    try:
        reader = GGUFReader(path)
        values = {name: field.contents() for name, field in reader.fields.items()}
        found = {str(tensor.name): tensor for tensor in reader.tensors}
        factors = found.pop(ROPE).data.tolist() if ROPE in found else None
    except DAMAGE as error:
        raise _damaged(path, error) from error
    fields = Fields(str(path), values)
    spec = spec_of_gguf(fields, factors, "output.weight" not in found, digest)
    tensors = {}
    for index, (name, tensor) in enumerate(found.items()):
        progress(index / len(found), f"unpacking tensor {index + 1} of {len(found)}")
        try:
            plain = dequantize(tensor.data, tensor.tensor_type)
            tensors[_renamed(path, name)] = _in_order(spec, name, plain)
        except NotImplementedError as error:
            kind = tensor.tensor_type.name
            raise ModelError(f"{path}: {name} is {kind}, which cannot be unpacked") from error
        except (*DAMAGE, RuntimeError) as error:
            raise _damaged(path, error) from error
    return spec, tensors


def _damaged(path: Path, error: BaseException) -> ModelError:
    size = path.stat().st_size
    return ModelError(
        f"{path}: damaged or cut short at {size} bytes ({type(error).__name__}); fetch it again"
    )


def _renamed(path: Path, name: str) -> str:
    *front, part, kind = name.split(".")
    known = NAMES.get(part)
    if known is None or kind not in ("weight", "bias"):
        raise ModelError(f"{path}: tensor {name} is no part of a decoder this engine knows")
    if not front:
        return f"{known}.{kind}"
    return f"model.layers.{front[-1]}.{known}.{kind}"


def _in_order(spec: ModelSpec, name: str, values: npt.NDArray[np.float32]) -> Tensor:
    """Undo the row order of llama-architecture files, whose rotated pairs lie side by side."""
    tensor = torch.from_numpy(np.array(values, np.float32))  # a copy: the file's own is read-only
    heads = {"attn_q": spec.heads, "attn_k": spec.kv_heads}.get(name.split(".")[-2])
    if spec.family != "llama" or heads is None:
        return tensor
    shape: Sequence[int] = tensor.shape
    return tensor.view(heads, -1, 2, *shape[1:]).transpose(1, 2).reshape(shape)
