"""The draft worker as a supervised child: started, watched, restarted, killed for a pause.

What it drafts for is `drafting.py`'s business; that room is told when a worker is ready, and
replays.
"""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol

import trio

from nexusnode.draft.messages import Fault, Load, Loaded, Ping, Pong, Stats
from nexusnode.states import WorkerState
from p2p.errors import ChildError, ModelError, NexusError, ResourceError
from p2p.log import Log
from p2p.process.child import backoff_seconds

START_SECONDS = 60.0
PING_SECONDS = 2.0
SILENCE_SECONDS = 10.0  # a Ping unanswered for so long: the worker hangs
GOOD_SECONDS = 60.0  # of service: earlier deaths are forgotten
BAD_DEATHS = 3  # within GOOD_SECONDS of a start, in a row: the model cannot be used here
MAX_QUEUED = 65_536


class WorkerLink(Protocol):
    """A started worker: `p2p.process.child.Child`, or the twin of the tests."""

    @property
    def pid(self) -> int: ...
    async def receive(self) -> Any: ...
    async def send(self, *messages: object) -> None: ...
    def kill(self) -> None: ...


OpenWorker = Callable[[], AbstractAsyncContextManager[WorkerLink]]


class Owner(Protocol):
    """Who is told. None of these may block."""

    def worker_ready(self, loaded: Loaded) -> None: ...
    def worker_said(self, message: Any) -> None: ...
    def worker_changed(self) -> None: ...
    def worker_short_of_memory(self) -> None: ...


class DraftWorker:
    """Owns the child's life. `allow(False)` kills it within a scheduler turn, `allow(True)` starts
    it."""

    def __init__(self, open_worker: OpenWorker, load: Load, owner: Owner, log: Log) -> None:
        self._open_worker = open_worker
        self._load = load
        self._owner = owner
        self._log = log
        self._allowed = trio.Event()
        self._life = trio.CancelScope()
        self._outbox: deque[object] = deque()
        self._wake = trio.Event()
        self._early_deaths = 0
        self.state = WorkerState.ABSENT
        self.reason = ""  # of the last death
        self.pid: int | None = None
        self.restarts = 0
        self.loaded: Loaded | None = None
        self.stats = Stats(0, 0, 0, 0, 0, 0, 0, 0.0)

    @property
    def is_ready(self) -> bool:
        return self.state in (WorkerState.READY, WorkerState.DRAFTING, WorkerState.SLEEPING)

    @property
    def is_model_bad(self) -> bool:
        """Whether it died so often, or refused the model, that the model is to blame."""
        return self.state is WorkerState.ENDED and self._early_deaths >= BAD_DEATHS

    def allow(self, is_allowed: bool) -> None:
        if is_allowed and not self._allowed.is_set():
            self._early_deaths = 0
            self._allowed.set()
        elif not is_allowed and self._allowed.is_set():
            self._allowed = trio.Event()
            self._life.cancel()

    def relocate(self, path: str) -> None:
        """Load the same model from another place at the next start."""
        self._load = replace(self._load, path=path)

    def send(self, *messages: object) -> None:
        """Queue messages for a worker that is ready; for none that is not: it will be replayed."""
        if not self.is_ready:
            return
        self._outbox.extend(messages)
        self._wake.set()
        if len(self._outbox) > MAX_QUEUED:
            self._life.cancel()  # it reads nothing; the watchdog would say so some seconds later

    def note_drafting(self, has_budget: bool, has_sessions: bool) -> None:
        """Show what it does: sleeping means that sessions are open and none has a budget."""
        if self.is_ready:
            busy = WorkerState.DRAFTING if has_budget else WorkerState.SLEEPING
            self._become(busy if has_sessions else WorkerState.READY)

    async def run(self) -> None:
        """Keep a worker alive while it is allowed, until cancelled."""
        while True:
            while (
                not self._allowed.is_set()
            ):  # again after each wait: a pause may have come with it
                await self._allowed.wait()
            started = trio.current_time()
            failure: NexusError | None = None
            with trio.CancelScope() as self._life:
                failure = await self._live()
            self.pid = None
            self.loaded = None
            self._outbox.clear()
            if not self._allowed.is_set():
                self._become(WorkerState.ABSENT)
                continue
            await self._rest(failure, trio.current_time() - started)

    async def _rest(self, failure: NexusError | None, lived_seconds: float) -> None:
        """Count a death and wait before the next start: the first restart is at once."""
        if lived_seconds >= GOOD_SECONDS:
            self._early_deaths = 0
        self._early_deaths += 1
        if isinstance(failure, ModelError):
            self._early_deaths = max(self._early_deaths, BAD_DEATHS)
        self.restarts += 1
        self.reason = str(failure) if failure is not None else "did not read its messages"
        if isinstance(failure, ResourceError):
            self._owner.worker_short_of_memory()
        self._become(WorkerState.ENDED)
        wait = 0.0 if self._early_deaths == 1 else backoff_seconds(self._early_deaths - 1)
        if self._early_deaths >= BAD_DEATHS:
            wait = max(wait, backoff_seconds(7))
        self._log.warning("worker.ended", reason=self.reason, restart_seconds=wait)
        with trio.CancelScope() as self._life:
            await trio.sleep(wait)

    async def _live(self) -> NexusError | None:
        """Run one worker to its end and return why it ended."""
        self._become(WorkerState.STARTING)
        try:
            async with self._open_worker() as link:
                self.pid = link.pid
                return await self._serve(link)
        except NexusError as error:
            return error

    async def _serve(self, link: WorkerLink) -> NexusError:
        with trio.move_on_after(START_SECONDS) as scope:
            await link.send(self._load)
            loaded = await link.receive()
        if scope.cancelled_caught:
            return ChildError(f"draft worker: not ready within {START_SECONDS:.0f} s; killed")
        if isinstance(loaded, Fault):
            return _of_fault(loaded)
        assert isinstance(loaded, Loaded)
        self.loaded = loaded
        self._log.event("worker.ready", pid=link.pid, device=loaded.device, threads=loaded.threads)
        self._become(WorkerState.READY)
        self._owner.worker_ready(loaded)
        watchdog = _Watchdog()
        ended: list[NexusError] = []
        async with trio.open_nursery() as nursery:

            async def until_end(task: Callable[[], Any]) -> None:
                try:
                    await task()
                except NexusError as error:
                    ended.append(error)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(until_end, lambda: self._read(link, watchdog))
            nursery.start_soon(until_end, lambda: self._write(link))
            nursery.start_soon(until_end, lambda: self._watch(link, watchdog))
        return ended[0]

    async def _read(self, link: WorkerLink, watchdog: "_Watchdog") -> None:
        while True:
            message = await link.receive()
            match message:
                case Pong():
                    watchdog.answered(message.n)
                case Stats():
                    self.stats = message
                case Fault():
                    raise _of_fault(message)
                case _:
                    self._owner.worker_said(message)

    async def _write(self, link: WorkerLink) -> None:
        while True:
            while self._outbox:
                batch = [self._outbox.popleft() for _ in range(min(64, len(self._outbox)))]
                await link.send(*batch)
            self._wake = trio.Event()
            await self._wake.wait()

    async def _watch(self, link: WorkerLink, watchdog: "_Watchdog") -> None:
        while True:
            now = trio.current_time()
            if watchdog.silent_seconds(now) > SILENCE_SECONDS:
                link.kill()
                raise ChildError(f"draft worker: silent for {SILENCE_SECONDS:.0f} s; killed")
            await link.send(Ping(watchdog.asked(now)))
            await trio.sleep(PING_SECONDS)

    def _become(self, state: WorkerState) -> None:
        if state is not self.state:
            self.state = state
            self._owner.worker_changed()


class _Watchdog:
    """Which pings are unanswered, and since when."""

    def __init__(self) -> None:
        self._last = 0
        self._asked: deque[tuple[int, float]] = deque()

    def asked(self, now: float) -> int:
        self._last += 1
        self._asked.append((self._last, now))
        return self._last

    def answered(self, n: int) -> None:
        while self._asked and self._asked[0][0] <= n:
            self._asked.popleft()

    def silent_seconds(self, now: float) -> float:
        return now - self._asked[0][1] if self._asked else 0.0


def _of_fault(fault: Fault) -> NexusError:
    match fault.kind:
        case "model":
            return ModelError(f"draft worker: {fault.text}")
        case "memory":
            return ResourceError(f"draft worker: {fault.text}")
        case _:
            return ChildError(f"draft worker: {fault.kind}: {fault.text}")
