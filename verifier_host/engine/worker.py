"""The engine child: drain the pipe, plan, compute, commit, and say so; one step after another.

It owns the clock and the pipe and decides nothing: `scheduling/` plans, the target computes.
"""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import psutil

from p2p.errors import NexusError
from p2p.process.pipe import EXIT_MODEL, EXIT_STOP, Pipe, leave, open_pipe
from verifier_host.messages import (
    FROM_ENGINE,
    TO_ENGINE,
    Cancel,
    Fault,
    Guesses,
    Leave,
    Load,
    Loaded,
    Loading,
    Ping,
    Pong,
    Start,
    Stop,
)
from verifier_host.scheduling.rows import Chosen, Int32, Rows
from verifier_host.scheduling.scheduler import Hold, Idle, Scheduler, Step

GAUGE_SECONDS = 0.1
PROGRESS_SECONDS = 0.2  # between two `Loading`

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Spec:
    """What the scheduler must know of a model."""

    end_ids: tuple[int, ...]
    vocabulary: int
    max_context: int


class TargetSpec(Protocol):
    """`Spec`, as a larger description of a model has it too."""

    @property
    def end_ids(self) -> tuple[int, ...]: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def max_context(self) -> int: ...


class Target(Protocol):
    """A model with its KV pool. `forward` and `settle` run on the loop's thread alone."""

    @property
    def spec(self) -> TargetSpec: ...
    @property
    def slots(self) -> int: ...
    @property
    def exact(self) -> bool: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def kernels(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def trial(self) -> Sequence[tuple[int, float]]:
        """(rows, seconds) of steps measured at load, rows rising from 1."""
        ...

    def forward(self, rows: Rows) -> Chosen:
        """Compute one step; what it wants to know is on this side when it returns."""
        ...

    def settle(self, source: Int32, destination: Int32) -> None:
        """Copy keys and values from slot to slot, all read before any is written."""
        ...


def run(open_target: Callable[[Load, Progress], Target]) -> NoReturn:
    """Be an engine child until the parent says `Stop`, closes the pipe, or the model fails."""
    pipe = open_pipe(TO_ENGINE, FROM_ENGINE)
    load = pipe.receive()
    assert isinstance(load, Load), f"expected Load first, got {type(load).__name__}"
    began = time.monotonic()
    try:
        target = open_target(load, _reporter(pipe))
    except NexusError as error:
        pipe.send(Fault(error.code, str(error)[:4096]))
        leave(EXIT_MODEL)
    # What a model and its libraries allocate stays: a full collection over it would pause a step.
    gc.collect()
    gc.freeze()
    spec = target.spec
    scheduler = Scheduler(
        target.slots,
        min(spec.max_context, load.max_context or spec.max_context),
        load.max_rows,
        spec.vocabulary,
        spec.end_ids,
        load.ngram,
        target.trial,
        load.drafts_always,
    )
    pipe.send(
        Loaded(
            exact=target.exact,
            fingerprint=target.fingerprint,
            slots=target.slots,
            context=scheduler.context,
            vocabulary=spec.vocabulary,
            end_ids=spec.end_ids,
            load_seconds=time.monotonic() - began,
            kernels=target.kernels,
            memory_bytes=target.memory_bytes,
        )
    )
    Worker(pipe, target, scheduler, load.debug).serve()


class Worker:
    """The loop of one loaded engine."""

    def __init__(self, pipe: Pipe, target: Target, scheduler: Scheduler, is_checked: bool) -> None:
        self._pipe = pipe
        self._target = target
        self._scheduler = scheduler
        self._is_checked = is_checked
        self._gauge_due = 0.0
        self._is_quiet = False  # the last gauge tells of an engine at rest

    def serve(self) -> NoReturn:
        """Step while there is work; rest on the pipe while there is none."""
        while True:
            for message in self._pipe.drain():
                self._take(message)
            match self._scheduler.plan(time.monotonic()):
                case Step() as step:
                    self._step(step)
                case Hold(until):
                    self._take(self._pipe.receive(max(0.0, until - time.monotonic())))
                case Idle():
                    self._rest()

    def _step(self, step: Step) -> None:
        self._is_quiet = False
        began = time.monotonic()
        if len(step.copies.source):
            self._target.settle(step.copies.source, step.copies.destination)
        chosen = self._target.forward(step.rows)
        now = time.monotonic()
        outcome = self._scheduler.apply(chosen, now - began, now)
        said: list[object] = list(outcome.said)
        if now >= self._gauge_due or self._scheduler.has_news:
            self._gauge_due = now + GAUGE_SECONDS
            said.append(self._scheduler.gauge(_rss_bytes()))
        if said:
            self._pipe.send(*said)
        # Commits travel while the accepted keys move to their columns.
        if len(outcome.copies.source):
            self._target.settle(outcome.copies.source, outcome.copies.destination)
        if self._is_checked:
            self._scheduler.check()

    def _rest(self) -> None:
        if not self._is_quiet:
            self._is_quiet = True
            self._pipe.send(self._scheduler.gauge(_rss_bytes()))
        self._take(self._pipe.receive())

    def _take(self, message: object) -> None:
        match message:
            case Start():
                if said := self._scheduler.start(message):
                    self._pipe.send(*said)
            case Guesses():
                self._scheduler.guesses(message, time.monotonic())
            case Leave():
                self._scheduler.leave(message)
            case Cancel(session):
                self._is_quiet = False
                self._scheduler.cancel(session)
            case Ping(n):
                self._pipe.send(Pong(n))
            case Stop():
                leave(EXIT_STOP)
            case None:
                pass
            case _:
                raise AssertionError(f"{type(message).__name__} comes once, and first")


def _reporter(pipe: Pipe) -> Progress:
    due = 0.0

    def report(done: float, what: str) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + PROGRESS_SECONDS
            pipe.send(Loading(min(1.0, max(0.0, done)), what))

    return report


def _rss_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def main() -> NoReturn:
    """Run the engine on the model that the parent names."""
    # Not at the top: the double's process must never import torch.
    from verifier_host.engine.target import open_target

    run(open_target)


if __name__ == "__main__":
    sys.exit(main())
