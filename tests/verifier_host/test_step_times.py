"""t(R): monotone whatever was measured, and never moved by a single pause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.scheduling.times import (
    BUCKETS,
    CACHED,
    FORGOTTEN_STEPS,
    LEAST_STEPS,
    SHAPE,
    StepTimes,
    shape_of,
)


def measure(times: StepTimes, rows: int, seconds: float) -> None:
    for _ in range(LEAST_STEPS):
        times.record(rows, seconds)


def test_before_any_step_the_shape_is_guessed() -> None:
    times = StepTimes(64)

    assert times.seconds(1) == pytest.approx(0.05)
    assert times.seconds(16) / times.seconds(1) == pytest.approx(1.13)
    assert times.measured == ()


def test_what_is_measured_scales_the_rest() -> None:
    times = StepTimes(64)

    measure(times, 1, 0.2)

    assert times.seconds(64) == pytest.approx(0.2 * 2.97)
    assert times.measured == ((1, 0.2),)


def test_a_guess_is_not_above_what_more_rows_were_measured_to_take() -> None:
    times = StepTimes(64)

    measure(times, 64, 0.06)
    measure(times, 1, 0.05)

    assert times.seconds(32) <= 0.06


def test_a_single_pause_moves_nothing() -> None:
    times = StepTimes(64)
    for _ in range(9):
        times.record(1, 0.05)

    times.record(1, 5.0)

    assert times.seconds(1) == pytest.approx(0.05)


def test_one_slow_first_step_of_a_size_is_not_believed() -> None:
    times = StepTimes(64)
    measure(times, 1, 0.05)

    times.record(8, 5.0)

    assert times.seconds(8) == pytest.approx(0.05 * 1.04)


def test_what_once_was_slow_is_tried_again() -> None:
    times = StepTimes(64)
    measure(times, 8, 5.0)
    assert times.seconds(8) == 5.0

    for _ in range(FORGOTTEN_STEPS + len(BUCKETS)):
        times.record(1, 0.05)

    assert times.seconds(8) == pytest.approx(0.05 * 1.04)


def test_more_rows_than_there_can_be_take_as_long_as_the_most() -> None:
    times = StepTimes(64)

    assert times.seconds(1000) == times.seconds(64)
    measure(times, 5000, 9.0)
    assert times.measured == ((BUCKETS[-1], 9.0),)


def test_steps_over_longer_texts_have_times_of_their_own() -> None:
    times = StepTimes(64)
    measure(times, 1, 0.05)

    times.look(CACHED[0] + 1)
    assert times.seconds(1) == pytest.approx(0.05)  # the nearest that is known
    measure(times, 1, 0.08)
    assert times.seconds(1) == pytest.approx(0.08)

    times.look(CACHED[0])
    assert times.seconds(1) == pytest.approx(0.05)
    times.look(10**9)
    assert times.seconds(1) == pytest.approx(0.08)


def test_a_trial_at_load_gives_the_shape_and_what_it_lacks_is_as_usual() -> None:
    shape = shape_of([(1, 0.03), (4, 0.06), (16, 0.05), (32, 0.12)])

    assert shape[:6] == pytest.approx((1, 4 / 3, 2, 2, 2, 4))
    assert shape[6] == pytest.approx(4 * SHAPE[6] / SHAPE[5])
    assert shape_of([]) == SHAPE
    assert StepTimes(64, shape).seconds(4) == pytest.approx(2 * StepTimes(64, shape).seconds(1))


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 600), st.floats(1e-5, 10)), max_size=40),
    st.sampled_from([1, 2, 16, 64, 512]),
)
def test_the_curve_never_falls(steps: list[tuple[int, float]], max_rows: int) -> None:
    times = StepTimes(max_rows)
    for rows, seconds in steps:
        times.record(rows, seconds)

    assert times.curve == sorted(times.curve)
    assert len(times.curve) == max_rows + 1
    assert times.curve[0] > 0
