"""What a draft worker needs to find in its environment when it starts.

Cheap to import, for the daemon: neither numpy nor llama.cpp.
"""

import psutil

MODULE = "nexusnode.draft.worker"
MAX_DEFAULT_THREADS = 4
NICE_VARIABLE = "NEXUS_DRAFT_NICE"
DEFAULT_NICE = 19


def default_threads() -> int:
    """Return half of the physical cores, 1 to MAX_DEFAULT_THREADS: the machine is its owner's."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return max(1, min(MAX_DEFAULT_THREADS, cores // 2))


def environment(threads: int) -> dict[str, str]:
    """Return the variables to start a worker with; `threads` 0 = `default_threads()`.

    They are read when the libraries load, so they must stand at exec. With passive waiting the
    90th percentile of a step on a busy machine is 19 ms, not 146 (measured, 2 threads);
    without GGML_NO_BACKTRACE a failed assert starts gdb, seconds long.
    """
    return {
        "GGML_NO_BACKTRACE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads or default_threads()),
        "OPENBLAS_NUM_THREADS": "1",
    }
