"""Anything may happen in any order: the policy against the rules said the slow, obvious way."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusnode.policy.decide import CHECK_SECONDS, MIN_CHECK_SECONDS, Decision, decide
from nexusnode.policy.facts import Facts, Limits, Memory, Moment, Wish
from nexusnode.policy.rules import RULES
from nexusnode.policy.schedule import parse_hours
from nexusnode.states import Reason

AWAY = Facts(last_input=0.0)
GAME = "game"
HOURS = parse_hours(["mon-sun 08:00-20:00"])
STRICT = Limits(
    idle_seconds=60.0,
    apps=frozenset({GAME}),
    hours=HOURS,
    memory_reserve_bytes=100,
    disk_reserve_bytes=100,
    bytes_per_day=100,
)
events = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "wait",
                "sleep",
                "clock",
                "input",
                "blind",
                "seen",
                "pause",
                "snooze",
                "until",
                "finish",
                "anyway",
                "resume",
                "celsius",
                "gpu",
                "battery",
                "apps",
                "fullscreen",
                "memory",
                "short",
                "metered",
                "traffic",
                "disk",
                "suspending",
                "sessions",
            ]
        ),
        st.integers(0, 100),
    ),
    max_size=60,
)


class Machine:
    """A machine to which things happen, and what must follow from them, said the slow way."""

    def __init__(self) -> None:
        self.boot, self.unix = 1000.0, 1_700_049_600.0  # noon
        self.facts, self.wish, self.memory = AWAY, Wish(), Memory()
        self.hot_at: float | None = None
        self.busy_at: float | None = None

    def happens(self, kind: str, value: int) -> None:
        boot, odd = self.boot, bool(value % 2)
        match kind:
            case "wait" | "sleep":  # asleep, the monotonic clock would stand; this one runs
                seconds = value * (60.0 if kind == "sleep" else 1.0)
                self.boot, self.unix = self.boot + seconds, self.unix + seconds
            case "clock":
                self.unix += (value - 50) * 3600.0
            case "input" | "seen":
                self.facts = replace(self.facts, last_input=boot - (value if kind == "seen" else 0))
            case "blind":
                self.facts = replace(self.facts, last_input=None)
            case "pause":
                self.wish = Wish(paused=True)
            case "snooze":
                self.wish = Wish(paused=True, boot_until=boot + value)
            case "until":
                self.wish = Wish(paused=True, unix_until=self.unix + value * 60.0)
            case "finish":
                self.wish = Wish(finish_until=boot + value)
            case "anyway":
                self.wish = Wish(anyway_until=boot + value * 10.0)
            case "resume":
                self.wish = Wish()
            case "celsius":
                self.facts = replace(self.facts, celsius=float(value))
            case "gpu":
                self.facts = replace(self.facts, gpu_other=value / 100)
            case "battery":
                self.facts = replace(self.facts, on_battery=odd)
            case "apps":
                self.facts = replace(self.facts, programs=frozenset({GAME} if odd else {"sh"}))
            case "fullscreen":
                self.facts = replace(self.facts, fullscreen=odd)
            case "memory":
                self.facts = replace(self.facts, memory_free_bytes=value * 4)
            case "short":
                self.facts = replace(self.facts, memory_short_until=boot + value)
            case "metered":
                self.facts = replace(self.facts, metered=odd)
            case "traffic":
                self.facts = replace(self.facts, bytes_today=value + 20)
            case "disk":
                self.facts = replace(self.facts, disk_free_bytes=value * 4)
            case "suspending":
                self.facts = replace(self.facts, suspending=odd)
            case "sessions":
                self.facts = replace(self.facts, sessions=value % 3)

    def decide(self, rules: object = RULES) -> Decision:
        now = Moment(self.boot, self.unix)
        decision, self.memory = decide(
            self.facts,
            STRICT,
            self.wish,
            self.memory,
            now,
            rules,  # type: ignore[arg-type]
        )
        return decision

    def forbidden(self) -> set[Reason]:
        """Return what forbids to run by the facts of this moment alone."""
        facts, wish, hour = self.facts, self.wish, self.unix % 86_400 / 3600
        forced = wish.anyway_until is not None and self.boot < wish.anyway_until
        end = wish.boot_until, wish.unix_until
        snoozes = (end[0] is not None and self.boot < end[0]) or (
            end[1] is not None and self.unix < end[1]
        )
        finishing = wish.finish_until is not None
        runs_out = finishing and facts.sessions > 0 and self.boot < (wish.finish_until or 0)
        last = facts.last_input
        said = {
            Reason.USER_PAUSE: (wish.paused and end == (None, None))
            or (finishing and not runs_out),
            Reason.SNOOZE: wish.paused and snoozes,
            Reason.FINISH: runs_out,
            Reason.SUSPENDING: facts.suspending,
            Reason.HOT: facts.celsius is not None and facts.celsius >= 80,
            Reason.BATTERY: facts.on_battery is True,
            Reason.EXCLUSIVE_APP: GAME in facts.programs,
            Reason.FULLSCREEN: facts.fullscreen is True and not forced,
            Reason.NO_MEMORY: (
                facts.memory_free_bytes is not None and facts.memory_free_bytes < 100
            )
            or (facts.memory_short_until is not None and self.boot < facts.memory_short_until),
            Reason.SCHEDULE: not forced and not 8 <= hour < 20,
            Reason.METERED: facts.metered is True,
            Reason.BANDWIDTH: facts.bytes_today >= 100,
            Reason.DISK: facts.disk_free_bytes is not None and facts.disk_free_bytes < 100,
            Reason.IDLE_UNKNOWN: not forced and last is None,
            Reason.INPUT: not forced and last is not None and self.boot - last < 60,
        }
        return {reason for reason, holds in said.items() if holds}


@pytest.mark.slow
@given(events)
def test_it_runs_exactly_when_nothing_forbids_it_whatever_happens(
    happenings: list[tuple[str, int]],
) -> None:
    machine = Machine()
    for kind, value in happenings:
        machine.happens(kind, value)

        decision, forbidden = machine.decide(), machine.forbidden()

        if Reason.FINISH in forbidden and len(set(decision.blockers) | forbidden) > 1:
            forbidden = forbidden - {Reason.FINISH} | {Reason.USER_PAUSE}
        remembered = {
            reason
            for reason, holds in (
                (Reason.HOT, machine.memory.is_hot),
                (Reason.GPU_BUSY, machine.memory.is_gpu_busy),
                (Reason.NO_MEMORY, machine.memory.is_memory_short),
            )
            if holds
        }
        assert set(decision.blockers) == forbidden | remembered
        assert list(decision.blockers) == sorted(decision.blockers, key=list(Reason).index)
        assert decision.reason is (decision.blockers[0] if decision.blockers else Reason.OK)
        assert decision.may_run == (set(decision.blockers) <= {Reason.FINISH})
        assert (decision.duty > 0) == decision.may_run
        assert MIN_CHECK_SECONDS <= decision.next_check_seconds <= CHECK_SECONDS
        if decision.until_unix is not None:
            wait = decision.until_unix - machine.unix
            assert wait > -1e-3
            assert decision.next_check_seconds <= max(wait, MIN_CHECK_SECONDS) + 1e-3


@pytest.mark.slow
@given(events, st.integers(1, 100), st.booleans())
def test_a_snooze_ends_when_it_says_and_not_before(
    happenings: list[tuple[str, int]], length: int, is_by_clock: bool
) -> None:
    wishes = {"pause", "snooze", "until", "finish", "anyway", "resume", "clock"}
    machine = Machine()
    machine.happens("until" if is_by_clock else "snooze", length)
    end = machine.boot + length * (60.0 if is_by_clock else 1.0)
    for kind, value in happenings:
        if kind not in wishes:
            machine.happens(kind, value)
            assert (Reason.SNOOZE in machine.decide().blockers) == (machine.boot < end)
