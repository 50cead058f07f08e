"""Opens a target whole: weights, body, KV memory, self-test. What the worker steps."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack
import psutil
import torch

from p2p.errors import ModelError
from verifier_host.engine.body_cpu import CpuBody
from verifier_host.engine.kv import bytes_per_slot, slots_for
from verifier_host.engine.model import Model, open_model
from verifier_host.engine.sampling import Chooser
from verifier_host.engine.selftest import is_invariant, time_steps
from verifier_host.engine.spec import ModelSpec
from verifier_host.engine.weights import Weights, open_weights
from verifier_host.messages import Load
from verifier_host.scheduling.rows import Chosen, Int32, Rows

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RANKS = 1


@dataclass(frozen=True, slots=True)
class Target:
    """A target in memory, for one thread.

    Attributes:
        exact: rows are invariant, shown by the self-test at load.
        fingerprint: 16 hex digits; the same text is promised between equal ones (R6).
        kernels: the instruction set of its compiled kernels.
        slots: of the KV memory, the dummy tile 0 included; slot = tile · TILE + column.
        memory_bytes: weights and the whole KV memory.
        trial: (rows, seconds) of steps, rows rising from 1.
    """

    spec: ModelSpec
    exact: bool
    fingerprint: str
    kernels: str
    slots: int
    memory_bytes: int
    trial: tuple[tuple[int, float], ...]
    dtype: torch.dtype
    model: Model
    body: CpuBody
    chooser: Chooser

    def forward(self, rows: Rows) -> Chosen:
        """Compute one step: keys and values go to the rows' slots, wanted rows are chosen for.

        A session's first wanted row must be its last committed token; rows below it are guesses.
        """
        return self.chooser.rows(rows, self.model.forward(rows))

    def settle(self, source: Int32, destination: Int32) -> None:
        """Copy keys and values between slots, in all layers; the two sets may overlap."""
        if len(source):
            self.body.settle(source, destination)


def open_target(load: Load, progress: Callable[[float, str], None]) -> Target:
    """Load, prove and return a target. Leaves torch one thread: the kernels have their own.

    Args:
        progress: told (share done of the present part, what it is), many times a second.

    Raises:
        ModelError: the model cannot be used; the message names the file and says why.
        ResourceError: there is no memory for it.
    """
    dtype = DTYPES.get(load.dtype)
    if dtype is None:
        raise ModelError(f'dtype = "{load.dtype}": known are {", ".join(DTYPES)}')
    threads = load.threads or psutil.cpu_count() or 1
    # What is left to torch is small, and its threads would take turns with the kernels' own.
    torch.set_num_threads(1)
    weights = open_weights(Path(load.path), progress)
    return prove(weights, dtype, CpuBody(weights.spec, dtype, threads), load, progress)


def prove(
    weights: Weights,
    dtype: torch.dtype,
    body: CpuBody,
    load: Load,
    progress: Callable[[float, str], None],
) -> Target:
    """Return a target over `body`, with what the self-test says of it."""
    spec = weights.spec
    model = open_model(weights, body, dtype, progress)
    slots = slots_for(spec, dtype, load.kv_tokens, psutil.virtual_memory().available)
    body.reserve(slots)
    progress(1.0, "self-test: are rows independent of each other?")
    exact = is_invariant(model, load.max_rows)
    return Target(
        spec=spec,
        exact=exact,
        fingerprint=_fingerprint(spec, load.dtype, body.digest),
        kernels=body.kernels,
        slots=slots,
        memory_bytes=slots * bytes_per_slot(spec, dtype) + body.weight_bytes,
        trial=time_steps(model, load.max_rows),
        dtype=dtype,
        model=model,
        body=body,
        chooser=Chooser(spec.vocabulary, spec.end_ids),
    )


def _fingerprint(spec: ModelSpec, dtype: str, body: str) -> str:
    """R6: everything that may change a bit, hashed."""
    processor = torch.backends.cpu.get_cpu_capability()
    versions = [torch.__version__, processor]
    parts = [spec.digest, dtype, body, versions, RANKS]
    return hashlib.sha256(msgpack.packb(parts)).hexdigest()[:16]
