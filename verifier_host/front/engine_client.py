"""The engine worker as the front sees it: started, watched, restarted; its owner replays.

A worker that is silent for `SILENT_SECONDS` is killed: what it held can all be made again.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NoReturn, Protocol

import trio

from p2p.errors import ChildError, ModelError, NexusError, ResourceError
from p2p.log import Log
from p2p.process.child import Child, backoff_seconds, open_child
from verifier_host.messages import (
    FROM_ENGINE,
    TO_ENGINE,
    Admitted,
    Committed,
    Fault,
    Finished,
    Gauge,
    Load,
    Loaded,
    Loading,
    Ping,
    Pong,
    Refused,
    Stop,
)

MODULE = "verifier_host.engine.worker"
PING_SECONDS = 2.0
SILENT_SECONDS = 10.0
LOAD_SILENT_SECONDS = 300.0  # a large model's self-test or a cold disk says nothing for long
HEALTHY_SECONDS = 60.0  # a life longer than this forgets earlier deaths
FIRST_LIVES = 3  # deaths before it was ever loaded: it will not get better
MAX_PENDING = 20_000  # messages an engine has not taken; it reads at once, so it is stuck

Said = Admitted | Committed | Finished | Refused | Gauge


class Listener(Protocol):
    """Who is told of the engine. Called in order, never in the middle of an await."""

    def on_up(self, loaded: Loaded) -> None:
        """A worker is ready and knows nothing: replay."""

    def on_down(self) -> None:
        """The worker is gone, and what it knew."""

    def on_said(self, message: Said) -> None: ...


class Engine(Protocol):
    """An engine as who uses it sees it."""

    @property
    def loaded(self) -> Loaded | None:
        """What the worker that runs now has loaded; None = there is none yet, or none any more."""

    @property
    def is_alive(self) -> bool:
        """Whether a loaded worker was heard of lately."""

    def send(self, message: object) -> None:
        """Queue a message; without a worker it is dropped: the next one is replayed to."""


class EngineClient:
    """Keeps one engine worker alive while `run` runs."""

    def __init__(self, load: Load, log: Log, module: str = MODULE) -> None:
        self._load = load
        self._log = log
        self._module = module
        self._pending: list[object] = []
        self._ready = trio.Event()
        self._heard_at = 0.0
        self._loaded: Loaded | None = None
        self.pid: int | None = None
        self.restarts = 0

    @property
    def loaded(self) -> Loaded | None:
        return self._loaded

    @property
    def is_alive(self) -> bool:
        return self._loaded is not None and trio.current_time() - self._heard_at < SILENT_SECONDS

    def send(self, message: object) -> None:
        if self._loaded is not None:
            self._pending.append(message)
            self._ready.set()

    async def run(self, listener: Listener) -> NoReturn:
        """Start the worker, again whenever it ends, until cancelled.

        Raises:
            ModelError, ResourceError: the target cannot be served at all.
            ChildError: the worker has died `FIRST_LIVES` times without ever being loaded.
        """
        deaths, was_loaded = 0, False
        while True:
            born = trio.current_time()
            error = await self._live(listener)
            was_loaded = was_loaded or self._loaded is not None
            self._end_life(listener)
            if trio.current_time() - born > HEALTHY_SECONDS:
                deaths = 0
            deaths += 1
            if not was_loaded and (not isinstance(error, ChildError) or deaths >= FIRST_LIVES):
                raise error
            self.restarts += 1
            pause = backoff_seconds(deaths)
            self._log.warning("engine.down", reason=str(error), restart_seconds=pause)
            await trio.sleep(pause)

    async def _live(self, listener: Listener) -> NexusError:
        """Run one worker to its end and return why it ended."""
        ended: list[NexusError] = []

        async def until_error(task: Callable[[], Awaitable[NoReturn]]) -> None:
            try:
                await task()
            except NexusError as error:
                ended.append(error)
                nursery.cancel_scope.cancel()

        try:
            async with open_child(
                self._module,
                FROM_ENGINE,
                TO_ENGINE,
                role="engine",
                stop=Stop(),
            ) as child:
                self.pid = child.pid
                self._heard_at = trio.current_time()
                await child.send(self._load)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(until_error, partial(self._read, child, listener))
                    nursery.start_soon(until_error, partial(self._write, child))
                    nursery.start_soon(until_error, partial(self._watch, child))
        except NexusError as error:
            ended.append(error)
        return ended[0]

    async def _read(self, child: Child, listener: Listener) -> NoReturn:
        while True:
            message = await child.receive()
            self._heard_at = trio.current_time()
            match message:
                case Loading(done, what):
                    self._log.event("engine.loading", done=round(done, 2), what=what)
                case Loaded():
                    self._loaded = message
                    self._log.event(
                        "engine.loaded",
                        seconds=round(message.load_seconds, 1),
                        exact=message.exact,
                        slots=message.slots,
                        fingerprint=message.fingerprint,
                    )
                    listener.on_up(message)
                case Fault(code, text):
                    raise _FAULTS.get(code, ChildError)(text)
                case Pong():
                    pass
                case _:
                    listener.on_said(message)

    async def _write(self, child: Child) -> NoReturn:
        while True:
            await self._ready.wait()
            self._ready = trio.Event()
            messages, self._pending = self._pending, []
            await child.send(*messages)

    async def _watch(self, child: Child) -> NoReturn:
        """Kill a worker that says nothing: its reader then sees the end."""
        count = 0
        while True:
            await trio.sleep(PING_SECONDS)
            limit = LOAD_SILENT_SECONDS if self._loaded is None else SILENT_SECONDS
            if trio.current_time() - self._heard_at > limit or len(self._pending) > MAX_PENDING:
                self._log.warning("engine.silent", seconds=limit)
                child.kill()
            count += 1
            self.send(Ping(count))

    def _end_life(self, listener: Listener) -> None:
        was_up = self._loaded is not None
        self._loaded = self.pid = None
        self._pending = []
        self._ready = trio.Event()
        if was_up:
            listener.on_down()


_FAULTS: dict[str, type[NexusError]] = {"model": ModelError, "resource": ResourceError}
