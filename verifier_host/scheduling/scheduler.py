"""The engine's mind: sessions and guesses in, steps out, and what each step has made final.

Pure: the worker reads clock and pipe, runs the model and calls, in turn, `plan` and `apply`.
Between the two only guesses may come. What a guess says never enters a token's choice: `accept`
decides by equality alone (docs/protocol.md, 4).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from verifier_host.messages import (
    Admitted,
    Committed,
    Finished,
    FinishReason,
    Gauge,
    Guesses,
    Leave,
    Refused,
    Start,
)
from verifier_host.messages import Rows as Budget
from verifier_host.scheduling.contest import Contest
from verifier_host.scheduling.holds import Holds
from verifier_host.scheduling.host_drafter import HostDrafter
from verifier_host.scheduling.memory import NO_COPIES, Copies, Memory
from verifier_host.scheduling.pacing import MAX_TREE_ROWS, budget
from verifier_host.scheduling.plan import CHUNK, Part, Picked, chunks, pack, pick
from verifier_host.scheduling.preempt import next_in, victim
from verifier_host.scheduling.rows import TILE, Chosen, Int32, Rows
from verifier_host.scheduling.sessions import Session, is_hosts_alone
from verifier_host.scheduling.survival import Survival
from verifier_host.scheduling.times import StepTimes, shape_of
from verifier_host.scheduling.walk import committed, learn, walk

Said = Admitted | Committed | Finished | Refused
PROMPT_EVERY = 4  # steps at most without `CHUNK` rows of prompts
BUDGET_CHANGE = 0.25  # a smaller change is not announced
_NO_FLIGHT: tuple[Int32, list[Part]] = (NO_COPIES.source, [])


@dataclass(frozen=True, slots=True)
class Step:
    """Copy, then compute."""

    copies: Copies
    rows: Rows


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for messages until then, and plan again."""

    until: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do before a message comes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step has made final; the copies must be made before the next plan."""

    said: list[Said]
    copies: Copies


class Scheduler:
    """All sessions of one engine.

    Args:
        has_ngram: sessions that may be drafted get the host's own drafter.
        trial: (rows, seconds) of steps measured at load, rows rising from 1.
        drafts_always: also where it is slower.

    Attributes:
        context: tokens of the longest text that can be served.
        has_news: a budget has gone to or from 0 since the last gauge.
    """

    def __init__(
        self,
        slots: int,
        max_context: int,
        max_rows: int,
        vocabulary: int,
        end_ids: Collection[int],
        has_ngram: bool = False,
        trial: Sequence[tuple[int, float]] = (),
        drafts_always: bool = False,
    ) -> None:
        self._memory = Memory(slots, max_rows)
        self.context = min(max_context, self._memory.total * TILE)
        self._max_rows = max_rows
        self._max_sessions = max(1, max_rows // 2)  # roots leave room for prompts in every step
        self._reserve = min(CHUNK, max_rows // 2)
        self.has_news = False
        self._vocabulary = vocabulary
        self._end_ids = frozenset(end_ids)
        self._has_ngram = has_ngram
        self._times = StepTimes(max_rows, shape_of(trial))
        self._survival = Survival()
        self._holds = Holds()
        self._contest = Contest(drafts_always)
        self._drafters: set[int] = set()
        self._sessions: dict[int, Session] = {}
        self._waiting: list[Session] = []
        self._admitted: list[Session] = []
        self._turns: dict[bytes, int] = {}
        self._let_in: list[tuple[int, float]] = []  # session, when; since the last step
        self._flight = _NO_FLIGHT
        self._busy_since: float | None = None
        self._busy_seconds = self._compute_seconds = 0.0
        self._started = self._last_turn = 0
        self._starved = 0
        self._steps = self._rows_target = self._rows_draft = self._rows_prompt = 0
        self._accepted = self._stale = self._preemptions = 0
        self._rows_host = self._accepted_host = 0
        self._by_depth = [0] * MAX_TREE_ROWS

    # Events.

    def start(self, start: Start) -> list[Said]:
        """Take a session on; it may be refused, or over at once."""
        self.cancel(start.session)
        length = len(start.prompt)
        if length >= self.context:
            text = (
                f"the prompt has {length} tokens; this host serves {self.context} with the answer"
            )
            return [Refused(start.session, "request.context-length-exceeded", text)]
        if max((*start.prompt, *start.committed)) >= self._vocabulary:
            text = f"a token id of the prompt is not below the vocabulary's {self._vocabulary}"
            return [Refused(start.session, "request.invalid", text)]
        limit = min(self.context, length + start.max_new)
        if length + len(start.committed) >= limit:
            return [Finished(start.session, FinishReason.LENGTH, 0)]
        self._started += 1
        session = Session(start, self._started, self._vocabulary, limit, self._holds.pace)
        self._sessions[session.number] = session
        self._waiting.append(session)
        if self._has_ngram and start.is_drafted:
            session.own = HostDrafter()
            session.own.draft(session.tree)
        return []

    def guesses(self, block: Guesses, now: float) -> None:
        """Merge a block into its session's tree; what is of no use is counted."""
        session = self._sessions.get(block.session)
        if session is None:
            self._stale += len(block.tokens)
            return
        if block.drafter not in self._drafters:
            self._drafters.add(block.drafter)
            self._contest.drafters_changed()
        added = session.tree.add(
            block.drafter, block.pos, block.first, block.parents, block.tokens, block.scores
        )
        self._stale += added.stale + added.surplus
        session.arrivals.arrive(added.live, now)

    def leave(self, leave: Leave) -> None:
        """Forget a drafter in one session, or everywhere."""
        if leave.session:
            if session := self._sessions.get(leave.session):
                session.tree.leave(leave.drafter)
            return
        for session in self._sessions.values():
            session.tree.leave(leave.drafter)
        self._survival.forget(leave.drafter)
        self._drafters.discard(leave.drafter)
        self._contest.drafters_changed()

    def cancel(self, number: int) -> None:
        """End a session without a word."""
        session = self._sessions.get(number)
        if session is not None:
            self._drop(session)

    # Steps.

    def plan(self, now: float) -> Step | Hold | Idle:
        """Say what the engine does next."""
        copies = self._find_room(now)
        if not self._admitted:
            self._busy_since = None
            self._contest.rest()
            self._holds.end(now)
            self._holds.rate.rest()
            return Idle()
        self._times.look(sum(session.cached for session in self._admitted))
        warmth = sum(session.start.sampling.temperature for session in self._admitted)
        self._contest.look(len(self._admitted), warmth / len(self._admitted))
        if self._busy_since is None:
            self._busy_since = now
        roots = [session for session in self._admitted if session.pending == 1]
        prompts = [session for session in self._admitted if session.pending > 1]
        is_drafting = self._contest.is_drafting
        if is_drafting and not prompts and not copies:
            until = self._holds.until(roots, self._survival, self._times.curve, now)
            if until is not None:
                return Hold(until)
        self._holds.end(now)
        room = self._max_rows - len(roots)
        reserved = self._reserve if prompts and self._starved >= PROMPT_EVERY - 1 else 0
        most = room - reserved if is_drafting else 0
        picked = pick(roots, self._survival, self._times.curve, most)
        drafting = [
            (session, self._rooted(session, choice))
            for session, choice in zip(roots, picked, strict=True)
        ]
        room -= sum(len(choice.guesses) for _, choice in drafting)
        shares = chunks(prompts, room)
        prompt_rows = sum(count for _, count in shares)
        self._starved = self._starved + 1 if prompts and prompt_rows < self._reserve else 0
        rows, parts = pack(drafting, shares, self._memory.scratch)
        self._flight = (rows.slot, parts)
        self._steps += 1
        self._rows_target += len(roots)
        self._rows_prompt += prompt_rows
        self._rows_draft += len(rows.token) - len(roots) - prompt_rows
        return Step(_joined(copies), rows)

    def apply(self, chosen: Chosen, step_seconds: float, now: float) -> Outcome:
        """Walk the trees along what the target chose for the rows of the last plan."""
        (slots, parts), self._flight = self._flight, _NO_FLIGHT
        total = parts[-1].stop
        drafted = sum(len(part.picked.guesses) for part in parts)
        self._times.record(total, step_seconds)
        if self._busy_since is not None:
            self._compute_seconds += step_seconds
            self._busy_seconds += now - self._busy_since
            self._busy_since = now
        cost = self._times.seconds(total) / self._times.seconds(total - drafted)
        tokens: list[int] = chosen.tokens.tolist()
        said: list[Said] = [Admitted(number, now - at) for number, at in self._let_in]
        self._let_in.clear()
        source: list[int] = []
        destination: list[int] = []
        for part in parts:
            if part.root < 0:
                part.session.cached += part.stop - part.start
                if part.session.own is not None:
                    part.session.own.draft(part.session.tree)
                continue
            path = walk(part, tokens)
            for row in path[1:]:
                slot = int(slots[part.root + row])
                home = int(part.session.slots[part.picked.guesses[row - 1].position])
                if slot != home:
                    source.append(slot)
                    destination.append(home)
            said += self._commit(part, path, tokens, chosen, cost, now)
        self._judge(parts, said, now)
        return Outcome(said, _copies(source, destination))

    def _judge(self, parts: Sequence[Part], said: Sequence[Said], now: float) -> None:
        """Let the contest see a step that has ended."""
        is_prompt = any(part.root != part.start for part in parts)
        is_open = not is_prompt and any(part.session.start.is_drafted for part in parts)
        won = sum(len(one.tokens) for one in said if isinstance(one, Committed))
        if is_prompt:
            self._holds.rate.rest(now)
        else:
            self._holds.rate.record(won, now)
        self.has_news |= self._contest.record(won, is_open, now)

    def gauge(self, rss_bytes: int) -> Gauge:
        """Return the counts, and announce budgets."""
        self.has_news = False
        for session in self._sessions.values():
            wanted = self._wanted(session)
            if _is_news(session.announced, wanted):
                session.announced = wanted
        memory = self._memory
        return Gauge(
            running=len(self._admitted),
            waiting=len(self._waiting),
            slots_held=memory.held * TILE,
            slots_cached=memory.cached * TILE,
            slots_free=memory.free * TILE,
            steps=self._steps,
            rows_target=self._rows_target,
            rows_draft=self._rows_draft,
            rows_prompt=self._rows_prompt,
            rows_host=self._rows_host,
            accepted=self._accepted,
            accepted_host=self._accepted_host,
            stale=self._stale,
            preemptions=self._preemptions,
            prefix_queries=memory.prefix_queries,
            prefix_hits=memory.prefix_hits,
            holds=self._holds.count,
            hold_seconds=self._holds.seconds,
            compute_seconds=self._compute_seconds,
            busy_seconds=self._busy_seconds,
            step_seconds=self._times.measured,
            accepted_by_depth=tuple(self._by_depth),
            budgets=tuple(
                Budget(session.number, session.announced) for session in self._sessions.values()
            )[:4096],
            rss_bytes=rss_bytes,
        )

    def check(self) -> None:
        """Assert that no slot is lost or in two places."""
        self._memory.check(self._admitted)
        assert all(not session.tiles for session in self._waiting)
        assert len(self._sessions) == len(self._waiting) + len(self._admitted)

    # Room.

    def _find_room(self, now: float) -> list[Copies]:
        """See that every root has a slot, and let in who fits."""
        preempted = False
        for session in sorted(self._admitted, key=lambda session: session.order):
            while session.tiles and not self._memory.grow(session, len(session.text)):
                self._preempt(victim(self._admitted))
                preempted = True
        copies: list[Copies] = []
        while not preempted and len(self._admitted) < self._max_sessions:
            first = next_in(self._waiting, self._admitted, self._turns)
            made = self._memory.admit(first) if first else None
            if first is None or made is None:
                break
            copies.append(made)
            self._waiting.remove(first)
            self._admitted.append(first)
            self._turns[first.start.namespace] = self._last_turn = self._last_turn + 1
            first.is_fresh = True
            if first.admitted_at is None:
                first.admitted_at = now
                self._let_in.append((first.number, now))
        return copies

    def _preempt(self, session: Session) -> None:
        self._memory.release(session)
        self._admitted.remove(session)
        self._waiting.append(session)
        self._preemptions += 1

    def _drop(self, session: Session) -> None:
        del self._sessions[session.number]
        if session in self._waiting:
            self._waiting.remove(session)
        else:
            self._admitted.remove(session)
            self._memory.release(session)

    def _rooted(self, session: Session, picked: Picked) -> Picked:
        """Return the rows picked if their positions can have slots, else none."""
        if picked.guesses:
            deepest = max(guess.position for guess in picked.guesses)
            if not self._memory.grow(session, deepest + 1):
                return Picked([], [])
        return picked

    # The walk.

    def _commit(
        self,
        part: Part,
        path: list[int],
        tokens: list[int],
        chosen: Chosen,
        cost: float,
        now: float,
    ) -> list[Said]:
        session = part.session
        found = [tokens[part.root + row] for row in path]
        learn(part, path, found, self._survival)
        for depth in range(len(path) - 1):
            self._by_depth[depth] += 1
        self._accepted += len(path) - 1
        if session.own is not None:
            hosts = [is_hosts_alone(guess) for guess in part.picked.guesses]
            self._rows_host += sum(hosts)
            self._accepted_host += sum(hosts[row - 1] for row in path[1:])
        ending = session.end_of(found, self._end_ids)
        pos = len(session.text)
        sources, credited = session.tree.commit(ending.tokens, part.arrivals)
        session.cached = min(pos + len(path) - 1, len(session.text))
        session.is_fresh = part.root > part.start
        if session.is_fresh:
            self._memory.share(session)
        was_drafting = session.worth.is_drafting
        session.record(ending.tokens, now)
        session.worth.record(len(part.picked.guesses), len(ending.tokens), cost)
        self.has_news |= was_drafting != session.worth.is_drafting
        said: list[Said] = []
        if ending.tokens:
            said.append(committed(part, pos, path, ending.tokens, sources, credited, chosen))
        if ending.reason is not None:
            said.append(Finished(session.number, ending.reason, session.steps))
            self._drop(session)
        elif session.own is not None:
            session.own.draft(session.tree)
        return said

    def _wanted(self, session: Session) -> int:
        if not session.worth.is_drafting or not self._contest.is_drafting:
            return 0
        if session.steps == 0:
            return session.announced
        return budget(max(1, len(self._admitted)), session.alpha, self._times.curve)


def _joined(copies: list[Copies]) -> Copies:
    if not copies:
        return NO_COPIES
    return Copies(
        np.concatenate([one.source for one in copies]),
        np.concatenate([one.destination for one in copies]),
    )


def _copies(source: list[int], destination: list[int]) -> Copies:
    if not source:
        return NO_COPIES
    return Copies(np.array(source, dtype=np.int32), np.array(destination, dtype=np.int32))


def _is_news(old: int, new: int) -> bool:
    return (old == 0) != (new == 0) or abs(new - old) >= BUDGET_CHANGE * max(old, 1)
