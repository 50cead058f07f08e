"""A front without processes or wires: the fake engine in this task, nodes a call away."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from p2p.drafting.host_end import Declined, Greeted, Guessed, HostEnd, HostTerms
from p2p.drafting.node_end import NodeEnd, NodeOffer
from p2p.wire.fingerprint import Entry, ladder, tok_fp, token_entry
from p2p.wire.identity import Identity
from p2p.wire.messages import DraftOffer, TokenKind
from verifier_host.engine.fake import END_ID, FakeSettings, FakeTarget
from verifier_host.front.drafters import Drafters
from verifier_host.front.generations import Generations
from verifier_host.front.metrics import HostMetrics
from verifier_host.front.text import Text
from verifier_host.front.vocabulary import Vocabulary
from verifier_host.messages import Cancel, Guesses, Leave, Loaded, Ping, Start
from verifier_host.scheduling.scheduler import Hold, Scheduler, Step

TOKENS = 9_000  # the fake says 1,000 to 8,999
HOST_SEED = b"h" * 32


def make_vocabulary() -> Vocabulary:
    """Single bytes, an end, and words up to `TOKENS`: " w1000", " w1001", …"""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"Ġw{id}" for id in range(len(letters), TOKENS))]
    names[END_ID], end = "<|end|>", names[END_ID]
    names[999] = end
    tokenizer = Tokenizer(BPE(vocab={name: id for id, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    kinds = [TokenKind.CONTROL if name == "<|end|>" else TokenKind.NORMAL for name in names]
    entries = [token_entry(kind, name, True) for kind, name in zip(kinds, names, strict=True)]
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return Vocabulary(tokenizer, tuple(entries), template, bos="", eos="<|end|>")


class Listener(Protocol):
    def on_up(self, loaded: Loaded) -> None: ...
    def on_down(self) -> None: ...
    def on_said(self, message: Any) -> None: ...


class MemoryEngine:
    """The worker's loop without its process: real scheduler, hashing target, stepped by hand."""

    def __init__(self, settings: FakeSettings = FakeSettings()) -> None:  # noqa: B008 - frozen
        self.settings = settings
        self.is_alive = True
        self.sent: list[object] = []
        self.now = 0.0
        self._loaded: Loaded | None = None
        self._inbox: deque[Any] = deque()

    @property
    def loaded(self) -> Loaded | None:
        return self._loaded

    def send(self, message: object) -> None:
        if self._loaded is not None:
            self.sent.append(message)
            self._inbox.append(message)

    def start(self, listener: Listener) -> None:
        self._target = FakeTarget(self.settings)
        self._scheduler = Scheduler(
            self.settings.slots, self.settings.context, 64, TOKENS, (END_ID,)
        )
        self._loaded = Loaded(
            True, "f" * 16, self.settings.slots, self._scheduler.context, TOKENS, (END_ID,),
            0.0, "hash", 0,
        )  # fmt: skip
        listener.on_up(self._loaded)

    def die(self, listener: Listener) -> None:
        self._loaded = None
        self._inbox.clear()
        listener.on_down()

    def step(self, listener: Listener) -> bool:
        """Take what was sent and compute one step. False: there was nothing to do."""
        while self._inbox:
            message = self._inbox.popleft()
            match message:
                case Start():
                    for said in self._scheduler.start(message):
                        listener.on_said(said)
                case Guesses():
                    self._scheduler.guesses(message, self.now)
                case Leave():
                    self._scheduler.leave(message)
                case Cancel(session):
                    self._scheduler.cancel(session)
                case Ping():
                    pass
        self.now += 0.01
        plan = self._scheduler.plan(self.now)
        while isinstance(plan, Hold):
            self.now = plan.until
            plan = self._scheduler.plan(self.now)
        if not isinstance(plan, Step):
            return False
        self._target.settle(plan.copies.source, plan.copies.destination)
        outcome = self._scheduler.apply(self._target.forward(plan.rows), 0.01, self.now)
        for said in outcome.said:
            listener.on_said(said)
        listener.on_said(self._scheduler.gauge(0))
        self._target.settle(outcome.copies.source, outcome.copies.destination)
        self._scheduler.check()
        return True

    def run(self, listener: Listener, steps: int = 10_000) -> None:
        for _ in range(steps):
            if not self.step(listener):
                return

    @property
    def slots_held(self) -> int:
        return self._scheduler.gauge(0).slots_held


@dataclass
class WiredNode:
    """A node at the end of a stream that is two calls: `join`, then `pump` after each move."""

    drafters: Drafters
    letter: str = "a"
    max_sessions: int = 4
    max_context: int = 4096
    rate: int = 100
    entries: list[Entry] = field(default_factory=lambda: [(0, b"%d" % id) for id in range(TOKENS)])
    events: list[Any] = field(default_factory=list)
    number: int = 0
    wakes: int = 0

    def __post_init__(self) -> None:
        fingerprint, rungs = tok_fp(self.entries), ladder(self.entries)
        self.identity = Identity(self.letter.encode() * 32)
        host = Identity(HOST_SEED)
        terms = HostTerms(fingerprint, bytes(32), rungs, self.entries, 64)
        self.host_end = HostEnd(HOST_SEED, self.identity.public, terms, b"1" * 32, 0.0)
        draft = DraftOffer(fingerprint, "draft", len(self.entries), rungs)
        offer = NodeOffer("test", (draft,), self.max_sessions, self.max_context, self.rate)
        self.end = NodeEnd(self.letter.encode() * 32, host.public, offer, b"2" * 32, 0.0)

    def join(self, now: float = 0.0) -> "WiredNode":
        self.pump(now)
        return self

    def pump(self, now: float = 0.0) -> list[Any]:
        """Carry bytes both ways until nobody has any; return the node's new events."""
        new: list[Any] = []
        while (up := self.end.outgoing(now)) + (down := self.host_end.outgoing(now)):
            for event in self.host_end.receive(up, now):
                self._host_event(event, now)
            new += self.end.receive(down, now)
        self.events += new
        return new

    def _host_event(self, event: object, now: float) -> None:
        match event:
            case Greeted(hello):
                self.number = self.drafters.join(
                    self.identity.peer, self.host_end, self._wake, hello, now
                )
            case Guessed(sid, block):
                self.drafters.guessed(self.number, sid, block, now)
            case Declined(sid):
                self.drafters.declined(self.number, sid, now)

    def _wake(self) -> None:
        self.wakes += 1


@dataclass
class Front:
    """Everything between API and engine."""

    engine: MemoryEngine
    drafters: Drafters
    generations: Generations
    metrics: HostMetrics


def make_front(engine: MemoryEngine, **settings: Any) -> Front:
    metrics = HostMetrics("m")
    drafters = Drafters(engine.send)
    values: dict[str, Any] = {
        "name": "m",
        "drafting": "open",
        "max_tokens": 0,
        "waiting": 64,
        "wait_seconds": 30,
    }
    generations = Generations(
        Text(make_vocabulary()), engine, drafters, metrics, **(values | settings)
    )
    return Front(engine, drafters, generations, metrics)


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def engine_with() -> Callable[..., MemoryEngine]:
    """`engine_with(slots=…, end=…)`: an engine of other settings."""
    return lambda **changes: MemoryEngine(replace(FakeSettings(), **changes))


@pytest.fixture
async def front(engine: MemoryEngine) -> Front:
    """A front whose engine is up."""
    front = make_front(engine)
    engine.start(front.generations)
    return front


@pytest.fixture
def front_with() -> Callable[..., Front]:
    """`front_with(engine, waiting=1)`: a front of other settings, its engine not started."""
    return make_front


@pytest.fixture
def node_of() -> Callable[..., WiredNode]:
    """`node_of(drafters, "b")`: a node whose handshake is done."""
    return lambda *arguments, **settings: WiredNode(*arguments, **settings).join()
