"""Stock transformers on the same models, in a child process that sleeps while others are measured.

The child (`python -m benchmarks.stock`) loads the target's and the draft's GGUF through
transformers, then answers one line of JSON with one line of JSON. Between two lines it waits in
`read`: its threads hold no core.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from nexusnode.models.catalogue import bundled_path
from p2p.errors import ChildError
from verifier_host.targets import find_target

REST_SECONDS = 0.3  # OpenMP threads spin for a while after their last work


@dataclass(frozen=True, slots=True)
class Made:
    """What `generate` made: ids without the end-of-text id.

    Attributes:
        first: how many tokens came first, at once, after `first_seconds`.
    """

    ids: tuple[int, ...]
    first: int
    first_seconds: float
    seconds: float

    @property
    def decode_seconds(self) -> float:
        return self.seconds - self.first_seconds

    @property
    def decoded(self) -> int:
        """Tokens that came after the first ones."""
        return max(0, len(self.ids) - self.first)


class Stock:
    """`with Stock(threads=2, dtype="fp32") as stock: stock.wait(); stock.generate(ids, 128)`."""

    def __init__(self, threads: int, dtype: str) -> None:
        self._command = (
            sys.executable, "-m", "benchmarks.stock", "--threads", str(threads), "--dtype", dtype,
        )  # fmt: skip
        self._threads = threads
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads)},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def pids(self) -> list[int]:
        return [self._child.pid] if self._child is not None else []

    def wait(self) -> None:
        """Wait until both models are loaded."""
        self._hear()

    def generate(self, ids: tuple[int, ...], tokens: int, assisted: bool = False) -> Made:
        """Return the greedy answer to a prompt; `assisted`: with the draft, by its defaults."""
        assert self._child is not None
        assert self._child.stdin is not None
        asked = {"ids": ids, "tokens": tokens, "assisted": assisted}
        self._child.stdin.write(json.dumps(asked) + "\n")
        self._child.stdin.flush()
        found = self._hear()
        time.sleep(REST_SECONDS)
        return Made(tuple(found["ids"]), found["first"], found["first_seconds"], found["seconds"])

    def _hear(self) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise ChildError(f"transformers ended with status {self._child.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


class _Stamps:
    """A streamer of `generate`: when tokens came and how many; the prompt comes before them."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, int]] = []

    def put(self, value: Any) -> None:
        self.calls.append((time.perf_counter(), value.numel()))

    def end(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stock", description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), required=True)
    flags = parser.parse_args()
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(flags.threads)
    dtype = torch.float32 if flags.dtype == "fp32" else torch.bfloat16
    target, draft = (
        AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=dtype)
        for path in (find_target("bundled").path, bundled_path())
    )
    ends = set(_listed(target.generation_config.eos_token_id))
    _say({"is_ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        ids = torch.tensor([asked["ids"]])
        stamps = _Stamps()
        began = time.perf_counter()
        made = target.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=asked["tokens"],
            pad_token_id=0,
            streamer=stamps,
            **({"assistant_model": draft} if asked["assisted"] else {}),
        )
        seconds = time.perf_counter() - began
        answer = made[0, ids.shape[1] :].tolist()
        at, first = stamps.calls[1] if len(stamps.calls) > 1 else (began + seconds, 0)
        _say(
            {
                "ids": answer[:-1] if answer and answer[-1] in ends else answer,
                "first": first,
                "first_seconds": at - began,
                "seconds": seconds,
            }
        )


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def _listed(ends: Any) -> list[int]:
    if ends is None:
        return []
    return list(ends) if isinstance(ends, list | tuple) else [int(ends)]


if __name__ == "__main__":
    main()
