"""Build hook: compiles `verifier_host/engine/kernels.c` with the system's C compiler.

One file, compiled once per instruction set; the engine picks at load. `python
packaging/build_kernels.py` does it by hand, for work on the file itself.
"""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "verifier_host" / "engine" / "kernels.c"
LIBRARY = SOURCE.with_name("_kernels.so")
# No contraction and no fast-math: the bits of a row must not depend on how a loop was compiled.
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-Wall", "-Wextra", "-ffp-contract=off", "-fno-math-errno")
SETS = {
    "base": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma"),
}
X86 = ("x86_64", "AMD64", "amd64")


def build(source: Path = SOURCE, library: Path = LIBRARY) -> Path:
    """Compile `source` into `library`.

    Raises:
        RuntimeError: there is no compiler, or it failed; says what it said.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    sets = SETS if platform.machine() in X86 else {"base": ()}
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        objects = [str(Path(folder, f"{name}.o")) for name in sets]
        for (name, extra), made in zip(sets.items(), objects, strict=True):
            names = (f"-DISA={name}", f'-DDIGEST="{digest}"')
            _run(*compiler, *FLAGS, *extra, *names, "-c", str(source), "-o", made)
        fresh = Path(folder, "library")
        _run(*compiler, "-shared", *objects, "-o", str(fresh), "-lm", "-pthread")
        # Renamed into place: a running engine keeps the file it has mapped.
        beside = library.with_suffix(f".{os.getpid()}")
        beside.write_bytes(fresh.read_bytes())
        beside.replace(library)
    return library


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as error:
        raise RuntimeError(
            f"no C compiler: {command[0]} was not found; install one (Debian: apt install"
            " build-essential) or name yours in CC"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"{shlex.join(command)} took longer than {error.timeout:.0f} s"
        ) from error
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr[-4000:]}")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    pass
else:

    class KernelsHook(BuildHookInterface[Any]):
        """Makes wheels for this platform; an sdist carries the source alone."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            build()
            build_data["pure_python"] = False
            tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{tag}"
            build_data["artifacts"].append(str(LIBRARY.relative_to(ROOT)))


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
