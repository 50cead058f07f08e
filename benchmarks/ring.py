"""How long a commit takes to the first guess behind it, by stage: `python -m benchmarks.ring`.

Real processes on loopback: the host's front, a bootstrap peer, a node's daemon and its draft worker
with the bundled draft. Only the engine is scripted, so that every commit is a token nobody guessed;
the machine has no target's step to share its cores with. The bar: a median of at most three draft
steps.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import trio

from benchmarks.fleet import Fleet
from benchmarks.stamps import FOLDER, Stamps, TimedTransport
from p2p.errors import Unavailable
from p2p.log import quiet_log
from p2p.network.peer import Libp2pTransport
from p2p.wire.messages import CloseReason
from verifier_host.front.drafters import Drafters
from verifier_host.front.engine_client import EngineClient, Said
from verifier_host.front.hosting import Hosting, served
from verifier_host.front.metrics import HostMetrics
from verifier_host.front.vocabulary import load_vocabulary
from verifier_host.messages import Committed, Guesses, Load, Loaded, Sampling, Start
from verifier_host.targets import find_target

BAR_STEPS = 3.0
READY_SECONDS = 120.0
SEED = b"ring".ljust(32)
TEXT = "The lighthouse keeper climbs the stairs each evening and lights the lamp for the ships."

START = "engine-says"
STEP = "worker: decode and guesses"

# Each stage ends with a stamp; its name says what lies between that and the one before.
STAGES = (
    ("front-hears", "engine pipe"),
    ("front-sends", "front: commit to signed frame"),
    ("node-receives", "libp2p to the node"),
    ("node-passes", "daemon: frame to worker message"),
    ("worker-hears", "worker pipe, and the decode under way"),
    ("worker-says", STEP),
    ("node-hears", "worker pipe back"),
    ("node-sends", "daemon: guesses to signed frame"),
    ("front-receives", "libp2p to the host"),
    ("front-passes", "front: frame to engine message"),
    ("engine-hears", "engine pipe back"),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Milliseconds of one stage over all commits."""

    name: str
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class Ring:
    """The whole way in milliseconds, and one step of the draft under the same load."""

    commits: int
    step: float
    median: float
    p90: float
    stages: list[Stage]

    @property
    def steps(self) -> float:
        return self.median / self.step


@dataclass(slots=True)
class Session:
    """A session as `Drafters` need it; one that never ends."""

    tokens: list[int]
    number: int = 1
    key: bytes = bytes(8)
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    left: int = 4000

    def text(self) -> list[int]:
        return self.tokens


class Front:
    """The host's parts between engine and network, with stamps."""

    def __init__(self, engine: EngineClient, stamps: Stamps) -> None:
        self._engine = engine
        self._stamps = stamps
        self.is_up = trio.Event()
        self.drafters = Drafters(self._pass_on)

    def on_up(self, loaded: Loaded) -> None:
        self.is_up.set()

    def on_down(self) -> None:
        raise Unavailable("the benchmark's engine ended early")

    def on_said(self, message: Said) -> None:
        if isinstance(message, Committed):
            self._stamps.at("front-hears", message.pos + len(message.tokens))
            self.drafters.commit(1, message.pos, message.tokens, message.credits)

    def _pass_on(self, message: object) -> None:
        if isinstance(message, Guesses):
            self._stamps.at("front-passes", message.pos)
        self._engine.send(message)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ring", description=__doc__)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there, too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nexus-ring-") as folder:
        os.environ[FOLDER] = folder
        with Fleet(Path(folder) / "fleet", nodes=0) as fleet:
            fleet.start_bootstrap()
            trio.run(drive_ring, fleet, asked.commits)
        ring = read_ring(Path(folder))
    print(table(ring))
    if asked.json:
        asked.json.write_text(json.dumps(asdict(ring) | {"steps": ring.steps}, indent=1))


async def drive_ring(fleet: Fleet, commits: int) -> None:
    """Run host and node until the engine has made its commits."""
    stamps = Stamps("front")
    log = quiet_log("ring")
    target = find_target("bundled", "")
    vocabulary = load_vocabulary(target)
    engine = EngineClient(
        Load(str(commits), "ring", "fp32", 1, 0, 8192, 64, False), log, "benchmarks.ring_engine"
    )
    front = Front(engine, stamps)
    inner = Libp2pTransport(
        SEED, listen=["/ip4/127.0.0.1/tcp/0"], bootstrap=[fleet.bootstrap_address], server=True
    )
    hosting = Hosting(
        SEED,
        TimedTransport(inner, stamps, "front"),
        front.drafters,
        served(target, "ring", vocabulary),
        HostMetrics("ring"),
        log,
        allowed=None,
        max_nodes=1,
        max_nodes_per_address=8,
    )
    node = [sys.executable, "-m", "benchmarks.ring_node", str(fleet.folder / "node")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run, front)
        nursery.start_soon(hosting.run)
        nursery.start_soon(lambda: trio.run_process([*node, fleet.bootstrap_address], check=False))
        with trio.fail_after(READY_SECONDS):
            await front.is_up.wait()
            while not front.drafters.count:
                await trio.sleep(0.05)
        session = Session(list(vocabulary.tokenizer.encode(TEXT).ids))
        front.drafters.open(session, trio.current_time())
        engine.send(Start(1, tuple(session.tokens), (), bytes(8), session.sampling, 4000, b""))
        with trio.fail_after(READY_SECONDS + commits):
            while "engine-ends" not in (Path(os.environ[FOLDER]) / "engine").read_text():
                await trio.sleep(0.2)
        front.drafters.close(1, CloseReason.FINISHED)
        nursery.cancel_scope.cancel()


def read_ring(folder: Path) -> Ring:
    """Put the stamps of all processes together, commit by commit."""
    stamps: dict[str, list[tuple[int, int]]] = {}
    for role in ("engine", "front", "node", "worker"):
        for line in (folder / role).read_text().splitlines():
            moment, name, of = line.split()
            stamps.setdefault(name, []).append((int(moment), int(of)))
    spans: list[list[float]] = []
    for began, length in stamps[START]:
        times = [began]
        for name, _ in STAGES:
            times.append(_first(stamps[name], times[-1], length))
        spans.append([(after - at) / 1e6 for at, after in pairwise(times)])
    wholes = [sum(span) for span in spans]
    stages = [
        Stage(title, *_middle_and_p90([span[place] for span in spans]))
        for place, (_, title) in enumerate(STAGES)
    ]
    step = next(stage.median for stage in stages if stage.name == STEP)
    return Ring(len(spans), step, *_middle_and_p90(wholes), stages)


def table(ring: Ring) -> str:
    lines = [f"{'stage':40} {'median ms':>9} {'p90 ms':>8}"]
    whole = Stage("commit to first guess behind it", ring.median, ring.p90)
    lines += [f"{s.name:40} {s.median:9.2f} {s.p90:8.2f}" for s in (*ring.stages, whole)]
    verdict = "within" if ring.steps <= BAR_STEPS else "beyond"
    lines.append(
        f"{ring.commits} commits; draft step {ring.step:.2f} ms; median {ring.steps:.2f} steps,"
        f" {verdict} the bar of {BAR_STEPS:g}"
    )
    return "\n".join(lines)


def _first(stamps: list[tuple[int, int]], after: int, length: int) -> int:
    """Return the first stamp not before `after` that is of the text of `length`, or of none."""
    return next(at for at, of in stamps if at >= after and of in (0, length))


def _middle_and_p90(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=10)[-1]


if __name__ == "__main__":
    main()
