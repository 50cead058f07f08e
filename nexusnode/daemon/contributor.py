"""What the node does and why: the policy's decision carried out on worker and hosts, and shown.

Owns the user's wish and the decision; whoever wants to know gets a `Snapshot`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import trio

from nexusnode.control.messages import HostView, Pause, Snapshot, WorkerView
from nexusnode.daemon.drafting import Drafting
from nexusnode.daemon.host import Host
from nexusnode.daemon.hosts import Hosts
from nexusnode.daemon.worker import DraftWorker
from nexusnode.draft.messages import Loaded, Pace
from nexusnode.policy.decide import Decision, decide
from nexusnode.policy.facts import Facts, Limits, Memory, Moment, Wish
from nexusnode.states import Missing, Reason, State
from p2p.drafting.node_end import NodeOffer
from p2p.errors import ControlError
from p2p.log import Log
from p2p.wire.messages import ByeReason, DraftOffer

MEMORY_RETRY_SECONDS = 300.0  # chosen: closing a program takes a person minutes
MAX_LINE = 1000  # of a reason, in a snapshot
PUBLISH_SECONDS = 0.5  # at most so often: counters change with every decode
FINISH_SECONDS = 60.0  # for open sessions to end
_PAUSES = {Reason.USER_PAUSE, Reason.SNOOZE, Reason.PAUSE_UNKNOWN}
REFRESH_SECONDS = 1.0  # at least so often while somebody watches


@dataclass(frozen=True, slots=True)
class Profile:
    """What never changes while the daemon runs, to be shown and offered."""

    node_id: str
    agent: str
    model: str
    model_path: str
    draft: DraftOffer
    memory_bytes: int = 0


class Contributor:
    """Carries out the policy. `begin` gives it worker, hosts and sessions before `run`.

    Args:
        wish: what the user asked for before this start.
        bytes_today: sent and received since midnight.
        has_autostart: whether the node starts with the session.
    """

    def __init__(
        self,
        profile: Profile,
        limits: Limits,
        clock: Callable[[], Moment],
        log: Log,
        wish: Wish | None = None,
        bytes_today: Callable[[], int] = lambda: 0,
        has_autostart: Callable[[], bool] = lambda: False,
    ) -> None:
        self._profile = profile
        self._limits = limits
        self._clock = clock
        self._log = log
        self._wish = wish or Wish()
        self._bytes_today = bytes_today
        self._has_autostart = has_autostart
        self._facts = Facts()
        self._memory = Memory()
        self._decision, _ = decide(self._facts, limits, self._wish, self._memory, clock())
        self._poke = trio.Event()
        self._dirty = trio.Event()
        self._started = trio.current_time()
        self._is_serving = False
        self._paced = 1.0  # what the worker was told last
        self.quit = trio.Event()
        # Set by `begin`: each of them is made with this contributor in its hands.
        self._worker: DraftWorker
        self._hosts: Hosts
        self._drafting: Drafting

    def begin(self, worker: DraftWorker, hosts: Hosts, drafting: Drafting) -> None:
        self._worker = worker
        self._hosts = hosts
        self._drafting = drafting

    # What the user wants.

    @property
    def wish(self) -> Wish:
        return self._wish

    def pause(self, wish: Pause) -> None:
        """Pause for a while, until a time, or until resumed."""
        now = self._clock()
        if wish.for_seconds is not None and wish.until_unix_seconds is not None:
            raise ControlError("pause takes a length or a time, not both")
        if wish.until_unix_seconds is not None and wish.until_unix_seconds <= now.unix_seconds:
            raise ControlError("pause until a time that is over: expected one to come")
        boot_until = None if wish.for_seconds is None else now.boot_seconds + wish.for_seconds
        self._wish = Wish(True, boot_until, wish.until_unix_seconds)
        self._log.event("user.pause", seconds=wish.for_seconds, until=wish.until_unix_seconds)
        self._decide_soon()

    def resume(self) -> None:
        self._wish = Wish()
        self._facts = replace(self._facts, memory_short_until=None)
        self._log.event("user.resume")
        self._decide_soon()

    def run_anyway(self, seconds: float) -> None:
        """Do not wait for the user to be away for so long; it ends a pause of his, too."""
        self._wish = Wish(anyway_until=self._clock().boot_seconds + seconds)
        self._log.event("user.run-anyway", seconds=seconds)
        self._decide_soon()

    def finish(self) -> None:
        """Take no new sessions and pause when the open ones have ended, or a minute is over."""
        if not _PAUSES.intersection(self._decision.blockers):  # one that is over is none
            self._wish = Wish(finish_until=self._clock().boot_seconds + FINISH_SECONDS)
        self._log.event("user.finish", sessions=self._drafting.session_count)
        self._decide_soon()

    def stop(self) -> None:
        """End the daemon: its nursery waits for `quit`."""
        self._wish = replace(self._wish, quitting=True)
        self._decide_soon()
        self.quit.set()

    def relocate(self, path: str) -> None:
        """The model's file has moved."""
        self._profile = replace(self._profile, model_path=path)
        self._worker.relocate(path)
        self.changed()

    @property
    def node_id(self) -> str:
        return self._profile.node_id

    @property
    def model_path(self) -> str:
        return self._profile.model_path

    def set_limits(self, limits: Limits) -> None:
        self._limits = limits
        self._decide_soon()

    def sense(self, facts: Facts) -> None:
        """The sensors say this; what this node knows of itself is added here."""
        self._facts = replace(facts, memory_short_until=self._facts.memory_short_until)
        self._poke.set()

    # What the worker says.

    def worker_ready(self, loaded: Loaded) -> None:
        self._paced = 1.0
        self._pace(self._decision.duty)
        self._drafting.replay()
        if self._is_serving:
            self._hosts.open(self._offer(loaded))
        self.changed()

    def worker_said(self, message: Any) -> None:
        self._drafting.worker_said(message)

    def worker_changed(self) -> None:
        self._decide_soon()

    def worker_short_of_memory(self) -> None:
        until = self._clock().boot_seconds + MEMORY_RETRY_SECONDS
        self._facts = replace(self._facts, memory_short_until=until)
        self._worker.allow(False)  # before the next start, which would be at once
        self._decide_soon()

    # Carrying out.

    async def run(self) -> None:
        """Decide whenever something happened, and at the latest when the decision says."""
        while True:
            self._poke = trio.Event()
            before = self._decision
            self._decision, self._memory = self._decide()
            if self._wish.finish_until is not None and not self._decision.may_run:
                self._wish = Wish(paused=True)  # finished: sessions to come do not undo it
            await self._carry_out(self._decision)
            if shown(before) != shown(self._decision):
                self.changed()
            with trio.move_on_after(self._decision.next_check_seconds):
                await self._poke.wait()

    async def farewell(self) -> None:
        """Kill the worker and say goodbye to all hosts."""
        self._worker.allow(False)
        await self._hosts.close(ByeReason.SHUTDOWN)

    async def _carry_out(self, decision: Decision) -> None:
        """The memory first: the worker is killed before a host is told."""
        may_run = decision.may_run
        self._drafting.is_finishing = decision.state is State.FINISHING
        self._worker.allow(may_run)
        self._pace(decision.duty)
        serves = may_run and not self._worker.is_model_bad
        if serves == self._is_serving:
            return
        self._is_serving = serves
        self._log.event("state", state=decision.state.value, reason=decision.reason.value)
        if not serves:
            await self._hosts.close(ByeReason.PAUSED)
        elif self._worker.loaded is not None:
            self._hosts.open(self._offer(self._worker.loaded))

    def _offer(self, loaded: Loaded) -> NodeOffer:
        step_seconds = loaded.costs[0] if loaded.costs else 0.0
        return NodeOffer(
            agent=self._profile.agent,
            drafts=(self._profile.draft,),
            max_sessions=loaded.sessions,
            max_context=loaded.context,
            tokens_per_second=round(1 / step_seconds) if step_seconds > 0 else 0,
        )

    def _decide_soon(self) -> None:
        self._poke.set()
        self.changed()

    def _pace(self, duty: float) -> None:
        if duty > 0 and duty != self._paced and self._worker.is_ready:
            self._paced = duty
            self._worker.send(Pace(duty))

    def _decide(self) -> tuple[Decision, Memory]:
        # What the worker takes is no longer free: it needs nothing more.
        need = 0 if self._worker.pid is not None else self._profile.memory_bytes
        facts = replace(
            self._facts,
            memory_need_bytes=need,
            bytes_today=self._bytes_today(),
            sessions=self._drafting.session_count,
        )
        return decide(facts, self._limits, self._wish, self._memory, self._clock())

    # Showing.

    def changed(self) -> None:
        """Something worth showing changed."""
        self._dirty.set()

    async def show(
        self, publish: Callable[[Snapshot], None], is_watched: Callable[[], bool]
    ) -> None:
        """Publish snapshots while somebody watches."""
        while True:
            with trio.move_on_after(REFRESH_SECONDS):
                await self._dirty.wait()
            self._dirty = trio.Event()
            if is_watched():
                publish(self.snapshot())
            await trio.sleep(PUBLISH_SECONDS)

    def snapshot(self) -> Snapshot:
        self._worker.note_drafting(self._drafting.has_budget, self._drafting.session_count > 0)
        decision, _ = self._decide()
        until = decision.until_unix
        return Snapshot(
            state=decision.state.value,
            reason=decision.reason.value,
            blockers=tuple(blocker.value for blocker in decision.blockers),
            missing=tuple(missing.value for missing in self._missing(decision)),
            until_unix_seconds=None if until is None else round(until),
            node_id=self._profile.node_id,
            model=self._profile.model,
            model_path=self._profile.model_path,
            tok_fp=self._profile.draft.tok_fp.hex(),
            worker=self._worker_view(),
            hosts=tuple(self._host_view(host) for host in self._hosts.all),
            bootstrap_peers=self._hosts.directory_servers,
            uptime_seconds=trio.current_time() - self._started,
            duty=decision.duty,
            autostart=self._has_autostart(),
        )

    def _missing(self, decision: Decision) -> list[Missing]:
        if not decision.may_run:
            return []
        holds = {
            Missing.MODEL: not self._worker.is_model_bad,
            Missing.WORKER: self._worker.is_ready,
            Missing.HOST: self._hosts.served > 0,
        }
        return [missing for missing, is_there in holds.items() if not is_there]

    def _worker_view(self) -> WorkerView:
        worker = self._worker
        return WorkerView(
            state=worker.state.value,
            reason=worker.reason[:MAX_LINE],
            pid=worker.pid,
            restarts=worker.restarts,
            sessions=self._drafting.session_count,
            rss_bytes=worker.stats.rss_bytes if worker.pid else 0,
        )

    def _host_view(self, host: Host) -> HostView:
        return HostView(
            peer=str(host.peer),
            address=host.addresses[0] if host.addresses else "",
            state=host.state.value,
            reason=host.reason[:MAX_LINE],
            sessions=self._drafting.sessions_of(host.index),
            drafted=host.tally.drafted,
            credited=host.tally.credited,
            committed=host.tally.committed,
        )


def shown(decision: Decision) -> tuple[object, ...]:
    """Return what of a decision is worth telling at once; the rest is told by the second."""
    return decision.state, decision.blockers, decision.duty
