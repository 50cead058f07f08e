"""What a machine gives a draft model: how many sessions fit into its memory. Pure."""

from p2p.errors import ResourceError

RESERVE_BYTES = 300 << 20  # left to the machine beside model and KV memory; chosen
DEFAULT_SESSIONS = 8
DEFAULT_CONTEXT = 4096
MAX_SESSIONS = 64  # chosen; llama.cpp's own limit is 256 sequences
F16_BYTES = 2


def kv_bytes(layers: int, kv_heads: int, head_size: int, tokens: int) -> int:
    """Return the bytes of keys and values of `tokens` tokens in half precision."""
    return layers * kv_heads * head_size * 2 * F16_BYTES * tokens


def fit_sessions(wanted: int, session_bytes: int, available_bytes: int) -> int:
    """Return how many of `wanted` sessions fit; `ResourceError` if not even one does."""
    room = available_bytes - RESERVE_BYTES
    fitting = min(wanted, MAX_SESSIONS, room // session_bytes)
    if fitting < 1:
        raise ResourceError(
            f"{available_bytes >> 20} MiB of memory are free; one session needs "
            f"{(session_bytes + RESERVE_BYTES) >> 20}: close programs or set a smaller context"
        )
    return fitting
