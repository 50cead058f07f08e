"""Coupling noise v1: what node and host share, so that a good guess is the target's token.

Specification: docs/protocol.md, 5 (`nexus-noise-v1`); vectors: tests/data/noise_vectors.json.
Up to `noise_uniform` results are bit-exact on every machine; `gumbel` differs between libraries by
at most 5e-7, and where it decides anything the host's own counts. `V` is a number of token ids.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

UInt32Array = npt.NDArray[np.uint32]
Float32Array = npt.NDArray[np.float32]
RowKey = tuple[int, int, int, int]

KEY_BYTES = 8
GUMBEL_LOW = -2.811541  # at w = 1 - 2^-24
GUMBEL_HIGH = 22.180710  # at w = 2^-32

_PERSON_KEY = b"nexus-key-v1"
_PERSON_NOISE = b"nexus-noise-v1"
_BELOW_ONE = np.float32(1.0 - 2.0**-24)


def coupling_key(seed: int, choice: int, prompt: Sequence[int]) -> bytes:
    """Return the 8-byte key of one choice of a request.

    The prompt is in it so that many prompts sent with one seed do not share one noise stream.

    Args:
        seed: int64.
        choice: 0 … n-1, which of the request's n completions.
        prompt: token ids before the first generated one.
    """
    ids = np.asarray(prompt, dtype=np.uint32)
    head = struct.pack("<qII", seed, choice, len(ids))
    return blake2b(
        head + ids.astype("<u4").tobytes(), digest_size=KEY_BYTES, person=_PERSON_KEY
    ).digest()


def row_key(key: bytes, position: int) -> RowKey:
    """Return the four u32 that seed the noise of the token chosen *at* absolute `position`.

    The first generated token of a prompt of P tokens has position P. The fourth word is unused.
    """
    message = key + position.to_bytes(8, "little")
    digest = blake2b(message, digest_size=16, person=_PERSON_NOISE).digest()
    k0, k1, k2, k3 = struct.unpack("<4I", digest)
    return k0, k1, k2, k3


def noise_bits(ids: UInt32Array, row: RowKey) -> UInt32Array:
    """Return [V] h, 31 random bits for each id: a keyed permutation of 32 bits, shifted by one."""
    # In place throughout: two buffers, not one for each of the twenty operations.
    x = ids + np.uint32(row[0])
    shifted = x >> np.uint32(16)
    x ^= shifted
    x *= np.uint32(0x21F0AAAD)
    np.right_shift(x, np.uint32(15), out=shifted)
    x ^= shifted
    x *= np.uint32(0xD35A2D97)
    np.right_shift(x, np.uint32(15), out=shifted)
    x ^= shifted
    x ^= np.uint32(row[1])
    x *= np.uint32(0x2C1B3C6D)
    np.right_shift(x, np.uint32(16), out=shifted)
    x ^= shifted
    x += np.uint32(row[2])
    x *= np.uint32(0x297A2D39)
    np.right_shift(x, np.uint32(15), out=shifted)
    x ^= shifted
    x >>= np.uint32(1)
    return x


def noise_uniform(bits: UInt32Array) -> Float32Array:
    """Return [V] w in (0, 1) for h; conversion and addition round to nearest even."""
    w = bits.astype(np.float32)
    w += np.float32(0.5)
    w *= np.float32(2.0**-31)
    return np.minimum(w, _BELOW_ONE, out=w)


def gumbel(ids: UInt32Array, row: RowKey) -> Float32Array:
    """Return [V] G = -log(-log1p(-w)), Gumbel noise of each id, GUMBEL_LOW to GUMBEL_HIGH."""
    g = noise_uniform(noise_bits(ids, row))
    np.negative(g, out=g)
    np.log1p(g, out=g)
    np.negative(g, out=g)
    np.log(g, out=g)
    return np.negative(g, out=g)
