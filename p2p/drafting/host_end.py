"""The operator's end of one stream: WELCOME, then sessions and commits out, guesses in.

No I/O: `receive` takes bytes and returns events, `outgoing` returns what is ready for one write
(docs/protocol.md). Call `outgoing` after every other call; `now` is monotonic seconds. It looks at
bounds, ids and positions only: what a guess is worth is for the scheduler's tree.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from p2p.drafting.conversation import (
    HEARTBEAT_SECONDS,
    SESSION_OFFENCE,
    Conversation,
    Measured,
    Offended,
    Parted,
    Refused,
    refusal,
)
from p2p.drafting.host_session import HostSession
from p2p.drafting.mismatch import shown
from p2p.errors import (
    BadGuessId,
    BadPosition,
    BadToken,
    Incompatible,
    NotInvited,
    PeerBusy,
    PeerError,
    UnexpectedFrame,
)
from p2p.wire.chain import Direction
from p2p.wire.fingerprint import Entry, first_difference
from p2p.wire.identity import Identity
from p2p.wire.messages import (
    MAX_GUESSES,
    MAX_LIVE,
    NOISE_SPEC,
    VERSION,
    Block,
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
    Hello,
    Sampler,
    Welcome,
)

POLICY_RETRY_SECONDS = 600  # an allow list changes by hand
BUSY_RETRY_SECONDS = 30
_TOKEN_BYTES = 5
_COMMITS_A_FRAME = 40  # of 256 tokens each they fit a frame; 64, the wire's bound, would not


@dataclass(frozen=True, slots=True)
class HostTerms:
    """What a host asks of a node, and what it says in WELCOME.

    Attributes:
        vocabulary: the target's entries up to the last that exists; their number bounds token ids.
        others: signed records of other hosts, ≤ 8.
        invited: this node is on the list, or there is none.
        busy: no place for another node.
    """

    tok_fp: bytes
    model_fp: bytes
    ladder: bytes
    vocabulary: Sequence[Entry]
    max_sessions: int
    others: tuple[bytes, ...] = ()
    invited: bool = True
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Greeted:
    """The handshake is done; `draft` is the chosen one of `hello.drafts`."""

    hello: Hello
    draft: DraftOffer
    max_sessions: int


@dataclass(frozen=True, slots=True)
class Guessed:
    """Guesses of one session, ids and position checked.

    Attributes:
        known: committed length the node had when it sent the block.
        lag_seconds: from sending the newest commit the node had to now, the first time it shows.
    """

    sid: int
    block: Block
    known: int
    lag_seconds: float | None


@dataclass(frozen=True, slots=True)
class Declined:
    """The node ended a session; `reason` is a CloseReason, or a number of a later version."""

    sid: int
    reason: int


HostEvent = Greeted | Guessed | Declined | Refused | Parted | Offended | Measured


class HostEnd:
    """One stream to one node. `seed` is this host's identity, `nonce` 32 fresh random bytes."""

    def __init__(
        self, seed: bytes, node_public: bytes, terms: HostTerms, nonce: bytes, now: float
    ) -> None:
        self._talk = Conversation(Identity(seed), Direction.HOST, node_public, now)
        self._terms = terms
        self._nonce = nonce
        self._sessions: dict[int, HostSession] = {}
        self._last_sid = 0
        self._max_sessions = 0
        self._dirty: dict[int, None] = {}  # sids with something to say, in order
        self._waiting = 0  # tokens of commits
        self._last_commits: list[Commit] = []  # of sessions that are closed since
        self._closings: list[Closing] = []
        self._refusals: list[Error] = []
        self._bye: Bye | None = None

    @property
    def counters(self) -> Counter[str]:
        """Refusals by dotted code, and "stale"; they only grow."""
        return self._talk.counters

    @property
    def rtt_seconds(self) -> float | None:
        """The latest round trip; None before the first."""
        return self._talk.rtt_seconds

    @property
    def free_sessions(self) -> int:
        """How many more sessions the node takes; 0 before the handshake and after a BYE."""
        return max(0, self._max_sessions - len(self._sessions))

    def known(self, sid: int) -> int:
        """Return how much committed text the node had when it last spoke of a session."""
        session = self._sessions.get(sid)
        return session.known if session else 0

    def receive(self, data: bytes, now: float) -> list[HostEvent]:
        """Return what `data` brings.

        Raises:
            PeerError: the stream must be reset, after what `outgoing` still has to say is written.
        """
        events: list[HostEvent] = []
        try:
            for message, payload in self._talk.hear(data, now):
                events += self._handle(message, payload)
        except PeerError as error:
            self._talk.fail(error)
            raise
        return events

    def open(
        self,
        sid: int,
        key: bytes,
        sampler: Sampler,
        tokens: Sequence[int],
        max_new: int,
        rows: int,
        ahead: int,
    ) -> None:
        """Ask for guesses on `tokens`: the prompt, and what is committed if the node joins late.

        `ValueError`: no `free_sessions`, or a `sid` that does not rise: our own bug.
        """
        if not self.free_sessions:
            raise ValueError(f"session {sid}: the node takes no more than {self._max_sessions}")
        if sid <= self._last_sid or not tokens:
            raise ValueError(f"session {sid} of {len(tokens)} tokens after {self._last_sid}")
        self._last_sid = sid
        self._sessions[sid] = HostSession(sid, key, sampler, tokens, max_new, rows, ahead)
        self._dirty[sid] = None

    def commit(self, sid: int, pos: int, tokens: Sequence[int], tip: int, credited: int) -> None:
        """Tell that `tokens` from `pos` on are final; commits that wait become one.

        A session that is over is ignored. `ValueError`: `pos` is not the committed length.
        """
        session = self._sessions.get(sid)
        if session is None or not tokens:
            return
        if pos != session.length:
            raise ValueError(f"a commit at {pos}; session {sid} has {session.length} tokens")
        waiting = session.waiting
        session.add(tokens, tip, credited)
        self._dirty[sid] = None
        self._waiting += session.waiting - waiting
        self._talk.check_pending(_TOKEN_BYTES * self._waiting)

    def budget(self, sid: int, rows: int, ahead: int) -> None:
        """Say how many guesses are wanted (0: rest) and how far ahead; `sid` 0: every session."""
        for each in (sid,) if sid else tuple(self._sessions):
            session = self._sessions.get(each)
            if session is not None:
                session.rows, session.ahead = rows, ahead
                self._dirty[each] = None

    def close(self, sid: int, reason: CloseReason) -> None:
        """End a session, after the commits that wait; one that is over is ignored."""
        session = self._sessions.get(sid)
        if session is None:
            return
        if session.is_told:
            self._last_commits += session.commits(self._talk.clock)
            self._closings.append(Closing(sid, reason))
        self._drop(sid)

    def bye(self, reason: ByeReason, retry_after: int = 0) -> None:
        """Announce that this end leaves; reset the stream once it is written."""
        self._bye = Bye(reason, retry_after)
        self._max_sessions = 0

    def outgoing(self, now: float) -> bytes:
        """Return everything that is ready, signed, for one write; b"" when there is nothing."""
        if self._talk.may_say(now):
            self._talk.beat(now)
            # Closings before openings: the node never sees more sessions than it allows.
            self._talk.say_list(Commits, self._ready_commits(now), _COMMITS_A_FRAME)
            self._talk.say_list(Close, self._closings)
            sessions = [self._sessions[sid] for sid in self._dirty]
            for session in sessions:
                if not session.is_told:
                    self._talk.say(*session.open())
            self._talk.say_list(Budgets, [b for s in sessions if (b := s.budget())])
            self._talk.say(*self._refusals, *filter(None, (self._bye,)))
            self._dirty = {session.sid: None for session in sessions if session.waiting}
            self._closings.clear()
            self._refusals.clear()
            self._bye = None
        return self._talk.take()

    def pause(self, now: float) -> float:
        """Seconds to wait before reading on: flood control."""
        return self._talk.pause(now)

    def due(self) -> float:
        """Return when to call `tick` next."""
        resting = [self._sessions[sid].rest_until for sid in self._dirty]
        return min([self._talk.due(), *(until for until in resting if until > self._talk.clock)])

    def tick(self, now: float) -> list[HostEvent]:
        """Let time pass. Raises `PeerGone` or `SlowPeer`: reset the stream."""
        self._talk.tick(now)
        return []

    def _handle(self, message: Any, payload: bytes) -> Sequence[HostEvent]:
        match message:
            case Hello() if not self._talk.is_open:
                return [self._greet(message, payload)]
            case _ if not self._talk.is_open:
                raise UnexpectedFrame(f"{type(message).__name__} before HELLO")
            case Draft(blocks):
                return [event for block in blocks for event in self._guess(block)]
            case Measured():
                return [message]
            case Close(closings):
                return [event for each in closings for event in self._end(each.sid, each.reason)]
            case Error():
                return [Refused(message), *self._end(message.sid, CloseReason.ERROR)]
            case Bye():
                self._max_sessions = 0
                return [Parted(message)]
            case _:
                raise UnexpectedFrame(f"{type(message).__name__} is not expected from a node now")

    def _greet(self, hello: Hello, payload: bytes) -> Greeted:
        draft = self._choose(hello)
        welcome = Welcome(
            version=VERSION,
            nonce=self._nonce,
            hello_digest=sha256(payload).digest(),
            tok_fp=self._terms.tok_fp,
            model_fp=self._terms.model_fp,
            noise_spec=NOISE_SPEC,
            caps=0,
            max_sessions=min(hello.max_sessions, self._terms.max_sessions),
            max_guesses=MAX_GUESSES,
            max_live=MAX_LIVE,
            heartbeat_ms=round(HEARTBEAT_SECONDS * 1000),
            others=self._terms.others,
        )
        self._talk.restart(payload, self._talk.say(welcome), HEARTBEAT_SECONDS)
        self._max_sessions = welcome.max_sessions
        return Greeted(hello, draft, welcome.max_sessions)

    def _choose(self, hello: Hello) -> DraftOffer:
        """Return the first draft we can use. Raises after the node is told why there is none."""
        terms = self._terms
        if not terms.invited:
            raise self._part(NotInvited("this host takes listed nodes only"), POLICY_RETRY_SECONDS)
        if terms.busy:
            raise self._part(PeerBusy("this host has no place for a node"), BUSY_RETRY_SECONDS)
        if VERSION not in hello.versions or NOISE_SPEC not in hello.noise_specs:
            error = Incompatible(f"version {VERSION} and noise {NOISE_SPEC} are needed")
            raise self._part(error, 0)
        draft = next((d for d in hello.drafts if d.tok_fp == terms.tok_fp), None)
        if draft is None:
            start = first_difference(terms.ladder, hello.drafts[0].ladder)
            error = Incompatible(
                f"no draft has this target's tokenizer; see tokens from {start} on"
            )
            raise self._part(error, 0, start, shown(terms.vocabulary, start))
        return draft

    def _part(
        self, error: PeerError, retry_after: int, count: int = 0, more: tuple[object, ...] = ()
    ) -> PeerError:
        bye = Bye(ByeReason.SHUTDOWN, retry_after)
        self._talk.fail(error, count, retry_after, (*more, bye))
        return error

    def _guess(self, block: Block) -> Sequence[HostEvent]:
        session = self._sessions.get(block.sid)
        if session is None or not session.is_told:
            return self._talk.stray(block.sid)
        try:
            lag = session.hear(block, len(self._terms.vocabulary), self._talk.clock)
        except (BadGuessId, BadPosition, BadToken) as error:
            self.counters[error.code] += 1
            self._refusals.append(refusal(error, block.sid))
            self._drop(block.sid)
            return [Offended(block.sid, error, SESSION_OFFENCE)]
        return [Guessed(block.sid, block, session.known, lag)]

    def _end(self, sid: int, reason: int) -> Sequence[HostEvent]:
        """Forget a session; one that ended already from here is no surprise."""
        return [Declined(sid, reason)] if self._drop(sid) else []

    def _drop(self, sid: int) -> bool:
        session = self._sessions.pop(sid, None)
        if session is None:
            return False
        self._dirty.pop(sid, None)
        self._waiting -= session.waiting
        if session.is_told:
            self._talk.retire(sid)
        return True

    def _ready_commits(self, now: float) -> list[Commit]:
        commits, self._last_commits = self._last_commits, []
        for sid in self._dirty:
            session = self._sessions[sid]
            if session.is_told and (session.rows or now >= session.rest_until):
                commits += session.commits(now)
        self._waiting -= sum(len(commit.tokens) for commit in commits)
        return commits
