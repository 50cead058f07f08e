"""How many sessions fit into a machine's memory; how a worker is started."""

import psutil
import pytest

from nexusnode.draft.devices import MAX_SESSIONS, RESERVE_BYTES, fit_sessions, kv_bytes
from nexusnode.draft.launch import MAX_DEFAULT_THREADS, default_threads, environment
from p2p.errors import ResourceError

MIB = 1 << 20


@pytest.mark.parametrize(
    ("wanted", "available", "fitting"),
    [
        (8, RESERVE_BYTES + 800 * MIB, 8),
        (8, RESERVE_BYTES + 799 * MIB, 7),
        (8, RESERVE_BYTES + 100 * MIB, 1),
        (1, 1 << 40, 1),
        (1000, 1 << 40, MAX_SESSIONS),
    ],
)
def test_fewer_sessions_are_opened_when_memory_is_short(
    wanted: int, available: int, fitting: int
) -> None:
    assert fit_sessions(wanted, 100 * MIB, available) == fitting


def test_no_room_for_a_single_session_is_an_error_with_the_figures() -> None:
    with pytest.raises(ResourceError, match="399 MiB of memory are free; one session needs 400"):
        fit_sessions(8, 100 * MIB, RESERVE_BYTES + 100 * MIB - 1)


def test_keys_and_values_are_counted_in_half_precision() -> None:
    assert kv_bytes(layers=6, kv_heads=3, head_size=64, tokens=4096) == 6 * 3 * 64 * 4 * 4096


def test_a_worker_is_started_so_that_it_gives_way() -> None:
    variables = environment(3)

    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["OMP_WAIT_POLICY"] == "PASSIVE"
    assert variables["GGML_NO_BACKTRACE"] == "1"
    assert variables["OPENBLAS_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 2), (6, 3), (64, 4), (None, 1)])
def test_half_of_the_cores_draft(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: cores)

    assert default_threads() == threads <= MAX_DEFAULT_THREADS
    assert environment(0)["OMP_NUM_THREADS"] == str(threads)
