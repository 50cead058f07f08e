"""Which nodes draft which session, and what each of them is told.

No I/O and no clock: ends of streams (`HostEnd`) come in with the way to wake their writers, `now`
is an argument. A session is drafted by `nodes_per_session` nodes, those with the least to do; one
that leaves, declines or falls silent is replaced at once. Commits go out before anything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from p2p.drafting.host_end import HostEnd
from p2p.wire.identity import PeerId
from p2p.wire.messages import Block, CloseReason, Hello, Sampler
from verifier_host.messages import HOST, Credit, Guesses, Leave, Rows, Sampling

FIRST_ROWS = 8  # of a new session; chosen
MOST_AHEAD = 64  # tokens beyond the last commit (docs/protocol.md, 5.8)
LEAST_AHEAD = 4
BUDGET_CHANGE = 0.25  # a smaller change of rows is not worth a frame
DECLINED_SECONDS = 30.0  # before a node that declined a session is asked for it again
SILENT_SECONDS = 5.0  # without a guess for a session that wants some
SILENT_TOKENS = 16  # committed meanwhile: a session that stands still proves nothing
ROOM_TOKENS = 64  # a node's context must hold the text and a little more
NAMES_KEPT = 1024
HOST_NAME = "host"  # no peer id: those are longer
DEFAULT_RATE = 30.0  # tokens/s of a node that does not say
_ACCEPTED_MEMORY = 0.1  # EWMA weight of a commit


class Drafted(Protocol):
    """A session as drafters need it; its owner is `generations.py`."""

    @property
    def number(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def sampling(self) -> Sampling: ...
    @property
    def left(self) -> int:
        """Tokens it may still commit."""

    def text(self) -> Sequence[int]:
        """Prompt and committed tokens."""


@dataclass(slots=True)
class _Node:
    number: int
    peer: PeerId
    end: HostEnd
    wake: Callable[[], None]
    rate: float
    max_context: int
    sessions: dict[int, "_Session"] = field(default_factory=dict)  # by sid
    last_sid: int = 0


@dataclass(slots=True)
class _Part:
    """One node's part in a session."""

    sid: int
    asked_at: float  # or last heard of
    committed: int = 0  # tokens since then
    accepted: float = 1.0  # EWMA of credited tokens a commit


@dataclass(slots=True)
class _Session:
    drafted: Drafted
    rows: int = FIRST_ROWS
    parts: dict[int, _Part] = field(default_factory=dict)  # by node number
    declined: dict[int, float] = field(default_factory=dict)  # node number -> until


class Drafters:
    """All nodes and all sessions that may be drafted.

    Args:
        send: takes messages for the engine.
    """

    def __init__(self, send: Callable[[object], None], nodes_per_session: int = 1) -> None:
        self._send = send
        self._per_session = nodes_per_session
        self._nodes: dict[int, _Node] = {}
        self._sessions: dict[int, _Session] = {}
        self._names: dict[int, str] = {}  # of those who left, too: their tokens may be on the way
        self._last_number = 0
        self._is_paused = False
        self.step_seconds = 0.05  # of a plain step, kept by whoever hears the engine's gauge

    @property
    def count(self) -> int:
        """Nodes whose handshake is done."""
        return len(self._nodes)

    def name(self, number: int) -> str:
        """Return a drafter's short peer id; "host" for the host's own, "" for the target."""
        return HOST_NAME if number == HOST else self._names.get(number, "")

    # Nodes.

    def join(
        self, peer: PeerId, end: HostEnd, wake: Callable[[], None], hello: Hello, now: float
    ) -> int:
        """Take a node whose handshake is done and return its drafter number, never used before."""
        self._last_number += 1
        rate = float(hello.tokens_per_second) or DEFAULT_RATE
        node = _Node(self._last_number, peer, end, wake, rate, hello.max_context)
        self._nodes[node.number] = node
        self._names[node.number] = peer.short
        self._names.pop(node.number - NAMES_KEPT, None)
        self.place(now)
        return node.number

    def find(self, peer: PeerId) -> int | None:
        """Return the drafter number of a peer's stream, if it has one."""
        return next((n.number for n in self._nodes.values() if n.peer == peer), None)

    def leave(self, number: int, now: float) -> None:
        """Forget a node and give its sessions to others. Harmless when it is gone already."""
        node = self._nodes.pop(number, None)
        if node is None:
            return
        for session in node.sessions.values():
            session.parts.pop(number, None)
            session.declined.pop(number, None)
        self._send(Leave(0, number))
        self.place(now)

    def guessed(self, number: int, sid: int, block: Block, now: float) -> None:
        """Pass a block on to the engine, ids unchanged."""
        node = self._nodes.get(number)
        session = node.sessions.get(sid) if node else None
        if session is None:
            return
        part = session.parts[number]
        part.asked_at, part.committed = now, 0
        self._send(
            Guesses(
                session.drafted.number,
                number,
                block.pos,
                block.first,
                block.parents,
                block.tokens,
                block.scores,
            )
        )

    def declined(self, number: int, sid: int, now: float) -> None:
        """A node has ended a session, or offended in it: ask another, and this one later."""
        node = self._nodes.get(number)
        session = node.sessions.pop(sid, None) if node else None
        if session is None:
            return
        self._part(session, number, now)
        self.place(now)

    # Sessions.

    def open(self, drafted: Drafted, now: float) -> None:
        """Have a session drafted from now on."""
        session = _Session(drafted)
        self._sessions[drafted.number] = session
        self._place(session, now)

    def commit(
        self, number: int, pos: int, tokens: Sequence[int], credits: Sequence[Credit]
    ) -> None:
        """Tell every node of a session what is final. Wakes their writers before it returns."""
        session = self._sessions.get(number)
        if session is None:
            return
        by_node = {credit.drafter: credit for credit in credits}
        for node_number, part in session.parts.items():
            node = self._nodes[node_number]
            credit = by_node.get(node_number)
            tip, credited = (credit.tip, credit.credited) if credit else (0, 0)
            node.end.commit(part.sid, pos, tokens, tip, credited)
            node.wake()
            part.committed += len(tokens)
            part.accepted += _ACCEPTED_MEMORY * (credited - part.accepted)

    def budget(self, rows: Rows) -> None:
        """Tell a session's nodes how many guesses the engine can use, if that has changed much."""
        session = self._sessions.get(rows.session)
        if session is None or not _is_change(session.rows, rows.rows):
            return
        session.rows = rows.rows
        for number in session.parts:
            self._tell_budget(self._nodes[number], session)

    def close(self, number: int, reason: CloseReason) -> None:
        """End a session at its nodes. Harmless when it is not drafted."""
        session = self._sessions.pop(number, None)
        if session is None:
            return
        for node_number in tuple(session.parts):
            self._close_part(session, node_number, reason)

    def forget_engine(self) -> None:
        """End all sessions at their nodes: a new engine knows no names of guesses.

        None is placed until `reopen`.
        """
        self._is_paused = True
        for session in self._sessions.values():
            session.rows = FIRST_ROWS
            for number in tuple(session.parts):
                self._close_part(session, number, CloseReason.ABORTED)
            session.declined.clear()

    def reopen(self, now: float) -> None:
        """Place all sessions again, on the text they have now."""
        self._is_paused = False
        self.place(now)

    def tick(self, now: float) -> None:
        """Replace nodes that have fallen silent, try again what found no place. Once a second."""
        for session in self._sessions.values():
            for number, part in tuple(session.parts.items()):
                if _is_silent(session, part, now):
                    self._close_part(session, number, CloseReason.ABORTED)
                    self._part(session, number, now)
                else:
                    self._tell_budget(self._nodes[number], session)
        self.place(now)

    def place(self, now: float) -> None:
        """Give every session that has too few nodes one more, if there is one."""
        for session in self._sessions.values():
            self._place(session, now)

    def _place(self, session: _Session, now: float) -> None:
        if self._is_paused:
            return
        length = len(session.drafted.text())
        while len(session.parts) < self._per_session and session.drafted.left > 0:
            able = [
                node
                for node in self._nodes.values()
                if node.end.free_sessions
                and node.number not in session.parts
                and session.declined.get(node.number, now) <= now
                and length + ROOM_TOKENS <= node.max_context
            ]
            if not able:
                return
            node = min(able, key=lambda n: (len(n.sessions), n.end.rtt_seconds or 0.0, n.number))
            self._open_part(node, session, now)

    def _open_part(self, node: _Node, session: _Session, now: float) -> None:
        node.last_sid += 1
        part = _Part(node.last_sid, asked_at=now)
        node.sessions[part.sid] = session
        session.parts[node.number] = part
        node.end.open(
            part.sid,
            session.drafted.key,
            wire_sampler(session.drafted.sampling),
            session.drafted.text(),
            session.drafted.left,
            session.rows,
            self._ahead(node, part),
        )
        node.wake()

    def _close_part(self, session: _Session, number: int, reason: CloseReason) -> None:
        part, node = session.parts.pop(number), self._nodes[number]
        del node.sessions[part.sid]
        node.end.close(part.sid, reason)
        node.wake()

    def _part(self, session: _Session, number: int, now: float) -> None:
        """Note that a node is out of a session, and have the engine forget its guesses there."""
        session.parts.pop(number, None)
        session.declined[number] = now + DECLINED_SECONDS
        self._send(Leave(session.drafted.number, number))

    def _tell_budget(self, node: _Node, session: _Session) -> None:
        part = session.parts[node.number]
        node.end.budget(part.sid, session.rows, self._ahead(node, part))
        node.wake()

    def _ahead(self, node: _Node, part: _Part) -> int:
        rtt = node.end.rtt_seconds or 0.0
        return ahead_tokens(rtt, self.step_seconds, node.rate, part.accepted)


def ahead_tokens(
    rtt_seconds: float, step_seconds: float, tokens_per_second: float, accepted: float
) -> int:
    """Return how far beyond the last commit a node should draft: what it can guess until it hears
    of the next one, and what that one will accept."""
    ahead = (rtt_seconds + step_seconds) * tokens_per_second + accepted
    return max(LEAST_AHEAD, min(MOST_AHEAD, round(ahead)))


def wire_sampler(sampling: Sampling) -> Sampler:
    """Return what a node mirrors. Bias and penalties it does not: that costs acceptance only."""
    return Sampler(
        temperature=round(sampling.temperature * 1000),
        top_k=sampling.top_k,
        top_p=round(sampling.top_p * 1000),
        min_p=round(sampling.min_p * 1000),
    )


def _is_change(old: int, new: int) -> bool:
    return (old == 0) != (new == 0) or abs(new - old) > BUDGET_CHANGE * old


def _is_silent(session: _Session, part: _Part, now: float) -> bool:
    is_wanted = session.rows > 0 and part.committed >= SILENT_TOKENS
    return is_wanted and now - part.asked_at > SILENT_SECONDS
