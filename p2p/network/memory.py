"""The twin of the network in memory: peers of one process, their wires with faults, by seed.

Time is trio's: under `MockClock` a test of minutes takes milliseconds. That it does what a real
transport does is held by `tests/p2p/test_transport_contract.py`, which runs on both.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from p2p.errors import BadRecord, DialFailed
from p2p.network.contain import contain, ignore
from p2p.network.transport import Handler, Started
from p2p.network.weather import Pipe, Weather
from p2p.wire.identity import Identity, PeerId
from p2p.wire.record import Signed, open_record, read_record, record_key


class MemoryNetwork:
    """A set of peers that can reach each other."""

    def __init__(self, seed: int = 0, unix: Callable[[], float] = time.time) -> None:
        self._random = random.Random(seed)
        self._transports: dict[PeerId, MemoryTransport] = {}
        self._weather: dict[tuple[PeerId, PeerId], Weather] = {}
        self._shelf = _Shelf(unix)

    def transport(
        self, seed: bytes, generation: int = 0, ip: str = "127.0.0.1"
    ) -> "MemoryTransport":
        """Return a peer with the identity of `seed`; it is there while its `run` runs.

        A peer that restarts on another port has another `generation`, so another address. Others
        see it come from `ip`.
        """
        return MemoryTransport(self, Identity(seed), self._shelf, generation, ip)

    def set_directory_up(self, is_up: bool) -> None:
        """Kill the directory's servers, or start them anew, knowing nothing."""
        self._shelf.set_up(is_up)

    def weather(self, source: PeerId, target: PeerId) -> Weather:
        return self._weather.get((source, target), Weather())

    def set_weather(self, source: PeerId, target: PeerId, weather: Weather) -> None:
        """Change the way from `source` to `target`."""
        self._weather[source, target] = weather
        for transport in (self._transports.get(source), self._transports.get(target)):
            if transport is not None:
                transport.wake_links()

    def break_links(self, one: PeerId, other: PeerId) -> None:
        """Break every link between two peers at once, losing what is in flight."""
        if one in self._transports:
            self._transports[one].break_links(other, "the network broke")

    def enter(self, transport: "MemoryTransport") -> None:
        self._transports[transport.me] = transport

    def leave(self, transport: "MemoryTransport") -> None:
        if self._transports.get(transport.me) is transport:
            del self._transports[transport.me]

    def find(self, address: str) -> "MemoryTransport | None":
        return next((t for t in self._transports.values() if address in t.addresses()), None)

    def pipe(self, source: PeerId, target: PeerId) -> Pipe:
        return Pipe(lambda: self.weather(source, target), self._random)

    def dial_delay(self, source: PeerId, target: PeerId) -> float:
        return self.weather(source, target).delay(self._random)


class MemoryTransport:
    """One peer of a `MemoryNetwork`; a `Transport`."""

    def __init__(
        self,
        network: MemoryNetwork,
        identity: Identity,
        shelf: "_Shelf",
        generation: int,
        ip: str,
    ) -> None:
        self.ip = ip
        self._network = network
        self._generation = generation
        self._identity = identity
        self._handler: Handler | None = None
        self._on_bug: Callable[[Exception], None] = ignore
        self._nursery: trio.Nursery | None = None
        self._links: set[MemoryLink] = set()
        self._faults: Counter[str] = Counter()
        self._banned: dict[PeerId, float] = {}
        self._directory = MemoryDirectory(self.me, self.addresses(), shelf)

    @property
    def me(self) -> PeerId:
        return self._identity.peer

    @property
    def directory(self) -> "MemoryDirectory":
        return self._directory

    @property
    def faults(self) -> Mapping[str, int]:
        return self._faults

    def addresses(self) -> list[str]:
        return [f"/memory/{self.me}/{self._generation}"]

    def serve(self, handler: Handler, on_bug: Callable[[Exception], None] = ignore) -> None:
        self._handler = handler
        self._on_bug = on_bug

    async def run(self, *, task_status: Started = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._network.enter(self)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._network.leave(self)
            for link in tuple(self._links):
                link.lose("the peer left")

    async def dial(self, peer: PeerId, addresses: Sequence[str], timeout: float) -> "MemoryLink":
        reason = "no address to dial"
        for address in addresses:
            other = self._network.find(address)
            if other is None or other._nursery is None:
                reason = f"{address}: nobody is there"
                continue
            if other.me != peer:
                reason = f"{address}: another peer answers"
                continue
            delay = self._network.dial_delay(self.me, peer)
            with trio.move_on_after(timeout) as scope:
                await trio.sleep(delay)
            if scope.cancelled_caught:
                reason = f"{address}: no answer in {timeout:.1f} s"
                continue
            if other._handler is None or other._refuses(self.me) or self._refuses(peer):
                reason = f"{address}: the peer refuses streams"
                continue
            return self._connect(other)
        raise DialFailed(f"{peer.short}: {reason}")

    async def drop(self, peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        self.break_links(peer, "dropped")

    def ban(self, peer: PeerId, seconds: float) -> None:
        self._banned[peer] = trio.current_time() + seconds

    def break_links(self, peer: PeerId, reason: str) -> None:
        for link in [link for link in self._links if link.peer == peer]:
            link.lose(reason)

    def wake_links(self) -> None:
        for link in self._links:
            link.wake()

    def forget(self, link: "MemoryLink") -> None:
        self._links.discard(link)

    def _refuses(self, peer: PeerId) -> bool:
        return trio.current_time() < self._banned.get(peer, -math.inf)

    def _connect(self, other: "MemoryTransport") -> "MemoryLink":
        there = self._network.pipe(self.me, other.me)
        back = self._network.pipe(other.me, self.me)
        there.partner, back.partner = back, there
        near = MemoryLink(self, other, inward=back, outward=there)
        far = MemoryLink(other, self, inward=there, outward=back)
        self._links.add(near)
        other._links.add(far)
        assert other._nursery is not None
        other._nursery.start_soon(other._handle, far)
        return near

    async def _handle(self, link: "MemoryLink") -> None:
        handler = self._handler
        assert handler is not None
        try:
            await contain(lambda: handler(link), self._faults, self._on_bug)
        finally:
            with trio.CancelScope(shield=True):
                await link.abort("the handler ended")


class MemoryLink:
    """One end of a link; a `Link`."""

    relayed = False

    def __init__(
        self, transport: MemoryTransport, other: MemoryTransport, inward: Pipe, outward: Pipe
    ) -> None:
        self._transport = transport
        self._peer = other.me
        self._address = other.ip
        self._inward = inward
        self._outward = outward

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def address(self) -> str | None:
        return self._address

    async def send(self, data: bytes) -> None:
        await self._outward.send(data)

    async def receive(self, max_bytes: int) -> bytes:
        return await self._inward.receive(max_bytes)

    async def abort(self, reason: str) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        self._transport.forget(self)
        self._outward.finish(f"the peer ended the stream: {reason}")
        self._inward.lose(f"ended here: {reason}")

    def wake(self) -> None:
        self._inward.changed()
        self._outward.changed()

    def lose(self, reason: str) -> None:
        """Break both directions, with what is in flight."""
        self._transport.forget(self)
        self._outward.lose(reason)
        self._inward.lose(reason)


@dataclass(slots=True)
class _Shelf:
    """What all servers of a memory network know."""

    unix: Callable[[], float]
    is_up: bool = True
    records: dict[PeerId, bytes] = field(default_factory=dict)
    providers: dict[str, dict[PeerId, list[str]]] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)

    def set_up(self, is_up: bool) -> None:
        self.is_up = is_up
        if not is_up:
            self.records.clear()
            self.providers.clear()
        self.changed.set()
        self.changed = trio.Event()


class MemoryDirectory:
    """The directory as one peer sees it; a `Directory`."""

    def __init__(self, me: PeerId, addresses: list[str], shelf: _Shelf) -> None:
        self._me = me
        self._addresses = addresses
        self._shelf = shelf

    @property
    def servers(self) -> int:
        return int(self._shelf.is_up)

    async def changed(self) -> None:
        await self._shelf.changed.wait()

    async def publish(self, record: bytes, keys: Sequence[str]) -> int:
        await trio.lowlevel.checkpoint()
        if not self._shelf.is_up:
            return 0
        stored = self._shelf.records.get(self._me)
        if stored is None or read_record(record).seq > read_record(stored).seq:
            self._shelf.records[self._me] = record
        for key in keys:
            self._shelf.providers.setdefault(key, {})[self._me] = self._addresses
        return 1

    async def find(self, key: str, timeout: float) -> list[tuple[PeerId, list[str]]]:
        await trio.lowlevel.checkpoint()
        return list(self._shelf.providers.get(key, {}).items()) if self._shelf.is_up else []

    async def record(self, peer: PeerId, timeout: float) -> Signed | None:
        await trio.lowlevel.checkpoint()
        value = self._shelf.records.get(peer)
        if value is None:
            return None
        try:
            return Signed(open_record(value, record_key(peer), int(self._shelf.unix())), value)
        except BadRecord:
            return None
