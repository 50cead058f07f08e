import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusnode.policy.decide import CHECK_SECONDS, MIN_CHECK_SECONDS, decide
from nexusnode.policy.facts import Facts, Limits, Moment, Wish
from nexusnode.states import Reason, State

ALWAYS = Limits(always=True)
NOW = Moment(boot_seconds=1000.0, unix_seconds=1_700_000_000.0)


def test_a_node_that_may_always_draft_runs() -> None:
    decision = decide(Facts(), ALWAYS, Wish(), NOW)

    assert (decision.state, decision.reason) == (State.RUNNING, Reason.OK)
    assert decision.blockers == ()
    assert decision.next_check_seconds == CHECK_SECONDS


def test_without_a_sensor_and_without_always_it_stays_paused_and_says_so() -> None:
    decision = decide(Facts(idle=None), Limits(), Wish(), NOW)

    assert (decision.state, decision.reason) == (State.PAUSED, Reason.IDLE_UNKNOWN)
    assert decision.until_unix is None


def test_a_pause_of_which_nothing_more_is_known_holds_until_it_is_taken_back() -> None:
    decision = decide(Facts(), ALWAYS, Wish(paused=True, is_unknown=True), Moment(1e9, 4e9))

    assert (decision.state, decision.reason) == (State.PAUSED, Reason.PAUSE_UNKNOWN)


@pytest.mark.parametrize(("idle", "reason"), [(True, Reason.OK), (False, Reason.INPUT)])
def test_a_sensor_that_knows_decides(idle: bool, reason: Reason) -> None:
    assert decide(Facts(idle=idle), Limits(), Wish(), NOW).reason is reason


def test_a_pause_without_an_end_holds_until_it_is_taken_back() -> None:
    decision = decide(Facts(), ALWAYS, Wish(paused=True), Moment(1e9, 4e9))

    assert (decision.state, decision.reason) == (State.PAUSED, Reason.USER_PAUSE)


@pytest.mark.parametrize(
    ("boot", "reason"), [(1099.9, Reason.SNOOZE), (1100.0, Reason.OK), (1100.1, Reason.OK)]
)
def test_a_pause_by_length_ends_by_the_clock_that_runs_in_sleep(
    boot: float, reason: Reason
) -> None:
    wish = Wish(paused=True, boot_until=1100.0)

    assert decide(Facts(), ALWAYS, wish, Moment(boot, 0.0)).reason is reason


def test_a_pause_by_length_does_not_move_when_the_wall_clock_is_set() -> None:
    wish = Wish(paused=True, boot_until=1100.0)

    decision = decide(Facts(), ALWAYS, wish, Moment(1040.0, 2_000_000_000.0))

    assert decision.reason is Reason.SNOOZE
    assert decision.until_unix == 2_000_000_060.0


@pytest.mark.parametrize(("unix", "reason"), [(499.0, Reason.SNOOZE), (500.0, Reason.OK)])
def test_a_pause_until_a_time_ends_by_the_wall_clock(unix: float, reason: Reason) -> None:
    wish = Wish(paused=True, unix_until=500.0)

    assert decide(Facts(), ALWAYS, wish, Moment(7.0, unix)).reason is reason


def test_the_next_check_is_when_the_pause_ends_and_never_busy() -> None:
    soon = decide(Facts(), ALWAYS, Wish(paused=True, boot_until=1002.5), NOW)
    at_once = decide(Facts(), ALWAYS, Wish(paused=True, boot_until=1000.001), NOW)

    assert soon.next_check_seconds == 2.5
    assert at_once.next_check_seconds == MIN_CHECK_SECONDS


def test_a_model_that_did_not_fit_waits_and_then_is_tried_again() -> None:
    short = Facts(memory_short_until=1300.0)

    assert decide(short, ALWAYS, Wish(), NOW).reason is Reason.NO_MEMORY
    assert decide(short, ALWAYS, Wish(), NOW).until_unix == NOW.unix_seconds + 300
    assert decide(short, ALWAYS, Wish(), Moment(1300.0, 0.0)).reason is Reason.OK


def test_the_first_reason_is_shown_and_all_are_listed() -> None:
    wish = Wish(paused=True, quitting=True)

    decision = decide(Facts(memory_short_until=2000.0), Limits(), wish, NOW)

    assert decision.reason is Reason.QUIT
    assert decision.blockers == (
        Reason.QUIT,
        Reason.USER_PAUSE,
        Reason.NO_MEMORY,
        Reason.IDLE_UNKNOWN,
    )


times = st.none() | st.floats(0, 1e6)


@pytest.mark.slow
@given(
    facts=st.builds(Facts, idle=st.none() | st.booleans(), memory_short_until=times),
    limits=st.builds(Limits, always=st.booleans()),
    wish=st.builds(
        Wish,
        paused=st.booleans(),
        boot_until=times,
        unix_until=times,
        quitting=st.booleans(),
    ),
    now=st.builds(Moment, st.floats(0, 1e6), st.floats(0, 1e6)),
)
def test_it_runs_exactly_when_nothing_blocks(
    facts: Facts, limits: Limits, wish: Wish, now: Moment
) -> None:
    decision = decide(facts, limits, wish, now)

    assert (decision.state is State.RUNNING) == (not decision.blockers)
    assert (decision.reason is Reason.OK) == (not decision.blockers)
    assert list(decision.blockers) == sorted(decision.blockers, key=list(Reason).index)
    assert MIN_CHECK_SECONDS <= decision.next_check_seconds <= CHECK_SECONDS
    assert decision.until_unix is None or decision.until_unix > now.unix_seconds - 1e-3
