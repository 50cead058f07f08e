"""Whom to draft for: one stream per host that was found, dialled again when it ends.

Discovery calls `found` with every valid record; each host then has a task of its own.
"""

import math
import random
import secrets
from collections.abc import Callable, Sequence
from functools import partial

import trio

from nexusnode.daemon.drafting import Drafting
from nexusnode.daemon.host import Host, offers, weakest
from nexusnode.daemon.stream import Ended, HostStream
from nexusnode.daemon.traffic import CountedLink
from nexusnode.states import HostState
from p2p.drafting.conversation import Offended
from p2p.drafting.mismatch import first_mismatch
from p2p.drafting.node_end import Mismatched, NodeEnd, NodeEvent, NodeOffer, Welcomed
from p2p.errors import BadRecord, Incompatible, NexusError, PeerError, PeerGone, answer
from p2p.log import Log
from p2p.network.transport import Transport
from p2p.process.guard import guard
from p2p.wire.fingerprint import Entry
from p2p.wire.identity import PeerId
from p2p.wire.messages import ByeReason, Vocabulary
from p2p.wire.record import HostRecord, check_time, read_record

MAX_HOSTS = 32
MAX_INDEX = 2**16 - 1  # what the worker's pipe can say
EVICTED_REMEMBERED = 256  # chosen: four looks full of strangers
DIAL_SECONDS = 10.0
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 60.0
GOOD_SECONDS = 60.0  # of service: the next reconnect starts at the first backoff again
INCOMPATIBLE_SECONDS = 600.0  # unless the host offers something else before
MAX_ATTEMPTS = 16  # counted; the backoff has reached its limit long before
NONCE_BYTES = 32
FAREWELL_SECONDS = 0.5  # for BYE frames to be taken


class Hosts:
    """All hosts and the streams to them.

    Args:
        allowed: the only peers to serve; empty = all.
        entries: our draft's vocabulary, asked for only when a host has another one.
        entropy: jitter of reconnects.
        changed: called when something worth showing changed; must not block.
        unix_clock: wall time in seconds, for records that a host passes on.
        keep: gets records as signed, to be found by after a restart: `KnownHosts.keep`.
        count: gets the bytes received and sent on streams, as they flow: `Traffic.add`.
    """

    def __init__(
        self,
        transport: Transport,
        seed: bytes,
        drafting: Drafting,
        allowed: Sequence[str],
        entries: Callable[[], Sequence[Entry]],
        entropy: random.Random,
        changed: Callable[[], None],
        unix_clock: Callable[[], float],
        log: Log,
        keep: Callable[[PeerId, bytes, bool], None] = lambda peer, value, is_welcome: None,
        count: Callable[[int, int], None] = lambda received, sent: None,
    ) -> None:
        self._transport = transport
        self._seed = seed
        self._drafting = drafting
        self._allowed_peers = frozenset(allowed)
        self._entries = entries
        self._entropy = entropy
        self._changed = changed
        self._unix_clock = unix_clock
        self._log = log
        self._keep_known = keep
        self._count = count
        self._hosts: dict[PeerId, Host] = {}
        self._evicted: dict[PeerId, float] = {}  # until when each stays out, oldest first
        self._streams: dict[PeerId, HostStream] = {}
        self._last_index = 0
        self._offer: NodeOffer | None = None
        self._open = trio.Event()
        self._nursery: trio.Nursery | None = None

    @property
    def all(self) -> Sequence[Host]:
        return tuple(self._hosts.values())

    @property
    def served(self) -> int:
        """How many hosts have welcomed this node now."""
        return sum(host.state is HostState.SERVING for host in self._hosts.values())

    @property
    def directory_servers(self) -> int:
        """How many peers of the directory are known: 0 = nobody can be asked for hosts."""
        return self._transport.directory.servers

    def open(self, offer: NodeOffer) -> None:
        """Dial from now on, with this offer."""
        self._offer = offer
        self._open.set()

    async def close(self, reason: ByeReason) -> None:
        """Say goodbye to every host, within `FAREWELL_SECONDS`, and dial no more."""
        if self._open.is_set():  # an event that is waited for is never replaced
            self._open = trio.Event()
        streams = tuple(self._streams.values())
        for stream in streams:
            stream.part(reason)
        with trio.move_on_after(FAREWELL_SECONDS):
            for stream in streams:
                await stream.flushed()
        for stream in streams:
            stream.stop(
                PeerGone("this node is paused" if reason is ByeReason.PAUSED else "ended here")
            )

    def found(self, record: HostRecord, value: bytes = b"") -> None:
        """A host says that it is there; its newest record counts.

        Args:
            value: the record as it was signed, if the host is to be known after a restart.
        """
        peer = record.peer
        if self._allowed_peers and str(peer) not in self._allowed_peers:
            return
        host = self._hosts.get(peer)
        if host is None:
            self._add(record, value)
        elif record.seq > host.seq:
            is_other = (record.addrs, offers(record)) != (host.addresses, host.offers)
            host.seq, host.addresses, host.offers = record.seq, record.addrs, offers(record)
            host.value = value
            if value:
                self._keep_known(peer, value, False)
            if is_other:  # and not published once more, as every few minutes
                host.attempts = 0
                host.news.set()

    async def run(self) -> None:
        """Serve hosts until cancelled."""
        async with trio.open_nursery() as self._nursery:
            for host in self._hosts.values():
                self._nursery.start_soon(self._guarded, host)
            await trio.sleep_forever()

    def _add(self, record: HostRecord, value: bytes) -> None:
        if trio.current_time() < self._evicted.get(record.peer, 0.0):
            return
        # Those listed by the user always have a place.
        if len(self._hosts) >= (len(self._allowed_peers) or MAX_HOSTS) and not self._make_way():
            self._log.warning("host.ignored", peer=record.peer.short, limit=MAX_HOSTS)
            return
        used = {host.index for host in self._hosts.values()}
        self._last_index = self._last_index % MAX_INDEX + 1
        while self._last_index in used:
            self._last_index = self._last_index % MAX_INDEX + 1
        host = Host(self._last_index, record.peer, record.seq, record.addrs, offers(record))
        host.value = value
        self._hosts[record.peer] = host
        self._log.event("host.found", peer=record.peer.short, addresses=len(record.addrs))
        if self._nursery is not None:
            self._nursery.start_soon(self._guarded, host)

    def _make_way(self) -> bool:
        """Forget the host that is least likely to be worth its place; False if all are worth it.

        It may not come back at once: a directory full of dead hosts would keep us dialling.
        """
        host = weakest(tuple(self._hosts.values()))
        if host is None:
            return False
        self._log.event("host.evicted", peer=host.peer.short, reason=host.reason)
        self._evicted.pop(host.peer, None)
        self._evicted[host.peer] = max(host.asked_until, trio.current_time() + MAX_BACKOFF_SECONDS)
        if len(self._evicted) > EVICTED_REMEMBERED:
            del self._evicted[next(iter(self._evicted))]
        del self._hosts[host.peer]
        host.life.cancel()
        return True

    async def _guarded(self, host: Host) -> None:
        with host.life:
            await guard(self._log, "host", partial(self._keep, host))

    async def _keep(self, host: Host) -> None:
        """Keep a stream to `host` whenever the node may draft."""
        while True:
            while not self._open.is_set():
                await self._open.wait()
            host.news = trio.Event()  # here, so that news that come while it is dialled count too
            ended = await self._serve(host)
            self._log.event("host.ended", peer=host.peer.short, reason=str(ended.error)[:200])
            await self._wait(host, ended)

    async def _serve(self, host: Host) -> Ended:
        """Run one stream to its end and say what ended it."""
        assert self._offer is not None
        self._become(host, HostState.DIALLING)
        try:
            link = await self._transport.dial(host.peer, host.addresses, DIAL_SECONDS)
        except NexusError as error:
            return Ended(error)
        nonce = secrets.token_bytes(NONCE_BYTES)
        end = NodeEnd(self._seed, host.peer.public, self._offer, nonce, trio.current_time())
        stream = HostStream(CountedLink(link, self._count), end, partial(self._hear, host))
        self._become(host, HostState.GREETING)
        if not self._open.is_set():
            stream.stop(PeerGone("this node is paused"))
        self._streams[host.peer] = stream
        try:
            return await stream.run()
        finally:
            del self._streams[host.peer]
            self._drafting.leave(host.index)
            self._changed()

    def _hear(self, host: Host, event: NodeEvent) -> None:
        match event:
            case Welcomed():
                self._welcome(host, event)
            case Mismatched():
                host.mismatch = self._name_mismatch(event.vocabulary)
                self._log.warning("host.mismatch", peer=host.peer.short, token=host.mismatch)
            case Offended():
                self._log.warning("host.offended", peer=host.peer.short, code=event.error.code)
            case _:
                self._drafting.hear(host.index, event)
        self._changed()

    def _welcome(self, host: Host, event: Welcomed) -> None:
        stream = self._streams[host.peer]
        self._drafting.join(host.index, stream, host.tally, event.welcome.model_fp)
        host.reason = ""
        host.serving_since = trio.current_time()
        host.has_served, host.idle_since = True, math.inf
        self._become(host, HostState.SERVING)
        self._log.event("host.serving", peer=host.peer.short)
        if host.value:
            self._keep_known(host.peer, host.value, True)
        for value in event.welcome.others:
            try:
                record = read_record(value)
                check_time(record, int(self._unix_clock()))
            except BadRecord as error:
                self._log.event("host.hearsay", peer=host.peer.short, reason=str(error))
            else:
                self.found(record, value)

    async def _wait(self, host: Host, ended: Ended) -> None:
        """Stay away as long as host and manners ask; news of the host end it early.

        But not before the time that the host itself asked for.
        """
        served = host.state is HostState.SERVING
        if served and trio.current_time() - host.serving_since >= GOOD_SECONDS:
            host.attempts = 0
        backoff = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**host.attempts)
        seconds = max(self._entropy.uniform(0.0, backoff), ended.retry_seconds)
        host.attempts = min(host.attempts + 1, MAX_ATTEMPTS)
        host.asked_until = trio.current_time() + ended.retry_seconds
        if self._open.is_set():  # our own pause is no fault of it
            host.idle_since = min(host.idle_since, trio.current_time())
        host.reason = _why(ended, host.mismatch)
        if ended.refusal is not None and ended.refusal.code == answer(Incompatible()).wire:
            seconds = INCOMPATIBLE_SECONDS
        is_refused = ended.refusal is not None or isinstance(ended.error, PeerError)
        self._become(host, HostState.REFUSED if is_refused else HostState.WAITING)
        with trio.move_on_after(seconds):
            await trio.sleep(ended.retry_seconds)
            await host.news.wait()

    def _become(self, host: Host, state: HostState) -> None:
        host.state = state
        self._changed()

    def _name_mismatch(self, vocabulary: Vocabulary) -> str:
        """Return the first token that differs, with both texts."""
        try:
            own = self._entries()
        except NexusError as error:
            return f"a token from {vocabulary.start} on; ours cannot be read: {error}"
        token = first_mismatch(own, vocabulary)
        if token is None:
            return f"no token from {vocabulary.start} on differs in what the host showed"
        ours = repr(own[token][1][:32]) if token < len(own) else "nothing"
        theirs = vocabulary.entries[token - vocabulary.start].text[:32]
        return f"token {token} is {ours} here and {theirs!r} at the host"


def _why(ended: Ended, mismatch: str) -> str:
    """Return the reason in words for `status`."""
    if ended.refusal is None:
        return str(ended.error)
    if ended.refusal.code == answer(Incompatible()).wire:
        return "the host's model has another tokenizer" + (f": {mismatch}" if mismatch else "")
    return f"refused by the host (code {ended.refusal.code}): {_printable(ended.refusal.text)}"


def _printable(text: str) -> str:
    """A peer's words go to a terminal: no control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
