"""What a draft worker decides and does between its pipe and its engine: sessions, turns, replies.

No process, no pipe, no clock here; `worker.py` is the shell around it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nexusnode.draft.calibration import Calibration, Cell
from nexusnode.draft.engine import CacheFull, DraftEngine, Logits
from nexusnode.draft.frontier import RUN_ROWS, Turn, Want, prompt_rows
from nexusnode.draft.messages import (
    Bin,
    Budget,
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
from nexusnode.draft.messages import Calibration as Learnt
from nexusnode.draft.sequences import Piece, Sequences
from nexusnode.draft.session import Session
from p2p.wire.messages import CloseReason


@dataclass(slots=True)
class Counts:
    """Since the start; they only grow."""

    drafted: int = 0
    decodes: int = 0
    rows: int = 0
    prompt: int = 0
    hits: int = 0


class Drafter:
    """All sessions of one engine."""

    def __init__(self, engine: DraftEngine, prior: Mapping[Cell, float] | None = None) -> None:
        self.counts = Counts()
        self._engine = engine
        self._prior = prior
        self._sequences = Sequences(engine)
        self._sessions: dict[int, Session] = {}
        self._turn = Turn()
        self._weights: dict[int, float] = {}
        self._calibrations: dict[int, Calibration] = {}

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    @property
    def is_asleep(self) -> bool:
        """No session has a budget: nothing happens until a message comes."""
        return not any(session.rows for session in self._sessions.values())

    def handle(self, message: object) -> list[object]:
        """Apply one message of the daemon's; return what to say at once.

        A message for a session that is not there has crossed its Closed or Refused: no answer.
        """
        match message:
            case Open():
                return self._open(message)
            case Host():
                self._weights[message.host] = message.weight
                # From the start: the number may have been another host's, or its target another.
                self._calibrations.pop(message.host, None)
                cells = (
                    (Cell(c.rank, c.margin, c.band, c.source), c.offers, c.hits)
                    for c in message.calibration
                )
                self._calibration(message.host).restore(cells)
            case Feed() | Commit() | Budget() | Close():
                session = self._sessions.get(message.session)
                if session is not None:
                    return self._tell(session, message)
        return []

    def turn(self) -> list[object]:
        """Grow what needs no decode, then decode once for all sessions; return what to say.

        Raises:
            EngineLost: the worker must end.
        """
        growths = [
            growth
            for session in self._sessions.values()
            if session.rows
            for growth in session.grow()
        ]
        if growths:
            # A commit onto a known path costs no decode: its guesses do not wait for one.
            return self._grown(growths)
        wants, tokens = self._wants()
        chosen = self._turn.choose(wants, self._weights)
        if not chosen:
            return []
        pieces = []
        for want in chosen:
            session = self._sessions[want.session]
            piece = tokens[want.session]
            if session.places:
                pieces.append(Piece(session.stream, piece, len(piece)))
            else:
                is_last = self._sequences.length(session.stream) + len(piece) == len(session.tokens)
                pieces.append(Piece(session.stream, piece, int(is_last)))
        try:
            found = self._sequences.decode(pieces)
        except CacheFull:
            return [self._end(self._longest(chosen), "full")]
        self.counts.decodes += 1
        for want, decoded, logits in zip(chosen, pieces, found, strict=True):
            self.counts.rows += want.rows
            growths += self._take(self._sessions[want.session], decoded, logits)
        return self._grown(growths)

    def learnt(self) -> list[object]:
        """Return the calibration of each host that has changed since the last call."""
        messages: list[object] = []
        for host, calibration in self._calibrations.items():
            if calibration.is_changed:
                calibration.is_changed = False
                table = tuple(
                    Bin(*cell, offers, hits) for cell, offers, hits in calibration.table()
                )
                messages.append(Learnt(host, table))
        return messages

    def _open(self, opened: Open) -> list[object]:
        if opened.session in self._sessions:
            self._drop(self._sessions[opened.session])
        if not self._sequences.free:
            return [Refused(opened.session, CloseReason.DECLINED_BUSY)]
        session = Session(opened, self._sequences.take(), self._calibration(opened.host))
        self._sessions[opened.session] = session
        return self._feed(session, opened.tokens, opened.last)

    def _tell(self, session: Session, message: Feed | Commit | Budget | Close) -> list[object]:
        match message:
            case Feed(tokens=tokens, last=last):
                return self._feed(session, tokens, last)
            case Budget(rows=rows, ahead=ahead):
                session.rows, session.ahead = rows, ahead
            case Close():
                self._drop(session)
            case Commit():
                return self._commit(session, message)
        return []

    def _feed(self, session: Session, tokens: tuple[int, ...], last: bool) -> list[object]:
        session.feed(tokens, last)
        # One position is left for a guess: a session without room for any is of no use.
        is_long = len(session.tokens) >= self._engine.limits.context
        is_wrong = self._is_foreign(tokens) or (last and not session.tokens)
        if is_long or is_wrong:
            self._drop(session)
            reason = CloseReason.ERROR if is_wrong else CloseReason.DECLINED_CONTEXT
            return [Refused(session.number, reason)]
        return []

    def _commit(self, session: Session, commit: Commit) -> list[object]:
        if not session.is_complete or commit.pos != len(session.tokens):
            return [self._end(session, "gap")]
        if self._is_foreign(commit.tokens):
            return [self._end(session, "token")]
        session.rows, session.ahead = commit.rows, commit.ahead
        self.counts.hits += session.commit(commit.tokens)
        if not session.places:
            self._sequences.cut(session.stream, session.agreed)
        if len(session.tokens) >= self._engine.limits.context:
            return [self._end(session, "context")]
        return []

    def _wants(self) -> tuple[list[Want], dict[int, list[int]]]:
        """Return what each session would have decoded, and those tokens."""
        limits = self._engine.limits
        wants: list[Want] = []
        tokens: dict[int, list[int]] = {}
        prompts: list[tuple[Session, int]] = []
        for session in self._sessions.values():
            if not session.is_complete or session.depth < 1:
                continue
            if session.places:
                piece = list(session.extension(limits.ends, limits.context, limits.costs))
            else:
                start = self._sequences.length(session.stream)
                if len(session.tokens) - start > RUN_ROWS:
                    prompts.append((session, start))
                    continue
                piece = session.tokens[start:]
            if piece:
                tokens[session.number] = piece
                wants.append(Want(session.number, session.host, session.survival, len(piece)))
        rows = prompt_rows(bool(wants))
        for session, start in prompts:
            piece = session.tokens[start : start + rows]
            tokens[session.number] = piece
            wants.append(Want(session.number, session.host, 1.0, len(piece), is_prompt=True))
        return wants, tokens

    def _take(self, session: Session, piece: Piece, logits: Logits) -> list[Growth]:
        if not session.places:
            self.counts.prompt += len(piece.tokens)
            if not piece.outputs:
                return []
            session.begin(logits[0])
            return session.grow()
        growths = session.extend(piece.tokens, logits)
        self._sequences.cut(session.stream, len(session.tokens) + len(session.path))
        return growths

    def _grown(self, growths: list[Growth]) -> list[object]:
        self.counts.drafted += sum(len(growth.tokens) for growth in growths)
        return [Grown(tuple(growths))] if growths else []

    def _longest(self, chosen: list[Want]) -> Session:
        sessions = [self._sessions[want.session] for want in chosen]
        return max(sessions, key=lambda session: self._sequences.length(session.stream))

    def _end(self, session: Session, reason: str) -> Closed:
        self._drop(session)
        return Closed(session.number, reason)

    def _drop(self, session: Session) -> None:
        self._sequences.release(session.stream)
        del self._sessions[session.number]

    def _is_foreign(self, tokens: tuple[int, ...]) -> bool:
        return max(tokens, default=0) >= self._engine.limits.vocabulary

    def _calibration(self, host: int) -> Calibration:
        if host not in self._calibrations:
            self._calibrations[host] = Calibration(self._prior)
        return self._calibrations[host]
