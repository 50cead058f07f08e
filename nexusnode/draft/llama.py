"""llama.cpp as a `DraftEngine`: the one file that imports llama_cpp.

Pinned to llama-cpp-python 0.3.36: its structs change every few weeks, so their sizes are checked
and a few tokens are decoded before anything else. What llama.cpp would
answer by ending the process (GGML_ASSERT) is refused here first.
"""

import ctypes
import os
import time
from collections import deque
from collections.abc import Sequence

import llama_cpp.llama_cpp as lib
import numpy as np
import psutil

from nexusnode.draft.devices import DEFAULT_CONTEXT, DEFAULT_SESSIONS, fit_sessions, kv_bytes
from nexusnode.draft.engine import (
    BadBatch,
    CacheFull,
    EngineLost,
    Limits,
    Logits,
    Row,
    check_rows,
    check_stream,
)
from nexusnode.draft.frontier import DRAFT_ROWS, PROMPT_ROWS
from nexusnode.draft.launch import default_threads
from p2p.errors import ModelError, ResourceError

# Tried with re-rooting. Sliding windows need `swa_full`; recurrent models cannot cut.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
BATCH_ROWS = PROMPT_ROWS  # alone, or half of it beside DRAFT_ROWS
STRUCT_BYTES = {lib.llama_context_params: 160, lib.llama_model_params: 80, lib.llama_batch: 56}
CANARY_TOKENS = 8
COST_ROWS = (1, 2, 4, 8)
COST_TRIES = 3
LINES_KEPT = 200
_LEVEL_WARN = 3  # ggml.h: GGML_LOG_LEVEL_WARN; 4 is ERROR

_lines: deque[str] = deque(maxlen=LINES_KEPT)


def _keep_line(level: int, text: bytes, _: object) -> None:
    if level >= _LEVEL_WARN:
        _lines.append(text.decode(errors="replace").strip())


# ctypes keeps no reference to a callback: it has to live in the module.
_line_callback = lib.llama_log_callback(_keep_line)


# The address instead of a POINTER object, which would make an object for each row.
_logits_address = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("llama_get_logits", lib._lib))


class LlamaEngine:
    """One model and one context with a KV stream for each session.

    Use `open_llama`.
    """

    def __init__(self, model: int, context: int, limits: Limits, memory_bytes: int) -> None:
        self.limits = limits
        self.memory_bytes = memory_bytes
        self.model = model
        self._context = context
        self._kv = lib.llama_get_memory(context)
        self._token = np.zeros(limits.rows, np.int32)
        self._pos = np.zeros(limits.rows, np.int32)
        self._streams_each = np.ones(limits.rows, np.int32)
        self._stream = np.zeros(limits.rows, np.int32)
        self._wants = np.zeros(limits.rows, np.int8)
        self._stream_at = self._stream.ctypes.data + 4 * np.arange(limits.rows, dtype=np.uint64)
        int32 = ctypes.POINTER(ctypes.c_int32)
        self._batch = lib.llama_batch(
            0,
            ctypes.cast(self._token.ctypes.data, int32),
            None,
            ctypes.cast(self._pos.ctypes.data, int32),
            ctypes.cast(self._streams_each.ctypes.data, int32),
            ctypes.cast(self._stream_at.ctypes.data, ctypes.POINTER(int32)),
            ctypes.cast(self._wants.ctypes.data, ctypes.POINTER(ctypes.c_int8)),
        )

    def decode(self, rows: Sequence[Row]) -> Logits:
        check_rows(rows, self.limits)
        count = len(rows)
        self._stream[:count], self._pos[:count], self._token[:count], self._wants[:count] = zip(
            *rows, strict=True
        )
        self._batch.n_tokens = count
        status = lib.llama_decode(self._context, self._batch)
        if status == -1:
            raise BadBatch(f"llama.cpp refused a batch of {count} rows: {last_line()}")
        if status == 1:
            raise CacheFull(f"no room in KV memory for {count} rows")
        if status != 0:
            raise EngineLost(f"llama.cpp: decode answered {status}: {last_line()}")
        outputs = int(self._wants[:count].sum())
        size = outputs * self.limits.vocabulary
        if not size:
            return np.empty((0, self.limits.vocabulary), np.float32)
        view = (ctypes.c_float * size).from_address(_logits_address(self._context))
        flat: Logits = np.ctypeslib.as_array(view)
        return flat.reshape(outputs, self.limits.vocabulary)

    def cut(self, stream: int, pos: int) -> None:
        check_stream(stream, self.limits)
        if not lib.llama_memory_seq_rm(self._kv, stream, pos, -1):
            raise EngineLost("llama.cpp cannot cut this model's memory")

    def close(self) -> None:
        # The context first: it reads the model.
        lib.llama_free(self._context)
        lib.llama_model_free(self.model)


def open_llama(
    path: str,
    *,
    sessions: int = DEFAULT_SESSIONS,
    context: int = DEFAULT_CONTEXT,
    threads: int = 0,
    device: str = "cpu",
    is_known: bool = True,
) -> LlamaEngine:
    """Load a GGUF and prove that it drafts; 0 sessions, context or threads = the default.

    Args:
        context: tokens of one session; fewer if the model was not trained for so many.
        is_known: its SHA-256 was checked against a catalogue. If not, every tensor is checked.

    Raises:
        ModelError: the file, its architecture or this llama.cpp cannot be used.
        ResourceError: memory is short.
    """
    check_structs()
    lib.llama_log_set(_line_callback, ctypes.c_void_p(0))
    lib.llama_backend_init()
    if device != "cpu" and not lib.llama_supports_gpu_offload():
        raise ModelError(f"device {device}: this build of llama.cpp has no devices but cpu")
    model = _load_model(path, device, is_known)
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    cells = min(context or DEFAULT_CONTEXT, lib.llama_model_n_ctx_train(model))
    cells = -(-cells // 256) * 256  # llama.cpp rounds a stream up to it
    heads = lib.llama_model_n_head(model)
    session_bytes = kv_bytes(
        lib.llama_model_n_layer(model),
        lib.llama_model_n_head_kv(model),
        lib.llama_model_n_embd(model) // max(1, heads),
        cells,
    )
    available = psutil.virtual_memory().available
    streams = fit_sessions(sessions or DEFAULT_SESSIONS, max(1, session_bytes), available)
    outputs = max(streams, 2 * DRAFT_ROWS)
    context_at = _open_context(model, streams, cells, outputs, threads or default_threads())
    limits = Limits(streams, cells, BATCH_ROWS, outputs, vocabulary, _ends(model, vocabulary), ())
    memory = lib.llama_model_size(model) + streams * session_bytes
    trial = LlamaEngine(model, context_at, limits, memory)
    _prove(trial, os.path.basename(path))
    costs = _measure(trial)
    return LlamaEngine(
        model,
        context_at,
        Limits(streams, cells, BATCH_ROWS, outputs, vocabulary, limits.ends, costs),
        memory,
    )


def check_structs() -> None:
    """Raise `ModelError` if the bindings' structs are not those this file was written for."""
    for struct, size in STRUCT_BYTES.items():
        if ctypes.sizeof(struct) != size:
            raise ModelError(
                f"{struct.__name__} has {ctypes.sizeof(struct)} bytes, expected {size}: install "
                "llama-cpp-python==0.3.36"
            )


def last_line() -> str:
    """Return what llama.cpp complained of last, if it did."""
    return _lines[-1] if _lines else "no reason given"


def _load_model(path: str, device: str, is_known: bool) -> int:
    if not os.path.isfile(path):
        raise ModelError(f"{path}: no such file")
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0 if device == "cpu" else -1
    params.check_tensors = not is_known
    model: int | None = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelError(f"{path}: llama.cpp cannot load it: {last_line()}")
    text = ctypes.create_string_buffer(64)
    lib.llama_model_meta_val_str(model, b"general.architecture", text, len(text))
    architecture = text.value.decode(errors="replace")
    if architecture not in ARCHITECTURES:
        lib.llama_model_free(model)
        raise ModelError(
            f"{path}: architecture {architecture}; drafts can be {', '.join(ARCHITECTURES)}"
        )
    return model


def _open_context(model: int, streams: int, cells: int, outputs: int, threads: int) -> int:
    params = lib.llama_context_default_params()
    params.n_ctx = streams * cells
    params.n_seq_max = streams
    params.n_batch = params.n_ubatch = BATCH_ROWS
    # Without it the compute buffer is n_batch x vocabulary; below n_seq_max the process aborts.
    params.n_outputs_max = outputs
    params.n_threads = params.n_threads_batch = threads
    # Streams: a row reads only its own session's cells.
    params.kv_unified = False
    params.no_perf = True
    context: int | None = lib.llama_init_from_model(model, params)
    if not context:
        raise ResourceError(f"llama.cpp cannot open {streams} sessions of {cells}: {last_line()}")
    return context


def _ends(model: int, vocabulary: int) -> frozenset[int]:
    vocab = lib.llama_model_get_vocab(model)
    return frozenset(i for i in range(vocabulary) if lib.llama_vocab_is_eog(vocab, i))


def _prove(engine: LlamaEngine, name: str) -> None:
    """Decode a few tokens twice: numbers, not all equal, and the same both times."""
    step = max(1, engine.limits.vocabulary // (CANARY_TOKENS + 1))
    rows = [Row(0, i, i * step, i == CANARY_TOKENS - 1) for i in range(CANARY_TOKENS)]
    first = engine.decode(rows)[0].copy()
    engine.cut(0, 0)
    second = engine.decode(rows)[0]
    is_sound = bool(np.isfinite(first).all()) and float(first.min()) < float(first.max())
    if not is_sound or not np.array_equal(first, second):
        raise ModelError(f"{name}: a trial gave no usable logits; the file or llama.cpp is broken")
    engine.cut(0, 0)


def _measure(engine: LlamaEngine) -> tuple[float, ...]:
    """Return c(1), c(2), c(4), c(8): the best of a few decodes of so many rows, in seconds."""
    costs: list[float] = []
    for count in COST_ROWS:
        rows = [Row(0, i, i, True) for i in range(count)]
        best = float("inf")
        for _ in range(COST_TRIES):
            start = time.perf_counter()
            engine.decode(rows)
            best = min(best, time.perf_counter() - start)
            engine.cut(0, 0)
        # More rows never cost less; a lucky measurement says so on a busy machine.
        costs.append(max([best, *costs]))
    return tuple(costs)
