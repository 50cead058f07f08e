"""How long a loss lasts, and what many sessions leave behind: real processes, real signals.

    python -m benchmarks.recovery [--quick] [--json PATH]

  connected        a node's process is started until the host serves it (≤ 5 s, and 3 s for the
                   interpreter); the same for a host that comes back on another port.
  longest gap      between two pieces of a running answer when its node, a draft worker or the
                   bootstrap peer is killed, a node is stopped, or the engine is killed (≤ 15 s).
  after / before   resident memory after 200 sessions and after 50 (≤ 1.05), by process.

Every answer that lost something is compared with the undisturbed one.
"""

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks.asking import Question, complete_all
from benchmarks.fleet import Fleet
from benchmarks.prompts import load_prompts
from benchmarks.report import Bar, at_most, finish, guarded, parser, progress, reported
from benchmarks.streaming import Answer, Way, stream
from p2p.errors import Unavailable

READY_SECONDS = 180.0
CONNECT_SECONDS = 5.0 + 3.0
ENGINE_SECONDS = 15.0
GROWN = 1.05
TOKENS = 96
STRUCK_AFTER_SECONDS = 0.7
WARM_UP, SESSIONS, QUICK_SESSIONS = 52, 200, 100


def main() -> int:
    flags = parser("recovery", __doc__).parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="nexus-recovery-") as folder,
        Fleet(Path(folder), nodes=2, environment={"NEXUS_DRAFTING_ALWAYS": "true"}) as fleet,
    ):
        fleet.start()
        fleet.wait_ready(READY_SECONDS, progress)
        bars = memory(fleet, QUICK_SESSIONS if flags.quick else SESSIONS)
        bars += connections(fleet)
        found, is_same = losses(fleet)
        return finish(flags, bars + found, [], threads=0, texts_equal=is_same)


def memory(fleet: Fleet, sessions: int) -> list[Bar]:
    """Return how much each process has grown between the first sessions and the last."""
    node = fleet.nodes[0]
    assert fleet.host.process is not None
    assert node.process is not None
    processes = {
        "front": psutil.Process(fleet.host.process.pid),
        "engine": fleet.host.child("verifier_host.engine.worker"),
        "daemon": psutil.Process(node.process.pid),
        "draft worker": node.child("nexusnode.draft.worker"),
    }

    def resident() -> dict[str, int]:
        return {name: process.memory_info().rss for name, process in processes.items()}

    early = resident()
    for first in range(0, sessions, 4):
        if first == WARM_UP:
            early = resident()
        texts = [f"Say the number {first + i}." for i in range(4)]
        complete_all(fleet, [Question(text, max_tokens=6) for text in texts])
    late = resident()
    what = f"memory after {sessions} sessions / after {WARM_UP}"
    bars = [at_most(f"{name}: {what}", late[name] / early[name], GROWN) for name in processes]
    return [*bars, at_most("sessions left", fleet.metric("vllm:num_requests_running"), 0, "")]


def connections(fleet: Fleet) -> list[Bar]:
    """Return how long a node that starts, and a host that moves, take to be found."""
    node = fleet.nodes[0]
    node.end()
    _until(lambda: fleet.connected() == 1, "the host sees a node leave")
    began = time.monotonic()
    fleet.start_node(node)
    fleet.wait_connected(2, 60)
    took = time.monotonic() - began
    bars = [at_most("a node that starts is connected", took, CONNECT_SECONDS, "s")]
    fleet.host.end()
    fleet.start_host([fleet.node_id(one) for one in fleet.nodes])
    fleet.wait_engine(READY_SECONDS)
    began = time.monotonic()
    fleet.wait_connected(2, 90)
    took = time.monotonic() - began
    return [*bars, reported("a host on another port is found again, after it is ready", took, "s")]


def losses(fleet: Fleet) -> tuple[list[Bar], bool]:
    """Return the longest gap of an answer by what was struck, and whether all texts are equal."""
    prompt, way = load_prompts(1)[0], Way("drafted", 0.7)
    whole = stream(fleet, prompt, way, TOKENS)
    bars = [reported("longest gap, nothing lost", _gap(whole), "s")]
    texts = [whole.text]

    def strike(name: str, blow: Callable[[], object], limit: float = 0.0) -> None:
        struck: list[float] = []

        def fall() -> None:
            blow()
            struck.append(time.monotonic())

        timer = threading.Timer(STRUCK_AFTER_SECONDS, fall)
        timer.start()
        answer = stream(fleet, prompt, way, TOKENS)
        timer.join()
        if not struck or not answer.began < struck[0] < answer.ended:
            raise Unavailable(f"{name}: not while the answer ran; no figure is to be had from it")
        texts.append(answer.text)
        text = f"longest gap, {name}"
        bars.append(
            at_most(text, _gap(answer), limit, "s") if limit else reported(text, _gap(answer), "s")
        )

    workers = [node.child("nexusnode.draft.worker") for node in fleet.nodes]
    strike("draft workers killed", lambda: _kill(workers))
    fleet.wait_connected(2, 60)
    strike("a node stopped", lambda: fleet.nodes[1].signal(signal.SIGSTOP))
    fleet.nodes[1].signal(signal.SIGCONT)
    engine = fleet.host.child("verifier_host.engine.worker")
    strike("engine killed", engine.kill, ENGINE_SECONDS)
    fleet.wait_ready(READY_SECONDS)
    strike("bootstrap peer killed", lambda: fleet.bootstrap.signal(signal.SIGKILL))
    strike("a node killed", lambda: fleet.nodes[0].signal(signal.SIGKILL))
    return bars, len(set(texts)) == 1


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        process.kill()


def _gap(answer: Answer) -> float:
    return max(answer.gaps, default=0.0)


def _until(is_done: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(guarded("recovery", main))
