"""This host as a peer: who may open a stream, a `HostEnd` for each, and the record of all this."""

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import trio

from p2p.drafting.conversation import Measured, Offended, Parted, Refused
from p2p.drafting.host_end import Declined, Greeted, Guessed, HostEnd, HostEvent, HostTerms
from p2p.errors import NexusError, PeerBusy, PeerError
from p2p.log import Log
from p2p.network.discovery import Description, publish
from p2p.network.score import Offence, Scores, household, offence_of
from p2p.network.stream import Outbox, drive
from p2p.network.transport import Link, Startup, Transport
from p2p.wire.fingerprint import existing, ladder, model_fp, tok_fp
from p2p.wire.identity import Identity, PeerId
from p2p.wire.messages import ByeReason
from p2p.wire.record import Policy, Service
from verifier_host.front.drafters import FIRST_ROWS, Drafters
from verifier_host.front.metrics import HostMetrics
from verifier_host.front.vocabulary import Vocabulary
from verifier_host.targets import Target

SESSIONS_PER_NODE = 64  # the host's limit; a node names its own, smaller one
PART_SECONDS = 1.0  # for a node to take our BYE; then its stream is ended


@dataclass(frozen=True, slots=True)
class Served:
    """The target as the network knows it."""

    name: str
    vocabulary: Vocabulary
    tok_fp: bytes
    model_fp: bytes


def served(target: Target, quantisation: str, vocabulary: Vocabulary) -> Served:
    """Return a target's names on the network. Hashes the whole vocabulary: once, at start."""
    tokenizer = tok_fp(vocabulary.entries)
    canonical = target.path.name if target.is_gguf else target.name
    fingerprint = model_fp(canonical, target.revision, tokenizer, quantisation)
    return Served(target.name, vocabulary, tokenizer, fingerprint)


class Hosting:
    """Takes nodes in and lets them go.

    Args:
        allowed: who may draft; None = anybody.
        max_nodes_per_address: of one household (`score.py`); this machine's own do not count.
    """

    def __init__(
        self,
        seed: bytes,
        transport: Transport,
        drafters: Drafters,
        target: Served,
        metrics: HostMetrics,
        log: Log,
        *,
        allowed: frozenset[PeerId] | None,
        max_nodes: int,
        max_nodes_per_address: int,
    ) -> None:
        self._seed = seed
        self._transport = transport
        self._drafters = drafters
        self._target = target
        self._metrics = metrics
        self._log = log
        self._allowed = allowed
        self._max_nodes = max_nodes
        self._max_per_address = max_nodes_per_address
        self._scores = Scores()
        self._servers = -1  # that took the last record
        self._streams: dict[PeerId, _Stream] = {}  # greeted ones
        self._open: Counter[str] = Counter()  # streams by household, greeted or not
        entries = existing(target.vocabulary.entries)
        self._terms = HostTerms(
            tok_fp=target.tok_fp,
            model_fp=target.model_fp,
            ladder=ladder(entries),
            vocabulary=entries,
            max_sessions=SESSIONS_PER_NODE,
        )

    async def run(self, on_listening: Callable[[], None] = lambda: None) -> None:
        """Take nodes in and keep this host's record in the directory, until cancelled.

        Raises:
            ConfigError, ResourceError: the addresses cannot be listened on.
        """
        self._transport.serve(self.serve, on_bug=partial(self._log.failure, "stream.bug"))
        async with trio.open_nursery() as nursery:
            listening = Startup()
            nursery.start_soon(partial(self._transport.run, task_status=listening))
            await listening.wait()
            on_listening()
            await publish(
                self._transport.directory,
                Identity(self._seed),
                self._describe,
                published=self._published,
            )

    def _published(self, servers: int) -> None:
        if servers != self._servers:
            self._servers = servers
            self._log.event("record.published", servers=servers)

    @property
    def addresses(self) -> list[str]:
        """Multiaddrs that end in this host's peer id."""
        me = self._transport.me
        return [f"{address}/p2p/{me}" for address in self._transport.addresses()]

    async def serve(self, link: Link) -> None:
        """Drive one node's stream to its end."""
        now = trio.current_time()
        if self._scores.stay_away_seconds(link.peer, now, link.address) > 0:
            self._metrics.refused("peer_banned")
            return
        home = household(link.address)
        if home is None:
            await self._serve(link, is_crowded=False)
            return
        # Over the limit a node is told; over twice the limit those who wait for that are too many.
        if self._open[home] >= 2 * self._max_per_address:
            self._metrics.refused(PeerBusy.code)
            return
        is_crowded = self._open[home] >= self._max_per_address and link.peer not in self._streams
        self._open[home] += 1
        try:
            await self._serve(link, is_crowded)
        finally:
            self._open -= Counter((home,))

    async def _serve(self, link: Link, is_crowded: bool) -> None:
        now = trio.current_time()
        nonce = secrets.token_bytes(32)
        terms = self._terms_of(link.peer, is_crowded)
        end = HostEnd(self._seed, link.peer.public, terms, nonce, now)
        stream = _Stream(link, end, self)
        try:
            with stream.scope:
                await drive(link, end, stream.deliver, stream.outbox)
        except NexusError as error:
            self._note_end(link, error)
        finally:
            self.leave(stream)

    async def part(self) -> None:
        """Tell every node that this host shuts down, for `PART_SECONDS` at most."""
        streams = tuple(self._streams.values())
        for stream in streams:
            stream.part(ByeReason.SHUTDOWN)
        with trio.move_on_after(PART_SECONDS):
            for stream in streams:
                await stream.outbox.flushed()

    def greet(self, stream: "_Stream", greeted: Greeted) -> None:
        """Take a node in; an older stream of the same peer is half-open and makes way."""
        peer = stream.link.peer
        older = self._streams.pop(peer, None)
        if older is not None:
            older.part(ByeReason.REPLACED)
            self._drafters.leave(older.number, trio.current_time())
            older.number = 0
        stream.number = self._drafters.join(
            peer, stream.end, stream.outbox.wake, greeted.hello, trio.current_time()
        )
        self._streams[peer] = stream
        self._metrics.nodes(len(self._streams))
        self._log.event("node.joined", peer=peer.short, draft=greeted.draft.name)

    def leave(self, stream: "_Stream") -> None:
        """Forget a stream. Harmless when it is forgotten."""
        if stream.number:
            self._drafters.leave(stream.number, trio.current_time())
            stream.number = 0
            self._log.event("node.left", peer=stream.link.peer.short)
        if self._streams.get(stream.link.peer) is stream:
            del self._streams[stream.link.peer]
        self._metrics.nodes(len(self._streams))

    def offended(self, stream: "_Stream", offence: Offended) -> None:
        """A node broke a rule of one session, which is over."""
        self._metrics.refused(offence.error.code)
        self._log.warning("block.refused", peer=stream.link.peer.short, code=offence.error.code)
        now = trio.current_time()
        kind = Offence.GUESS if offence.weight > 1 else Offence.STALE
        address = stream.link.address
        away = self._scores.offend(stream.link.peer, kind, now, address)
        if away > 0:
            self._transport.ban(stream.link.peer, away)
            stream.part(ByeReason.BANNED)
            self.leave(stream)
        elif stream.number:
            self._drafters.declined(stream.number, offence.sid, now)

    def event(self, stream: "_Stream", event: HostEvent) -> None:
        """Act on what a stream's end has heard."""
        now = trio.current_time()
        match event:
            case Greeted():
                self.greet(stream, event)
            case Guessed(sid, block):
                self._drafters.guessed(stream.number, sid, block, now)
            case Declined(sid, reason):
                self._log.event("session.declined", peer=stream.link.peer.short, reason=reason)
                self._drafters.declined(stream.number, sid, now)
            case Refused(error):
                self._log.warning("node.refused", peer=stream.link.peer.short, code=error.code)
            case Offended():
                self.offended(stream, event)
            case Parted(bye):
                self._log.event("node.parts", peer=stream.link.peer.short, reason=bye.reason)
                self.leave(stream)
                stream.scope.cancel()
            case Measured():
                pass  # the end keeps it; `ahead` is made of it every second

    def _terms_of(self, peer: PeerId, is_crowded: bool) -> HostTerms:
        is_full = len(self._streams) >= self._max_nodes and peer not in self._streams
        is_invited = self._allowed is None or peer in self._allowed
        return replace(self._terms, invited=is_invited, busy=is_full or is_crowded)

    def _note_end(self, link: Link, error: NexusError) -> None:
        peer, reason = link.peer.short, str(error)
        if not isinstance(error, PeerError):
            self._log.event("stream.ended", peer=peer, reason=reason)
            return
        self._metrics.refused(error.code)
        now = trio.current_time()
        away = self._scores.offend(link.peer, offence_of(error), now, link.address)
        self._log.warning(
            "stream.refused", peer=peer, code=error.code, reason=reason, away_seconds=round(away)
        )
        if away > 0:
            self._transport.ban(link.peer, away)

    def _describe(self) -> Description:
        policy = Policy.OPEN if self._allowed is None else Policy.INVITED
        target = self._target
        service = Service(target.tok_fp, target.model_fp, target.name[:64], policy, FIRST_ROWS)
        return Description(tuple(self._transport.addresses()), (service,))


class _Stream:
    """One node's stream: its end, how to wake its writer, and its drafter number once greeted."""

    def __init__(self, link: Link, end: HostEnd, hosting: Hosting) -> None:
        self.link = link
        self.end = end
        self.outbox = Outbox()
        self.scope = trio.CancelScope()
        self.number = 0
        self._hosting = hosting

    def part(self, reason: ByeReason) -> None:
        """Say goodbye and end the stream within `PART_SECONDS`, whatever the node does."""
        self.end.bye(reason)
        self.outbox.wake()
        self.scope.deadline = min(self.scope.deadline, trio.current_time() + PART_SECONDS)

    def deliver(self, events: list[HostEvent]) -> None:
        for event in events:
            self._hosting.event(self, event)
