"""A node without processes or wires: the draft worker's loop as a task, a host in memory."""

import random
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from nexusnode.daemon.contributor import Contributor, Profile
from nexusnode.daemon.drafting import Drafting
from nexusnode.daemon.hosts import Hosts
from nexusnode.daemon.known import KnownHosts
from nexusnode.daemon.learnt import Learnt
from nexusnode.daemon.worker import DraftWorker
from nexusnode.draft.drafter import Drafter
from nexusnode.draft.fake import FakeEngine
from nexusnode.draft.messages import Fault, Load, Loaded, Ping, Pong
from nexusnode.policy.facts import Limits, Moment
from p2p.drafting.conversation import Parted
from p2p.drafting.host_end import Declined, Greeted, Guessed, HostEnd, HostTerms
from p2p.errors import ChildError, NexusError
from p2p.log import Log, quiet_log
from p2p.network.discovery import Description, Found, discover, publish
from p2p.network.memory import MemoryNetwork, MemoryTransport
from p2p.network.stream import Outbox, drive
from p2p.network.transport import Link
from p2p.wire.fingerprint import Entry, ladder, tok_fp
from p2p.wire.identity import Identity
from p2p.wire.messages import CloseReason, DraftOffer, Sampler
from p2p.wire.record import Policy, Service

VOCABULARY: list[Entry] = [(0, f"token {number}".encode()) for number in range(512)]
GREEDY = Sampler(0, 0, 1000, 0)
LOAD = Load("/model.gguf", "", "cpu", 1, 4, 256)
NOWHERE = Path(tempfile.gettempdir()) / "nowhere"  # of a folder that nothing is written to
TURN_SECONDS = 0.004
STEP_SECONDS = 0.05


class FakeWorker:
    """One started worker: `nexusnode.draft.drafter` on the fake engine, in a task."""

    def __init__(self, pid: int, engine: FakeEngine, fault: Fault | None) -> None:
        self.pid = pid
        self.engine = engine
        self.fault = fault
        self.inbox: list[Any] = []
        self.heard: list[Any] = []
        self.is_hanging = False
        self._arrived = trio.Event()
        self._ended: str | None = None
        self._send, self._receive = trio.open_memory_channel[Any](10_000)
        self._drafter = Drafter(engine)

    def kill(self) -> None:
        self.die("was ended by SIGKILL")

    def die(self, how: str) -> None:
        self._ended = how
        self._send.close()

    async def send(self, *messages: object) -> None:
        await trio.lowlevel.checkpoint()
        if self._ended is not None:
            raise ChildError(f"draft worker {self._ended}")
        self.inbox += messages
        self.heard += messages
        self._arrived.set()

    async def receive(self) -> Any:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise ChildError(f"draft worker {self._ended}") from None

    def say_learnt(self) -> None:
        """Say what was learnt, as the real one does by its clock."""
        for message in self._drafter.learnt():
            self._send.send_nowait(message)

    async def run(self) -> None:
        drafter = self._drafter
        while self._ended is None:
            await trio.sleep(TURN_SECONDS)
            if not self.inbox and drafter.is_asleep:
                self._arrived = trio.Event()
                await self._arrived.wait()
            if self.is_hanging:
                await trio.sleep_forever()
            inbox, self.inbox = self.inbox, []
            for message in inbox:
                self._apply(drafter, message)
            if self._ended is None:
                for reply in drafter.turn():
                    self._send.send_nowait(reply)

    def _apply(self, drafter: Drafter, message: Any) -> None:
        match message:
            case Load() if self.fault is not None:
                self._send.send_nowait(self.fault)
                self.die("ended with status 4")
            case Load():
                limits = self.engine.limits
                self._send.send_nowait(
                    Loaded(512, limits.context, limits.streams, "streams", (0.004,), 0, "cpu", 1)
                )
            case Ping():
                self._send.send_nowait(Pong(message.n))
            case _:
                for reply in drafter.handle(message):
                    self._send.send_nowait(reply)


class FakeWorkers:
    """Starts workers one after the other; `faults` are what the next ones answer to Load."""

    def __init__(self) -> None:
        self.started: list[FakeWorker] = []
        self.running: FakeWorker | None = None
        self.faults: list[Fault] = []
        self.do_next_hang = False
        self.agreement = 1.0
        self.ended = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeWorker]:
        fault = self.faults.pop(0) if self.faults else None
        engine = FakeEngine(agreement=self.agreement)
        worker = FakeWorker(1000 + len(self.started), engine, fault)
        worker.is_hanging, self.do_next_hang = self.do_next_hang, False
        self.started.append(worker)
        self.running = worker
        failure: NexusError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            try:
                yield worker
            except NexusError as error:
                failure = error
            finally:
                self.running = None
                self.ended += 1
                worker.die("was ended")
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


class FakeHost:
    """A host whose target is the fake engine's truth, at temperature 0; a step takes 50 ms."""

    def __init__(self, network: MemoryNetwork, seed: bytes, entries: list[Entry]) -> None:
        self.identity = Identity(seed)
        self.transport: MemoryTransport = network.transport(seed)
        self.seed = seed
        self.entries = entries
        self.invited = True
        self.others: tuple[bytes, ...] = ()
        self.target = FakeEngine()
        self.events: list[Any] = []
        self.end: HostEnd | None = None
        self.outbox = Outbox()
        self.greeted = trio.Event()
        self.streams = 0
        self.texts: dict[int, list[int]] = {}
        self.prompts: dict[int, int] = {}
        self.guessed: dict[int, dict[tuple[int, ...], int]] = {}
        self.by_id: dict[int, dict[int, tuple[int, ...]]] = {}
        self.last_sid = 0
        self.credited = 0
        self.transport.serve(self.serve)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.transport.run)
            nursery.start_soon(publish, self.transport.directory, self.identity, self.describe)

    def describe(self) -> Description:
        service = Service(tok_fp(VOCABULARY), bytes(32), "fake", Policy.OPEN, 8)
        return Description(tuple(self.transport.addresses()), (service,))

    async def serve(self, link: Link) -> None:
        entries = self.entries
        terms = HostTerms(
            tok_fp(entries),
            bytes(32),
            ladder(entries),
            entries,
            4,
            invited=self.invited,
            others=self.others,
        )
        self.streams += 1
        self.end = HostEnd(self.seed, link.peer.public, terms, bytes(32), trio.current_time())
        self.outbox = Outbox()
        try:
            await drive(link, self.end, self._deliver, self.outbox)
        except NexusError as error:
            self.events.append(error)
        finally:
            self.end = None
            self.texts.clear()
            self.greeted = trio.Event()

    def open(self, prompt: list[int], max_new: int = 200, rows: int = 16, ahead: int = 16) -> int:
        assert self.end is not None
        self.last_sid += 1
        sid = self.last_sid
        self.texts[sid] = list(prompt)
        self.prompts[sid] = len(prompt)
        self.guessed[sid], self.by_id[sid] = {}, {}
        self.end.open(sid, b"\1" * 8, GREEDY, prompt, max_new, rows, ahead)
        self.outbox.wake()
        return sid

    def step(self, sid: int, rows: int = 16) -> int:
        """Commit what the target says after the text: one token, and what was guessed right."""
        assert self.end is not None
        text = self.texts[sid]
        start = len(text)
        tokens: list[int] = []
        while True:
            tokens.append(self.target.truth(text))
            text.append(tokens[-1])
            if tuple(text) not in self.guessed[sid] or len(tokens) > 16:
                break
        self.credited += len(tokens) - 1
        tip = self.guessed[sid].get(tuple(text), 0)
        self.end.budget(sid, rows, 16)
        self.end.commit(sid, start, tokens, tip, len(tokens) - 1)
        self.outbox.wake()
        return len(tokens)

    async def generate(self, sid: int, steps: int) -> int:
        """Step for a while; return how many tokens it gave."""
        count = 0
        for _ in range(steps):
            await trio.sleep(STEP_SECONDS)
            if sid in self.texts:
                count += self.step(sid)
        return count

    def close(self, sid: int, reason: CloseReason = CloseReason.FINISHED) -> None:
        assert self.end is not None
        self.end.close(sid, reason)
        self.outbox.wake()

    def _deliver(self, events: list[Any]) -> None:
        for event in events:
            self.events.append(event)
            match event:
                case Greeted():
                    self.greeted.set()
                case Guessed() if event.sid in self.texts:
                    self._take(event)
                case Declined():
                    self.texts.pop(event.sid, None)
                case Parted():
                    self.texts.clear()

    def _take(self, event: Guessed) -> None:
        sid, block = event.sid, event.block
        known = self.by_id[sid]
        for place, (parent, token) in enumerate(zip(block.parents, block.tokens, strict=True)):
            before = tuple(self.texts[sid][: block.pos]) if parent == 0 else known[parent]
            known[block.first + place] = (*before, token)
            self.guessed[sid].setdefault((*before, token), block.first + place)


@dataclass
class FakeClock:
    """Boot and wall time that follow trio's, with a wall clock that can be set."""

    unix_offset: float = 1_700_000_000.0

    def __call__(self) -> Moment:
        now = trio.current_time()
        return Moment(now, now + self.unix_offset)


@dataclass
class Node:
    """The daemon's parts, wired as `nexusnode.daemon.main` wires them."""

    contributor: Contributor
    worker: DraftWorker
    drafting: Drafting
    hosts: Hosts
    workers: FakeWorkers
    transport: MemoryTransport
    log: Log
    clock: FakeClock = field(default_factory=FakeClock)


@asynccontextmanager
async def run_fake_node(
    network: MemoryNetwork,
    workers: FakeWorkers,
    *,
    seed: bytes = b"n" * 32,
    always: bool = True,
    allowed: tuple[str, ...] = (),
    log: Log | None = None,
    known: KnownHosts | None = None,
) -> AsyncIterator[Node]:
    log = log or quiet_log()
    known = known or KnownHosts(Path("/nowhere"), log)
    clock = FakeClock()
    transport = network.transport(seed)
    draft = DraftOffer(tok_fp(VOCABULARY), "fake", len(VOCABULARY), ladder(VOCABULARY))
    profile = Profile(str(transport.me), "test", "fake", "/model.gguf", draft)
    contributor = Contributor(profile, Limits(always), clock, log)
    worker = DraftWorker(workers.open, LOAD, contributor, log)
    drafting = Drafting(worker.send, Learnt(NOWHERE, "d" * 64, log))
    hosts = Hosts(
        transport,
        seed,
        drafting,
        allowed,
        lambda: VOCABULARY,
        random.Random(3),
        contributor.changed,
        lambda: clock().unix_seconds,
        log,
        known.keep,
    )
    for signed in known.read(draft.tok_fp):
        hosts.found(signed.record, signed.value)
    contributor.begin(worker, hosts, drafting)

    def report(found: Found) -> None:
        hosts.found(found.record, found.value)

    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        nursery.start_soon(hosts.run)
        nursery.start_soon(worker.run)
        nursery.start_soon(contributor.run)
        nursery.start_soon(
            partial(
                discover,
                transport.directory,
                (draft.tok_fp,),
                report,
                has_host=lambda: hosts.served > 0,
            )
        )
        yield Node(contributor, worker, drafting, hosts, workers, transport, log, clock)
        nursery.cancel_scope.cancel()


async def until(is_true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait, in virtual time, until something holds."""
    with trio.fail_after(seconds):
        while not is_true():
            await trio.sleep(0.01)


@pytest.fixture
def fake_node() -> Any:
    """`async with fake_node(network, workers, …) as node`."""
    return run_fake_node


@pytest.fixture
def workers() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def make_host() -> Any:
    def make(
        network: MemoryNetwork, seed: bytes = b"h" * 32, entries: list[Entry] | None = None
    ) -> FakeHost:
        return FakeHost(network, seed, entries or VOCABULARY)

    return make


@pytest.fixture
def wait_until() -> Any:
    return until
