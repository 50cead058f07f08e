"""Sessions between streams and draft worker: the daemon's copy of each, from which all is replayed.

No I/O: events of the streams' ends and messages of the worker go in, messages to the worker and
calls on the ends come out. (host, sid) on a stream is one number on the pipe.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nexusnode.daemon.learnt import Learnt
from nexusnode.draft.messages import (
    Budget,
    Calibration,
    Close,
    Closed,
    Commit,
    Feed,
    Grown,
    Growth,
    Host,
    Open,
    Refused,
)
from p2p.drafting import node_end
from p2p.wire.messages import CloseReason, Sampler

OPEN_TOKENS = 65_536  # of one Open or Feed: far below the pipe's 1 MiB frame
_DECLINED = {"full": CloseReason.DECLINED_MEMORY, "context": CloseReason.DECLINED_CONTEXT}


class StreamEnd(Protocol):
    """What is said on one host's stream: `node_end.NodeEnd`, and the wake of its writer."""

    def grow(self, sid: int, growth: Growth) -> None: ...
    def decline(self, sid: int, reason: CloseReason) -> None: ...


@dataclass(slots=True)
class Tally:
    """Counters of one host, or of all. `credited` of the `committed` tokens were also ours."""

    drafted: int = 0
    credited: int = 0
    committed: int = 0


@dataclass(slots=True)
class Session:
    """The daemon's copy: prompt and commits, and the id that the next guess must have."""

    number: int
    host: int
    sid: int
    key: bytes
    sampler: Sampler
    tokens: list[int]
    prompt: int
    max_new: int
    rows: int
    ahead: int
    next_id: int = 1


@dataclass(slots=True)
class _Served:
    end: StreamEnd
    tally: Tally
    target: bytes
    by_sid: dict[int, Session] = field(default_factory=dict)


class Drafting:
    """All sessions of all hosts.

    Args:
        send: queues messages for the worker; drops them if none is ready, as a new one is replayed.
        learnt: what is known of each target, and where what the worker learns is kept.
    """

    def __init__(self, send: Callable[..., None], learnt: Learnt) -> None:
        self._send = send
        self._learnt = learnt
        self._hosts: dict[int, _Served] = {}
        self._sessions: dict[int, Session] = {}
        self._last_number = 0
        self.is_finishing = False  # new sessions are declined

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    @property
    def has_budget(self) -> bool:
        return any(session.rows for session in self._sessions.values())

    def sessions_of(self, host: int) -> int:
        return len(self._hosts[host].by_sid) if host in self._hosts else 0

    # Streams.

    def join(self, host: int, end: StreamEnd, tally: Tally, target: bytes) -> None:
        """A stream to `host` is welcome: sessions may come. `tally` outlives the stream.

        `target` is the model that the host names in its WELCOME.
        """
        self._hosts[host] = _Served(end, tally, target)
        self._send(self._introduce(host))

    def leave(self, host: int) -> None:
        """The stream ended, and all its sessions with it."""
        served = self._hosts.pop(host, None)
        if served is not None:
            for session in served.by_sid.values():
                del self._sessions[session.number]
                self._send(Close(session.number))

    def hear(self, host: int, event: Any) -> None:
        """Take what the stream's end says of a session; other events are none of this room's."""
        match event:
            case node_end.Opened():
                self._open(host, event)
            case node_end.Committed():
                self._commit(host, event)
            case node_end.Budgeted():
                self._budget(host, event)
            case node_end.Closed():
                self._close(host, event.sid)
            case _:
                pass

    # The worker.

    def replay(self) -> None:
        """Tell a new worker everything: hosts, then each session as it stands now."""
        for host in self._hosts:
            self._send(self._introduce(host))
        for session in self._sessions.values():
            self._send(*_opening(session))

    def worker_said(self, message: Any) -> None:
        match message:
            case Grown():
                for growth in message.growths:
                    self._grow(growth)
            case Refused():
                self._decline(message.session, _close_reason(message.reason))
            case Closed() if message.reason == "gap":
                if message.session in self._sessions:
                    self._send(*_opening(self._sessions[message.session]))
            case Closed():
                reason = _DECLINED.get(message.reason, CloseReason.ERROR)
                self._decline(message.session, reason)
            case Calibration() if message.host in self._hosts:
                self._learnt.learn(self._hosts[message.host].target, message.table)
            case _:
                pass

    def _introduce(self, host: int) -> Host:
        return Host(host, weight=1.0, calibration=self._learnt.table(self._hosts[host].target))

    def _open(self, host: int, event: node_end.Opened) -> None:
        if self.is_finishing:
            self._hosts[host].end.decline(event.sid, CloseReason.PAUSED)
            return
        self._last_number += 1
        session = Session(
            self._last_number,
            host,
            event.sid,
            event.key,
            event.sampler,
            list(event.tokens),
            len(event.tokens),
            event.max_new,
            event.rows,
            event.ahead,
        )
        self._sessions[session.number] = session
        self._hosts[host].by_sid[event.sid] = session
        self._send(*_opening(session))

    def _commit(self, host: int, event: node_end.Committed) -> None:
        served = self._hosts[host]
        served.tally.committed += len(event.tokens)
        served.tally.credited += event.credited
        session = served.by_sid.get(event.sid)
        if session is None:
            return  # declined here, and the host has not heard of it yet
        session.tokens += event.tokens
        session.rows, session.ahead = event.rows, event.ahead
        number = session.number
        self._send(Commit(number, event.pos, event.tip, event.tokens, event.rows, event.ahead))

    def _budget(self, host: int, event: node_end.Budgeted) -> None:
        session = self._hosts[host].by_sid.get(event.sid)
        if session is not None:
            session.rows, session.ahead = event.rows, event.ahead
            self._send(Budget(session.number, event.rows, event.ahead))

    def _close(self, host: int, sid: int) -> None:
        session = self._hosts[host].by_sid.pop(sid, None)
        if session is not None:
            del self._sessions[session.number]
            self._send(Close(session.number))

    def _grow(self, growth: Growth) -> None:
        session = self._sessions.get(growth.session)
        if session is None or growth.first != session.next_id:
            return  # said before the worker heard of a Close, or of an Open in its place
        session.next_id += len(growth.tokens)
        served = self._hosts[session.host]
        served.tally.drafted += len(growth.tokens)
        served.end.grow(session.sid, growth)

    def _decline(self, number: int, reason: CloseReason) -> None:
        session = self._sessions.pop(number, None)
        if session is not None:
            served = self._hosts[session.host]
            del served.by_sid[session.sid]
            served.end.decline(session.sid, reason)


def _opening(session: Session) -> list[Open | Feed]:
    """Return the messages that open a session with all its tokens, committed ones included."""
    chunks = [
        tuple(session.tokens[start : start + OPEN_TOKENS])
        for start in range(0, len(session.tokens), OPEN_TOKENS)
    ]
    committed = len(session.tokens) - session.prompt
    opening = Open(
        session.number,
        session.host,
        session.key,
        session.sampler,
        max(0, session.max_new - committed),
        chunks[0],
        len(chunks) == 1,
        session.rows,
        session.ahead,
        session.next_id,
    )
    return [opening, *_feeds(session.number, chunks[1:])]


def _feeds(number: int, chunks: Sequence[tuple[int, ...]]) -> list[Feed]:
    last = len(chunks) - 1
    return [Feed(number, chunk, place == last) for place, chunk in enumerate(chunks)]


def _close_reason(number: int) -> CloseReason:
    try:
        return CloseReason(number)
    except ValueError:
        return CloseReason.ERROR
