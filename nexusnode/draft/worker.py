"""The draft worker: a child process that loads one model and drafts for all sessions of the daemon.

Its loop: apply everything that has arrived, decode once, say what grew. It holds nothing that the
daemon cannot replay, and is ended by SIGKILL at any moment.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psutil

from nexusnode.draft.calibration import Cell
from nexusnode.draft.drafter import Drafter
from nexusnode.draft.engine import DraftEngine, EngineLost
from nexusnode.draft.launch import DEFAULT_NICE, NICE_VARIABLE, default_threads
from nexusnode.draft.messages import (
    FROM_WORKER,
    TO_WORKER,
    Fault,
    Load,
    Loaded,
    Pace,
    Ping,
    Pong,
    Stats,
    Stop,
)
from p2p.errors import ModelError, ResourceError
from p2p.process.pipe import EXIT_FAULT, EXIT_MODEL, EXIT_STOP, leave, open_pipe

STATS_SECONDS = 1.0
LEARNT_SECONDS = 60.0
FIRST_LEARNT_SECONDS = 10.0  # after the first session: a pause may come before a minute is over
OOM_SCORE = 800  # the kernel takes this process before anything of its owner's
MAX_TEXT = 1000  # of a Fault


class Link(Protocol):
    """The worker's end of its pipe (`p2p.process.pipe.Pipe`)."""

    def receive(self, timeout_seconds: float | None = None) -> Any: ...
    def drain(self) -> list[Any]: ...
    def send(self, *messages: object) -> None: ...


class Worker:
    """The loop between pipe and engine."""

    def __init__(
        self,
        link: Link,
        open_engine: Callable[[Load], DraftEngine],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._open_engine = open_engine
        self._clock = clock
        self._duty = 1.0
        self._busy_seconds = 0.0
        self._stats_at = clock()
        self._learnt_at: float | None = None  # when it is due; None = no session yet
        self._is_stopping = False

    def run(self) -> int:
        """Serve until Stop or a fault; return the exit status."""
        load = self._link.receive()
        if not isinstance(load, Load):
            return EXIT_STOP if isinstance(load, Stop) else EXIT_FAULT
        try:
            engine = self._open_engine(load)
            drafter = Drafter(engine, read_prior(Path(load.path)))
        except ModelError as error:
            return self._fault("model", error, EXIT_MODEL)
        except ResourceError as error:
            return self._fault("memory", error, EXIT_FAULT)
        self._link.send(loaded(load, engine))
        try:
            self._serve(drafter)
        except EngineLost as error:
            return self._fault(error.kind, error, EXIT_FAULT)
        return EXIT_STOP

    def _serve(self, drafter: Drafter) -> None:
        while True:
            for message in self._link.drain():
                self._apply(drafter, message)
            if self._is_stopping:
                return
            start, decodes = self._clock(), drafter.counts.decodes
            replies = drafter.turn()
            spent = self._clock() - start
            self._busy_seconds += spent
            if replies:
                self._link.send(*replies)
            self._report(drafter)
            if drafter.counts.decodes == decodes and not replies:
                self._wait(drafter)
            elif self._duty < 1.0:
                self._rest(drafter, spent * (1.0 / self._duty - 1.0))

    def _apply(self, drafter: Drafter, message: object) -> None:
        match message:
            case Stop():
                self._is_stopping = True
            case Ping(n=n):
                self._link.send(Pong(n))
            case Pace(duty=duty):
                self._duty = duty
            case _:
                replies = drafter.handle(message)
                if replies:
                    self._link.send(*replies)

    def _wait(self, drafter: Drafter) -> None:
        """Nothing to decode: sleep until a message comes, or until the next report is due."""
        due = None if drafter.is_asleep else max(0.0, self._stats_at - self._clock())
        message = self._link.receive(due)
        if message is not None:
            self._apply(drafter, message)

    def _rest(self, drafter: Drafter, seconds: float) -> None:
        """Keep to the duty cycle; messages are applied meanwhile."""
        until = self._clock() + seconds
        while not self._is_stopping and (left := until - self._clock()) > 0:
            message = self._link.receive(left)
            if message is not None:
                self._apply(drafter, message)

    def _report(self, drafter: Drafter) -> None:
        now = self._clock()
        if now < self._stats_at or not drafter.sessions:
            return
        elapsed = now - self._stats_at + STATS_SECONDS
        counts = drafter.counts
        self._link.send(
            Stats(
                sessions=drafter.sessions,
                drafted=counts.drafted,
                decodes=counts.decodes,
                rows=counts.rows,
                prompt=counts.prompt,
                hits=counts.hits,
                rss_bytes=psutil.Process().memory_info().rss,
                busy=min(1.0, self._busy_seconds / elapsed),
            )
        )
        self._busy_seconds = 0.0
        self._stats_at = now + STATS_SECONDS
        if self._learnt_at is None:
            self._learnt_at = now + FIRST_LEARNT_SECONDS
        elif now >= self._learnt_at:
            self._learnt_at = now + LEARNT_SECONDS
            learnt = drafter.learnt()
            if learnt:
                self._link.send(*learnt)

    def _fault(self, kind: str, error: Exception, status: int) -> int:
        self._link.send(Fault(kind, str(error)[:MAX_TEXT]))
        return status


def loaded(load: Load, engine: DraftEngine) -> Loaded:
    """Return what the daemon is told of an engine that is ready."""
    limits = engine.limits
    return Loaded(
        vocabulary=limits.vocabulary,
        context=limits.context,
        sessions=limits.streams,
        layout="streams",
        costs=limits.costs,
        memory_bytes=engine.memory_bytes,
        device=load.device,
        threads=load.threads or default_threads(),
    )


def read_prior(model: Path) -> dict[Cell, float]:
    """Return the measured prior that lies beside a model, `NAME.prior.json`; {} if none does.

    Raises:
        ModelError: it lies there and is not a table of [rank, margin, band, source, chance].
    """
    path = model.with_suffix(".prior.json")
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text("utf-8"))["chances"]
        prior = {Cell(*map(int, row[:4])): float(row[4]) for row in rows}
        if not all(0.0 <= chance <= 1.0 for chance in prior.values()):
            raise ValueError("a chance outside 0 to 1")
        return prior
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(f"{path}: not a table of p̂: {error}; delete it") from error


def yield_to_others() -> None:
    """Give way to everything else on the machine, for processor time and for memory."""
    if sys.platform == "win32":
        psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)
        return
    os.nice(int(os.environ.get(NICE_VARIABLE, DEFAULT_NICE)))
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(str(OOM_SCORE))


def open_engine(load: Load) -> DraftEngine:
    """Open the model with llama.cpp. The import is here: it takes 0.8 s and 41 MB."""
    from nexusnode.draft.llama import open_llama

    return open_llama(
        load.path,
        sessions=load.sessions,
        context=load.context,
        threads=load.threads,
        device=load.device,
        is_known=bool(load.sha256),
    )


def main() -> None:
    """Run the child. PR_SET_PDEATHSIG is not used: it follows the *thread* that started us, and
    trio starts processes from a pool whose threads end after 10 s; the pipe's reader sees a dead
    parent as soon."""
    pipe = open_pipe(TO_WORKER, FROM_WORKER)
    yield_to_others()
    leave(Worker(pipe, open_engine).run())


if __name__ == "__main__":
    main()
