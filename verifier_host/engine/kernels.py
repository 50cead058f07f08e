"""The compiled operations (`kernels.c`) as Python functions; which instruction set is chosen here.

They are built when the package is installed and loaded once. Arrays must be C-contiguous float32 or
int32; shapes are the caller's to check.
"""

import ctypes
import hashlib
from collections.abc import Sequence
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_long,
    c_void_p,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from p2p.errors import ResourceError
from verifier_host.engine.spec import ModelSpec
from verifier_host.scheduling.rows import TILE, Int32, Rows

SOURCE = Path(__file__).with_name("kernels.c")
LIBRARY = Path(__file__).with_name("_kernels.so")
LEAST_SHARED = 2e5  # multiply-adds of a job; fewer take less than handing it over
MAX_HEAD_SIZE = 512  # fixed arrays in kernels.c
MAX_GROUP = 64
_ADVICE = "install the package again where a C compiler is (in a clone: pip install --no-deps -e .)"
_SETS = {"AVX512": "avx512", "AVX2": "avx2"}  # torch's name of the processor -> suffix


class _Layout(Structure):
    _fields_ = [
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("size", c_int32),
        ("is_bf16", c_int32),
        ("qk_norm", c_int32),
        ("norm_eps", c_float),
        ("scale", c_float),
    ]


class _Step(Structure):
    _fields_ = [
        ("rows", c_int32),
        ("sessions", c_int32),
        *((name, c_void_p) for name in (
            "position", "slot", "parent", "first", "first_tile", "tiles", "first_moved", "moved",
            "cosine", "sine",
        )),
    ]  # fmt: skip


class _Matrix(Structure):
    _fields_ = [
        ("outputs", c_int64),
        ("inputs", c_int64),
        ("is_bf16", c_int32),
        ("panels", c_void_p),
        ("bias", c_void_p),
    ]


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions of one library for one instruction set.

    Attributes:
        digest: of the library's source.
        panel: outputs that a linear computes side by side.
    """

    name: str
    digest: str
    panel: int
    linear: Any
    norm: Any
    swiglu: Any
    attend: Any
    plan: Any
    settle: Any
    contend: Any
    threads: Any


def open_kernels(library: Path = LIBRARY, source: Path = SOURCE) -> Kernels:
    """Load the library for this processor.

    Raises:
        ResourceError: it was not built, or from another source; says how to.
    """
    try:
        found = ctypes.CDLL(str(library))
    except OSError as error:
        raise ResourceError(
            f"the engine's compiled operations cannot be loaded: {error}; {_ADVICE}"
        ) from error
    kind = _SETS.get(torch.backends.cpu.get_cpu_capability(), "base")
    if not hasattr(found, f"nexus_norm_{kind}"):
        kind = "base"
    pointer, number = c_void_p, c_int32
    arguments = {
        "linear": ([POINTER(_Matrix), number, pointer, pointer], None),
        "panel": ([], number),
        "norm": ([number, number, pointer, pointer, pointer, c_float, pointer], None),
        "swiglu": ([number, number, pointer, pointer], None),
        "attend": ([POINTER(_Layout), POINTER(_Step), pointer, pointer, pointer, pointer], None),
        "threads": ([number, c_double], None),
        "digest": ([], c_char_p),
        "plan": ([POINTER(_Step), pointer, pointer, pointer, c_long], c_long),
        "contend": ([number, pointer, pointer, c_float, pointer], number),
        "settle": ([POINTER(_Layout), pointer, number, pointer, pointer, pointer], None),
    }
    functions = {}
    for name, (types, result) in arguments.items():
        function = getattr(found, f"nexus_{name}_{kind}")
        function.argtypes, function.restype = types, result
        functions[name] = function
    digest = functions.pop("digest")().decode()
    if digest != hashlib.sha256(source.read_bytes()).hexdigest():
        raise ResourceError(f"{library.name} was built from another {source.name}; {_ADVICE}")
    panel = functions.pop("panel")()
    return Kernels(kind, digest, panel, **functions)


class PackedLinear:
    """x [R, K] -> [R, N] by a weight in panels, which a step reads once, whatever R is."""

    def __init__(self, kernels: Kernels, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Take weight [N, K] float32 or bfloat16, bias [N]."""
        self._kernels = kernels
        self._outputs, inputs = weight.shape
        rest = -self._outputs % kernels.panel
        full = F.pad(weight, (0, 0, 0, rest)) if rest else weight
        self._panels = full.view(-1, kernels.panel, inputs).transpose(1, 2).contiguous()
        self._bias = None if bias is None else F.pad(bias.float(), (0, rest)).contiguous()
        self._matrix = _Matrix(
            self._outputs,
            inputs,
            weight.dtype == torch.bfloat16,
            self._panels.data_ptr(),
            None if self._bias is None else self._bias.data_ptr(),
        )

    @property
    def nbytes(self) -> int:
        return self._panels.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        out = torch.empty(len(x), self._outputs)
        self._kernels.linear(self._matrix, len(x), x.data_ptr(), out.data_ptr())
        return out


def layout(spec: ModelSpec, dtype: torch.dtype) -> Any:
    """Return what the kernels must know of a model."""
    return _Layout(
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        size=spec.head_size,
        is_bf16=dtype == torch.bfloat16,
        qk_norm=spec.qk_norm,
        norm_eps=spec.norm_eps,
        scale=spec.head_size**-0.5,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """One step as the kernels see it; `arrays` keeps alive what `step` points to."""

    step: Any
    arrays: Sequence[object]


def plan_step(
    kernels: Kernels, rows: Rows, cosine: torch.Tensor, sine: torch.Tensor, room: Int32
) -> Plan:
    """Lay a step out: homes of tiles, and rows whose keys are elsewhere.

    Args:
        cosine, sine: [R, size / 2] float32.
        room: a place for the second, used while it suffices.
    """
    first_tile, tiles = _homes(rows)
    first = np.array([*(s.start for s in rows.sessions), len(rows.token)], np.int32)
    first_moved = np.zeros(len(rows.token) + 1, np.int32)
    arrays = [rows.position, rows.slot, rows.parent, first, first_tile, tiles, first_moved, room]
    arrays = [np.ascontiguousarray(array, np.int32) for array in arrays]
    places = [array.ctypes.data for array in arrays]
    step = _Step(len(rows.token), len(rows.sessions), *places, cosine.data_ptr(), sine.data_ptr())
    needed = kernels.plan(step, places[5], places[6], places[7], len(room))
    if needed > len(room):
        return plan_step(kernels, rows, cosine, sine, np.empty(needed, np.int32))
    return Plan(step, [*arrays, cosine, sine])


def _homes(rows: Rows) -> tuple[Int32, Int32]:
    """Return where each session's tiles begin, and the tiles of its committed positions; -1 in
    those that begin in this step."""
    firsts, parts = [0], []
    for session in rows.sessions:
        known = session.prefix[::TILE] // TILE
        last = int(rows.position[session.start : session.stop].max()) // TILE
        own = np.full(last + 1, -1, np.int32)
        own[: len(known)] = known[: last + 1]
        parts.append(own)
        firsts.append(firsts[-1] + len(own))
    return np.array(firsts, np.int32), np.concatenate(parts)
