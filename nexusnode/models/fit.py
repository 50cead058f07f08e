"""Does a draft model fit in this machine's free memory, and with how much to spare."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import psutil

RESERVE_BYTES = 1 << 30  # chosen: left to the machine's owner
# llama.cpp's buffers beside weights and KV: rows of logits and one layer's activations.
WORK_ROWS = 64
WORK_BYTES = 64 << 20
_GB = 1e9


class Fit(Enum):
    FITS = "fits"
    TIGHT = "tight"
    NO = "does not fit"


@dataclass(frozen=True, slots=True)
class Fitting:
    """`need_bytes` of `free_bytes`; the model fits if the owner's reserve stays free as well."""

    need_bytes: int
    free_bytes: int

    @property
    def fit(self) -> Fit:
        if self.need_bytes + RESERVE_BYTES <= self.free_bytes:
            return Fit.FITS
        return Fit.TIGHT if self.need_bytes <= self.free_bytes else Fit.NO

    @property
    def sentence(self) -> str:
        """For command line and window: "Fits with 9.5 GB to spare."."""
        spare = (self.free_bytes - self.need_bytes) / _GB
        match self.fit:
            case Fit.FITS:
                return f"Fits with {spare:.1f} GB to spare."
            case Fit.TIGHT:
                return f"Tight: leaves only {spare:.1f} GB of memory free."
            case Fit.NO:
                return f"Does not fit: {-spare:.1f} GB of memory are missing."


class Sizes(Protocol):
    """What decides how much memory a model takes: a file's header, or `Shape`."""

    @property
    def file_bytes(self) -> int: ...
    @property
    def kv_bytes(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that is not here; `kv_bytes` is the KV memory of one token at f16."""

    file_bytes: int
    kv_bytes: int
    vocabulary: int


def need_bytes(sizes: Sizes, sessions: int, context: int) -> int:
    """Return the memory a draft takes: file, KV of `sessions` × `context` tokens, buffers."""
    logits = WORK_ROWS * sizes.vocabulary * 4
    return sizes.file_bytes + sessions * context * sizes.kv_bytes + logits + WORK_BYTES


def fitting(sizes: Sizes, sessions: int, context: int, own_bytes: int = 0) -> Fitting:
    """Return how the model fits in the memory that is free now.

    Args:
        own_bytes: what this very model has taken already.
    """
    free = psutil.virtual_memory().available + own_bytes
    return Fitting(need_bytes(sizes, sessions, context), free)
