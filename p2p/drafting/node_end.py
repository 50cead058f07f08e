"""The contributor's end of one stream: HELLO, then sessions in and blocks of guesses out.

No I/O: `receive` takes bytes and returns events, `outgoing` returns what is ready for one write
(docs/protocol.md). Call `outgoing` after every other call; `now` is monotonic seconds.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from p2p.drafting.conversation import (
    SESSION_OFFENCE,
    Conversation,
    Measured,
    Offended,
    Parted,
    Refused,
    refusal,
)
from p2p.drafting.node_session import NodeSession
from p2p.errors import (
    BadToken,
    Desync,
    Incompatible,
    MalformedFrame,
    PeerError,
    UnexpectedFrame,
    answer,
)
from p2p.wire.chain import Direction
from p2p.wire.identity import Identity
from p2p.wire.messages import (
    NOISE_SPEC,
    VERSION,
    Budget,
    Budgets,
    Bye,
    ByeReason,
    Close,
    CloseReason,
    Closing,
    Commit,
    Commits,
    Draft,
    DraftOffer,
    Error,
    Feed,
    Hello,
    Open,
    Receipt,
    Sampler,
    Vocabulary,
    Welcome,
)

_GUESS_BYTES = 11  # parent and token of up to 5 bytes, score


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """What a node brings: goes into HELLO. `tokens_per_second` is for one session."""

    agent: str
    drafts: tuple[DraftOffer, ...]
    max_sessions: int
    max_context: int
    tokens_per_second: int


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The host accepts; `draft` is the offer whose tokenizer it speaks."""

    welcome: Welcome
    draft: DraftOffer


@dataclass(frozen=True, slots=True)
class Opened:
    """Draft for a session: all tokens so far have come, the prompt and what is committed."""

    sid: int
    key: bytes
    sampler: Sampler
    tokens: tuple[int, ...]
    max_new: int
    rows: int
    ahead: int


# As on the wire: tokens that are final, and what the host wants now. A BUDGET for all sessions
# comes as one `Budgeted` for each.
Committed = Commit
Budgeted = Budget


@dataclass(frozen=True, slots=True)
class Closed:
    """A session that was `Opened` is over; `reason` is a CloseReason, or a number not known yet."""

    sid: int
    reason: int


@dataclass(frozen=True, slots=True)
class Mismatched:
    """The host's tokens where its tokenizer parts from ours, for `mismatch.first_mismatch`."""

    vocabulary: Vocabulary


NodeEvent = (
    Welcomed
    | Opened
    | Committed
    | Budgeted
    | Closed
    | Mismatched
    | Refused
    | Parted
    | Offended
    | Measured
)


class NodeEnd:
    """One stream to one host. `seed` is this node's identity, `nonce` 32 fresh random bytes."""

    def __init__(
        self, seed: bytes, host_public: bytes, offer: NodeOffer, nonce: bytes, now: float
    ) -> None:
        self._talk = Conversation(Identity(seed), Direction.NODE, host_public, now)
        self._offer = offer
        self._sessions: dict[int, NodeSession] = {}
        self._last_sid = 0
        self._grown: dict[int, None] = {}  # sids with guesses that wait, in order
        self._waiting = 0  # guesses
        self._closings: list[Closing] = []
        self._refusals: list[Error] = []
        self._bye: Bye | None = None
        self._vocabulary = 0  # tokens that exist
        self._max_sessions = 0
        self._is_incompatible = False
        self._hello = self._talk.say(
            Hello(
                versions=(VERSION,),
                nonce=nonce,
                agent=offer.agent,
                drafts=offer.drafts,
                noise_specs=(NOISE_SPEC,),
                caps=0,
                max_sessions=offer.max_sessions,
                max_context=offer.max_context,
                tokens_per_second=offer.tokens_per_second,
            )
        )

    @property
    def counters(self) -> Counter[str]:
        """Refusals by dotted code, and "stale"; they only grow."""
        return self._talk.counters

    @property
    def rtt_seconds(self) -> float | None:
        """The latest round trip; None before the first."""
        return self._talk.rtt_seconds

    def receive(self, data: bytes, now: float) -> list[NodeEvent]:
        """Return what `data` brings.

        Raises:
            PeerError: the stream must be reset, after what `outgoing` still has to say is written.
        """
        events: list[NodeEvent] = []
        try:
            for message, payload in self._talk.hear(data, now):
                events += self._handle(message, payload)
        except PeerError as error:
            self._talk.fail(error)
            raise
        return events

    def grow(
        self,
        sid: int,
        pos: int,
        first: int,
        parents: Sequence[int],
        tokens: Sequence[int],
        scores: bytes,
    ) -> None:
        """Queue guesses of a session, as `Block` has them; a session that is over is ignored.

        `ValueError`, our own bug: ids with a gap, a `pos` beyond the committed text, no guess or
        more than a block holds.
        """
        session = self._sessions.get(sid)
        if session is None:
            return
        session.grow(pos, first, parents, tokens, scores)
        self._grown[sid] = None
        self._waiting += len(tokens)
        self._talk.check_pending(_GUESS_BYTES * self._waiting)

    def decline(self, sid: int, reason: CloseReason) -> None:
        """End a session from here; guesses that wait are dropped. One that is over is ignored."""
        if self._drop(sid):
            self._closings.append(Closing(sid, reason))

    def bye(self, reason: ByeReason, retry_after: int = 0) -> None:
        """Announce that this end leaves; reset the stream once it is written."""
        self._bye = Bye(reason, retry_after)

    def outgoing(self, now: float) -> bytes:
        """Return everything that is ready, signed, for one write; b"" when there is nothing."""
        if self._talk.may_say(now):
            self._talk.beat(now)
            blocks = [block for sid in self._grown for block in self._sessions[sid].take_blocks()]
            self._grown.clear()
            self._waiting = 0
            self._talk.say_list(Draft, blocks)
            self._talk.say_list(Close, self._closings)
            self._talk.say(*self._refusals, *filter(None, (self._bye,)))
            self._closings.clear()
            self._refusals.clear()
            self._bye = None
        return self._talk.take()

    def pause(self, now: float) -> float:
        """Seconds to wait before reading on: flood control."""
        return self._talk.pause(now)

    def due(self) -> float:
        """Return when to call `tick` next."""
        return self._talk.due()

    def tick(self, now: float) -> list[NodeEvent]:
        """Let time pass. Raises `PeerGone` or `SlowPeer`: reset the stream."""
        self._talk.tick(now)
        return []

    def _handle(self, message: Any, payload: bytes) -> Sequence[NodeEvent]:
        match message:
            case Bye():
                return [Parted(message)]
            case Error():
                self._is_incompatible = message.code == answer(Incompatible()).wire
                return [Refused(message), *self._end(message.sid, CloseReason.ERROR)]
            case Welcome() if not self._talk.is_open:
                return [self._welcome(message, payload)]
            case Vocabulary() if self._is_incompatible and not self._talk.is_open:
                return [Mismatched(message)]
            case _ if not self._talk.is_open:
                raise UnexpectedFrame(f"{type(message).__name__} before WELCOME")
            case Commits(commits):
                return [event for commit in commits for event in self._commit(commit)]
            case Budgets(budgets):
                return [event for budget in budgets for event in self._budget(budget)]
            case Open():
                return self._open(message)
            case Feed():
                return self._feed(message)
            case Close(closings):
                return [event for each in closings for event in self._end(each.sid, each.reason)]
            case Measured():
                return [message]
            case Receipt():
                return []  # nothing is earned yet; signed and bounded, so harmless
            case _:
                raise UnexpectedFrame(f"{type(message).__name__} is not expected from a host now")

    def _welcome(self, welcome: Welcome, payload: bytes) -> Welcomed:
        draft = next((d for d in self._offer.drafts if d.tok_fp == welcome.tok_fp), None)
        if welcome.hello_digest != sha256(self._hello).digest():
            raise MalformedFrame("WELCOME answers another HELLO")
        if draft is None or (welcome.version, welcome.noise_spec) != (VERSION, NOISE_SPEC):
            raise Incompatible("the host chose a version, tokenizer or noise that was not offered")
        self._vocabulary = draft.vocabulary
        self._max_sessions = min(welcome.max_sessions, self._offer.max_sessions)
        self._talk.restart(self._hello, payload, welcome.heartbeat_ms / 1000)
        return Welcomed(welcome, draft)

    def _open(self, opening: Open) -> Sequence[NodeEvent]:
        if opening.sid <= self._last_sid:
            raise UnexpectedFrame(f"session {opening.sid} is opened a second time or out of order")
        session = NodeSession(opening, self._vocabulary)
        self._last_sid = opening.sid
        self._sessions[opening.sid] = session
        if len(self._sessions) > self._max_sessions:
            self.decline(opening.sid, CloseReason.DECLINED_BUSY)
            return []
        if opening.total > self._offer.max_context:
            self.decline(opening.sid, CloseReason.DECLINED_CONTEXT)
            return []
        try:
            session.begin()
        except BadToken as error:
            return self._offend(opening.sid, error)
        return self._opened(session)

    def _feed(self, feed: Feed) -> Sequence[NodeEvent]:
        session = self._sessions.get(feed.sid)
        if session is None:
            return self._talk.stray(feed.sid)
        try:
            session.feed(feed)
        except (BadToken, Desync) as error:
            return self._offend(feed.sid, error)
        return self._opened(session)

    def _opened(self, session: NodeSession) -> Sequence[NodeEvent]:
        if not session.is_whole:
            return []
        opening = session.opening
        return [
            Opened(
                opening.sid,
                opening.key,
                opening.sampler,
                session.take_tokens(),
                opening.max_new,
                session.rows,
                session.ahead,
            )
        ]

    def _commit(self, commit: Commit) -> Sequence[NodeEvent]:
        session = self._sessions.get(commit.sid)
        if session is None:
            return self._talk.stray(commit.sid)
        try:
            session.commit(commit)
        except (BadToken, Desync) as error:
            return self._offend(commit.sid, error)
        return [commit]

    def _budget(self, budget: Budget) -> Sequence[NodeEvent]:
        if budget.sid and budget.sid not in self._sessions:
            return self._talk.stray(budget.sid)
        events = []
        for sid in (budget.sid,) if budget.sid else self._sessions:
            session = self._sessions[sid]
            session.rows, session.ahead = budget.rows, budget.ahead
            if session.is_whole:
                events.append(Budgeted(sid, budget.rows, budget.ahead))
        return events

    def _offend(self, sid: int, error: BadToken | Desync) -> Sequence[NodeEvent]:
        """Close a session the host told wrongly; a gap is repaired by opening it anew."""
        self.counters[error.code] += 1
        if isinstance(error, Desync):
            self._closings.append(Closing(sid, CloseReason.DESYNC))
            return self._end(sid, CloseReason.DESYNC)
        self._refusals.append(refusal(error, sid))
        return [Offended(sid, error, SESSION_OFFENCE), *self._end(sid, CloseReason.ERROR)]

    def _end(self, sid: int, reason: int) -> Sequence[NodeEvent]:
        """Forget a session; one that ended already from here is no surprise."""
        session = self._drop(sid)
        return [Closed(sid, reason)] if session and session.is_whole else []

    def _drop(self, sid: int) -> NodeSession | None:
        session = self._sessions.pop(sid, None)
        if session is not None:
            self._waiting -= session.waiting
            self._grown.pop(sid, None)
            self._talk.retire(sid)
        return session
