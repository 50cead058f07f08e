from dataclasses import replace

import pytest

from nexusnode.policy.decide import CHECK_SECONDS, MIN_CHECK_SECONDS, Decision, decide
from nexusnode.policy.facts import Facts, Limits, Memory, Moment, Wish
from nexusnode.policy.hysteresis import COOL_SECONDS, GPU_FREE_SECONDS, GPU_SECONDS
from nexusnode.policy.rules import RULES
from nexusnode.policy.schedule import parse_hours
from nexusnode.states import Reason, State

ALWAYS = Limits(always=True)
NOW = Moment(boot_seconds=1000.0, unix_seconds=1_700_000_000.0)  # Tuesday 22:13:20 UTC
AWAY = Facts(last_input=0.0)


def once(
    facts: Facts = AWAY,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    wish: Wish = Wish(),  # noqa: B008 - frozen
    now: Moment = NOW,
    memory: Memory = Memory(),  # noqa: B008 - frozen
) -> Decision:
    return decide(facts, limits, wish, memory, now)[0]


# Each situation is blocked by its reason and by nothing else.
BLOCKED: dict[Reason, tuple[Facts, Limits, Wish, Memory]] = {
    Reason.QUIT: (AWAY, Limits(), Wish(quitting=True), Memory()),
    Reason.USER_PAUSE: (AWAY, Limits(), Wish(paused=True), Memory()),
    Reason.SNOOZE: (AWAY, Limits(), Wish(paused=True, boot_until=1600.0), Memory()),
    Reason.PAUSE_UNKNOWN: (AWAY, Limits(), Wish(paused=True, is_unknown=True), Memory()),
    Reason.FINISH: (replace(AWAY, sessions=1), Limits(), Wish(finish_until=1060.0), Memory()),
    Reason.SUSPENDING: (replace(AWAY, suspending=True), Limits(), Wish(), Memory()),
    Reason.HOT: (replace(AWAY, celsius=80.0), Limits(), Wish(), Memory()),
    Reason.BATTERY: (replace(AWAY, on_battery=True), Limits(), Wish(), Memory()),
    Reason.EXCLUSIVE_APP: (
        replace(AWAY, programs=frozenset({"sh", "game"})),
        Limits(apps=frozenset({"game"})),
        Wish(),
        Memory(),
    ),
    Reason.FULLSCREEN: (replace(AWAY, fullscreen=True), Limits(), Wish(), Memory()),
    Reason.GPU_BUSY: (replace(AWAY, gpu_other=0.9), Limits(), Wish(), Memory(is_gpu_busy=True)),
    Reason.NO_MEMORY: (
        replace(AWAY, memory_free_bytes=150, memory_need_bytes=100),
        Limits(memory_reserve_bytes=51),
        Wish(),
        Memory(),
    ),
    Reason.SCHEDULE: (AWAY, Limits(hours=parse_hours(["sat 09:00-17:00"])), Wish(), Memory()),
    Reason.METERED: (replace(AWAY, metered=True), Limits(), Wish(), Memory()),
    Reason.BANDWIDTH: (replace(AWAY, bytes_today=10), Limits(bytes_per_day=10), Wish(), Memory()),
    Reason.DISK: (
        replace(AWAY, disk_free_bytes=9),
        Limits(disk_reserve_bytes=10),
        Wish(),
        Memory(),
    ),
    Reason.IDLE_UNKNOWN: (Facts(), Limits(), Wish(), Memory()),
    Reason.INPUT: (Facts(last_input=900.0), Limits(), Wish(), Memory()),
}


def test_every_reason_to_pause_has_a_rule_and_a_situation() -> None:
    assert set(RULES) == set(BLOCKED) == set(Reason) - {Reason.OK}


@pytest.mark.parametrize("reason", BLOCKED)
def test_each_blocker_alone_pauses_and_without_its_rule_the_node_would_run(reason: Reason) -> None:
    facts, limits, wish, memory = BLOCKED[reason]
    others = {name: rule for name, rule in RULES.items() if name is not reason}

    decision, _ = decide(facts, limits, wish, memory, NOW)
    without, _ = decide(facts, limits, wish, memory, NOW, others)

    assert decision.blockers == (reason,)
    assert decision.reason is reason
    assert decision.state is (State.FINISHING if reason is Reason.FINISH else State.PAUSED)
    assert without.may_run
    assert without.blockers == ()


def test_a_machine_that_is_left_alone_drafts() -> None:
    decision = once()

    assert (decision.state, decision.reason) == (State.RUNNING, Reason.OK)
    assert (decision.duty, decision.blockers) == (1.0, ())
    assert decision.next_check_seconds == CHECK_SECONDS


def test_without_a_sensor_and_without_always_it_stays_paused_and_says_so() -> None:
    assert once(Facts()).reason is Reason.IDLE_UNKNOWN
    assert once(Facts()).until_unix is None
    assert once(Facts(), ALWAYS).reason is Reason.OK


def test_it_waits_out_the_idle_delay_and_says_until_when() -> None:
    decision = once(Facts(last_input=710.0))

    assert (decision.reason, decision.until_unix) == (Reason.INPUT, NOW.unix_seconds + 10)
    assert decision.next_check_seconds == 10.0
    assert once(Facts(last_input=700.0)).reason is Reason.OK
    assert once(Facts(last_input=999.0), ALWAYS).reason is Reason.OK


def test_a_pause_of_which_nothing_more_is_known_holds_until_it_is_taken_back() -> None:
    wish = Wish(paused=True, is_unknown=True)

    assert once(AWAY, ALWAYS, wish, Moment(1e9, 4e9)).reason is Reason.PAUSE_UNKNOWN


def test_a_pause_without_an_end_holds_until_it_is_taken_back() -> None:
    assert once(AWAY, ALWAYS, Wish(paused=True), Moment(1e9, 4e9)).reason is Reason.USER_PAUSE


@pytest.mark.parametrize(
    ("boot", "reason"), [(1099.9, Reason.SNOOZE), (1100.0, Reason.OK), (1100.1, Reason.OK)]
)
def test_a_pause_by_length_ends_by_the_clock_that_runs_in_sleep(
    boot: float, reason: Reason
) -> None:
    wish = Wish(paused=True, boot_until=1100.0)

    assert once(AWAY, ALWAYS, wish, Moment(boot, 0.0)).reason is reason


def test_a_pause_by_length_does_not_move_when_the_wall_clock_is_set() -> None:
    wish = Wish(paused=True, boot_until=1100.0)

    decision = once(AWAY, ALWAYS, wish, Moment(1040.0, 2_000_000_000.0))

    assert decision.reason is Reason.SNOOZE
    assert decision.until_unix == 2_000_000_060.0


@pytest.mark.parametrize(("unix", "reason"), [(499.0, Reason.SNOOZE), (500.0, Reason.OK)])
def test_a_pause_until_a_time_ends_by_the_wall_clock(unix: float, reason: Reason) -> None:
    wish = Wish(paused=True, unix_until=500.0)

    assert once(AWAY, ALWAYS, wish, Moment(7.0, unix)).reason is reason


def test_the_next_check_is_when_the_pause_ends_and_never_busy() -> None:
    soon = once(AWAY, ALWAYS, Wish(paused=True, boot_until=1002.5))
    at_once = once(AWAY, ALWAYS, Wish(paused=True, boot_until=1000.001))

    assert soon.next_check_seconds == 2.5
    assert at_once.next_check_seconds == MIN_CHECK_SECONDS


def test_a_model_that_did_not_fit_waits_and_then_is_tried_again() -> None:
    short = replace(AWAY, memory_short_until=1300.0)

    assert once(short).reason is Reason.NO_MEMORY
    assert once(short).until_unix == NOW.unix_seconds + 300
    assert once(short, now=Moment(1300.0, 0.0)).reason is Reason.OK


def test_the_first_reason_is_shown_and_all_are_listed() -> None:
    facts = Facts(memory_short_until=2000.0, on_battery=True)

    decision = once(facts, Limits(), Wish(paused=True, quitting=True))

    assert decision.reason is Reason.QUIT
    assert decision.blockers == (
        Reason.QUIT,
        Reason.USER_PAUSE,
        Reason.BATTERY,
        Reason.NO_MEMORY,
        Reason.IDLE_UNKNOWN,
    )


def test_run_anyway_skips_only_what_waits_for_the_user_to_be_away() -> None:
    anyway = Wish(anyway_until=1600.0)
    skipped = {Reason.INPUT, Reason.FULLSCREEN, Reason.SCHEDULE, Reason.IDLE_UNKNOWN}
    wishes = {reason for reason, (_, _, wish, _) in BLOCKED.items() if wish != Wish()}

    for reason in set(BLOCKED) - wishes:
        facts, limits, _, memory = BLOCKED[reason]
        assert once(facts, limits, anyway, NOW, memory).may_run == (reason in skipped), reason
    assert once(Facts(), Limits(), anyway, Moment(1600.0, 0.0)).reason is Reason.IDLE_UNKNOWN
    assert once(Facts(), Limits(), Wish(anyway_until=1010.0)).next_check_seconds == 10.0


def test_finishing_runs_on_until_the_sessions_end_or_its_time_is_over() -> None:
    wish, busy = Wish(finish_until=1060.0), replace(AWAY, sessions=2)

    assert once(busy, wish=wish).until_unix == NOW.unix_seconds + 60
    assert once(busy, wish=wish).may_run
    assert once(AWAY, wish=wish).reason is Reason.USER_PAUSE
    assert once(busy, wish=wish, now=Moment(1060.0, 0.0)).reason is Reason.USER_PAUSE


def test_what_is_being_finished_ends_at_once_when_something_forbids_to_run() -> None:
    decision = once(replace(AWAY, sessions=2, on_battery=True), wish=Wish(finish_until=1060.0))

    assert decision.state is State.PAUSED
    assert decision.blockers == (Reason.USER_PAUSE, Reason.BATTERY)


@pytest.mark.parametrize(
    ("percent", "is_allowed", "runs"),
    [(80.0, True, True), (79.9, True, False), (None, True, False), (100.0, False, False)],
)
def test_a_battery_is_used_only_if_allowed_and_full_enough(
    percent: float | None, is_allowed: bool, runs: bool
) -> None:
    facts = replace(AWAY, on_battery=True, battery_percent=percent)

    assert once(facts, Limits(on_battery=is_allowed)).may_run == runs


def test_used_up_data_come_back_at_midnight_of_the_zone() -> None:
    decision = once(replace(AWAY, bytes_today=11), Limits(bytes_per_day=10))

    assert decision.until_unix == 1_700_006_400.0


# What the past decides.


def walk(steps: list[tuple[float, Facts]], limits: Limits = Limits()) -> list[Decision]:  # noqa: B008
    """Decide at each time (seconds from now) with what has been remembered."""
    memory, decisions = Memory(), []
    for seconds, facts in steps:
        now = Moment(NOW.boot_seconds + seconds, NOW.unix_seconds + seconds)
        decision, memory = decide(facts, limits, Wish(), memory, now)
        decisions.append(decision)
    return decisions


def test_a_hot_machine_rests_until_it_has_been_cool_for_a_minute() -> None:
    heat = [(0.0, 79.9), (1.0, 80.0), (2.0, 75.0), (9.0, 71.0), (20.0, 72.0), (30.0, 71.0),
            (30.0 + COOL_SECONDS - 1, 71.0), (30.0 + COOL_SECONDS, 71.0)]  # fmt: skip

    decisions = walk([(at, replace(AWAY, celsius=celsius)) for at, celsius in heat])

    assert [one.may_run for one in decisions] == [True] + [False] * 6 + [True]
    assert decisions[3].until_unix == NOW.unix_seconds + 9 + COOL_SECONDS
    assert decisions[4].until_unix is None


def test_a_heat_sensor_that_falls_silent_does_not_pause_for_ever() -> None:
    decisions = walk([(0.0, replace(AWAY, celsius=90.0)), (1.0, AWAY), (1.0 + COOL_SECONDS, AWAY)])

    assert [one.may_run for one in decisions] == [False, False, True]


def test_a_spike_of_the_graphics_card_is_no_game() -> None:
    spike = [(float(second), replace(AWAY, gpu_other=1.0 if second < 3 else 0.0))
             for second in range(60)]  # fmt: skip

    assert all(one.may_run for one in walk(spike))


def test_a_busy_graphics_card_pauses_until_it_has_been_free_for_a_minute() -> None:
    last = int(GPU_SECONDS + GPU_FREE_SECONDS)
    loads = [(float(second), replace(AWAY, gpu_other=1.0 if second < GPU_SECONDS else 0.1))
             for second in range(last + 1)]  # fmt: skip

    decisions = walk(loads)

    assert decisions[int(GPU_SECONDS) - 1].reason is Reason.GPU_BUSY
    assert decisions[last - 1].reason is Reason.GPU_BUSY
    assert decisions[last].reason is Reason.OK


def test_memory_must_be_free_with_a_margin_before_the_model_is_loaded_again() -> None:
    frees = [1100, 999, 1100, 1250]
    limits = Limits(memory_reserve_bytes=1000)

    decisions = walk(
        [(float(at), replace(AWAY, memory_free_bytes=free)) for at, free in enumerate(frees)],
        limits,
    )

    assert [one.may_run for one in decisions] == [True, False, False, True]


@pytest.mark.parametrize(("celsius", "duty"), [(None, 0.8), (72.0, 0.8), (76.0, 0.4), (79.9, 0.05)])
def test_between_cool_and_hot_it_computes_less(celsius: float | None, duty: float) -> None:
    decision = once(replace(AWAY, celsius=celsius), Limits(duty=0.8))

    assert (decision.state, decision.duty) == (State.THROTTLED, duty)
