"""llama.cpp behind our guards: what would end the process is refused, bad files are named.

Each `raw` case runs in its own child and shows that llama.cpp itself still dies of it: an upgrade
that changes this makes the test fail, and the guard can go.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nexusnode.models
from nexusnode.draft.engine import BadBatch, CacheFull, Row
from nexusnode.draft.launch import environment
from nexusnode.draft.llama import (
    BATCH_ROWS,
    STRUCT_BYTES,
    LlamaEngine,
    check_structs,
    open_llama,
)
from p2p.errors import ModelError

pytestmark = pytest.mark.slow

BUNDLED = Path(nexusnode.models.__path__[0]) / "bundled" / "smollm2-draft-50m-q4_0.gguf"

RAW = """
import ctypes
from nexusnode.draft.engine import Row
from nexusnode.draft import engine, llama
llama.check_rows = lambda rows, limits: None
llama.check_stream = lambda stream, limits: None
draft = llama.open_llama({path!r}, sessions=4, context=256, threads=1)
print("ready", flush=True)
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaEngine]:
    engine = open_llama(str(BUNDLED), sessions=4, context=256, threads=1)
    yield engine
    engine.close()


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", RAW.format(path=str(BUNDLED)) + code],
        env=environment(1),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_bundled_draft_loads_with_its_limits(engine: LlamaEngine) -> None:
    limits = engine.limits

    assert (limits.streams, limits.context, limits.vocabulary) == (4, 256, 49152)
    assert limits.rows == BATCH_ROWS
    assert limits.ends >= {0, 2}  # <|endoftext|>, <|im_end|>
    assert 0 < limits.costs[0] <= limits.costs[1] <= limits.costs[2] <= limits.costs[3]
    assert engine.memory_bytes > BUNDLED.stat().st_size // 2


def test_unasked_for_numbers_are_the_defaults_within_what_the_model_was_trained_for() -> None:
    engine = open_llama(str(BUNDLED), sessions=1, context=1 << 20)
    engine.close()

    assert engine.limits.context <= 8192


@pytest.mark.parametrize("stream", [-1, 4])
def test_a_stream_that_does_not_exist_is_refused(engine: LlamaEngine, stream: int) -> None:
    with pytest.raises(BadBatch, match="stream"):
        engine.decode([Row(stream, 0, 7, True)])
    with pytest.raises(BadBatch, match="stream"):
        engine.cut(stream, 0)


@pytest.mark.parametrize("pos", [1, 5])
def test_a_gap_in_a_stream_is_refused_by_llama_and_changes_nothing(
    engine: LlamaEngine, pos: int
) -> None:
    engine.decode([Row(0, 0, 7, True), Row(0, 1, 8, True)])

    with pytest.raises(BadBatch):
        engine.decode([Row(0, pos, 9, True)])
    engine.decode([Row(0, 2, 9, True)])

    engine.cut(0, 0)


def test_a_position_past_the_stream_is_a_full_cache(engine: LlamaEngine) -> None:
    with pytest.raises(CacheFull):
        engine.decode([Row(0, 256, 7, True)])


def test_logits_are_numbers_and_a_view(engine: LlamaEngine) -> None:
    first = engine.decode([Row(1, 0, 7, True)])
    kept = first.copy()
    engine.decode([Row(1, 1, 900, True)])

    assert kept.dtype == np.float32
    assert np.isfinite(kept).all()
    assert not np.array_equal(first, kept)

    engine.cut(1, 0)


@pytest.mark.parametrize(
    "code",
    [
        "draft.limits = None\nfrom types import SimpleNamespace\n"
        "big = llama.LlamaEngine(draft.model, draft._context, "
        "engine.Limits(4, 256, 500, 500, 49152, frozenset(), ()), 0)\n"
        "big.decode([Row(0, i, 1, i == 0) for i in range(200)])",
        "draft.decode([Row(0, i, 1, True) for i in range(60)])",
        "draft.cut(9, 0)",
        "llama.lib.llama_memory_seq_cp(draft._kv, 9, 0, -1, -1)",
        "draft.decode([Row(0, i, 1, True) for i in range(20)])\n"
        "llama.lib.llama_memory_seq_cp(draft._kv, 0, 1, 0, 10)",
        "llama._open_context(draft.model, 16, 256, 4, 1)",
    ],
    ids=["rows", "outputs", "cut", "copy", "part", "context"],
)
def test_raw_llama_dies_of_it(code: str) -> None:
    ended = run(code)

    assert "ready" in ended.stdout
    assert ended.returncode == -signal.SIGABRT
    assert "GGML_ASSERT" in ended.stderr


def test_the_bindings_structs_have_the_size_this_was_written_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_structs()
    monkeypatch.setitem(STRUCT_BYTES, next(iter(STRUCT_BYTES)), 7)

    with pytest.raises(ModelError, match=r"llama-cpp-python==0\.3\.36"):
        check_structs()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"/nowhere\.gguf: no such file"):
        open_llama("/nowhere.gguf")


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_truncated_file_is_refused_with_a_reason(tmp_path: Path, share: float) -> None:
    whole = BUNDLED.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ModelError, match=r"cut\.gguf: llama\.cpp cannot load it: .+"):
        open_llama(str(path), sessions=1, context=256)


def test_a_foreign_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "foreign.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 400)

    with pytest.raises(ModelError, match=r"foreign\.gguf: llama\.cpp cannot load it"):
        open_llama(str(path))


def test_absurd_counts_in_the_header_are_refused(tmp_path: Path) -> None:
    whole = BUNDLED.read_bytes()
    path = tmp_path / "absurd.gguf"
    path.write_bytes(whole[:16] + b"\xff" * 7 + b"\x7f" + whole[24:100_000])

    with pytest.raises(ModelError):
        open_llama(str(path))


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    whole = BUNDLED.read_bytes()
    head = whole[:4096].replace(b"llama", b"gemma")
    path = tmp_path / "other.gguf"
    path.write_bytes(head + whole[4096:])

    with pytest.raises(ModelError, match="architecture gemma; drafts can be llama, qwen2, qwen3"):
        open_llama(str(path))


@pytest.mark.parametrize("is_known", [True, False])
def test_a_file_whose_weights_were_overwritten_is_refused(tmp_path: Path, is_known: bool) -> None:
    whole = BUNDLED.read_bytes()
    half = len(whole) // 2
    path = tmp_path / "noise.gguf"
    path.write_bytes(whole[:half] + b"\xff" * (len(whole) - half))

    with pytest.raises(ModelError):
        open_llama(str(path), sessions=1, context=256, is_known=is_known)


def test_a_device_that_this_build_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="device Vulkan0"):
        open_llama(str(BUNDLED), device="Vulkan0")
