"""Will it fit, and how fast can it be at best: arithmetic on a model's shape, before loading it."""

from dataclasses import dataclass

from p2p.errors import ResourceError

DTYPE_BYTES = {"fp32": 4, "bf16": 2}
RESERVE = 0.10  # of free memory, left alone; chosen
LOGIT_BYTES = 4
WORK_COPIES = 4  # chosen: logits, their noise, a sorted and a masked copy
RUNTIME_BYTES = 400 << 20  # torch and its thread pools, resident before any weight
MIN_KV_TOKENS = 1024  # below this hardly one request runs


@dataclass(frozen=True, slots=True)
class Need:
    """What a model is, as far as memory goes."""

    parameters: int
    layers: int
    kv_heads: int
    head_size: int
    vocabulary: int
    dtype: str
    max_rows: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes a host would hold, and how many tokens of KV that leaves room for."""

    weight_bytes: int
    work_bytes: int
    kv_bytes_per_token: int
    kv_tokens: int

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.work_bytes + self.kv_tokens * self.kv_bytes_per_token


def estimate(need: Need, free_bytes: int, kv_tokens: int = 0) -> Estimate:
    """Say how a model would fill `free_bytes`.

    Args:
        kv_tokens: what the configuration asks for; 0 = as many as fit.

    Raises:
        ResourceError: it does not fit; says what is short, by how much, and what to change.
    """
    size = DTYPE_BYTES[need.dtype]
    weights = need.parameters * size
    work = RUNTIME_BYTES + need.max_rows * need.vocabulary * LOGIT_BYTES * WORK_COPIES
    per_token = need.layers * need.kv_heads * 2 * need.head_size * size
    room = int(free_bytes * (1 - RESERVE)) - weights - work
    most = max(0, room // per_token)
    wanted = kv_tokens or MIN_KV_TOKENS
    if most < wanted:
        short = wanted * per_token - room
        advice = "a smaller model" if kv_tokens == 0 else "a smaller model.kv_tokens"
        other = ", or model.dtype = bf16" if need.dtype == "fp32" else ""
        raise ResourceError(
            f"memory: {gigabytes(weights + work + wanted * per_token)} are needed for weights and"
            f" {wanted} tokens of KV, {gigabytes(free_bytes)} are free (10 % of it stays free):"
            f" {gigabytes(short)} short. Use {advice}{other}."
        )
    return Estimate(weights, work, per_token, kv_tokens or most)


def floor_seconds(weight_bytes: int, bytes_per_second: float) -> float:
    """Return the shortest possible step: each weight is read from memory once."""
    return weight_bytes / bytes_per_second


def gigabytes(count: int) -> str:
    """Return a size for people."""
    return f"{count / 1e9:.2f} GB"
