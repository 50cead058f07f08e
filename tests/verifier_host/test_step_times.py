"""t(R): monotone whatever was measured, and never moved by a single pause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_host.scheduling.times import BUCKETS, StepTimes


def test_before_any_step_the_shape_is_guessed() -> None:
    times = StepTimes(64)

    assert times.seconds(1) == pytest.approx(0.05)
    assert times.seconds(16) / times.seconds(1) == pytest.approx(1.13)
    assert times.measured == ()


def test_what_is_measured_scales_the_rest() -> None:
    times = StepTimes(64)

    times.record(1, 0.2)

    assert times.seconds(64) == pytest.approx(0.2 * 2.97)
    assert times.measured == ((1, 0.2),)


def test_a_guess_is_not_above_what_more_rows_were_measured_to_take() -> None:
    times = StepTimes(64)

    times.record(64, 0.06)
    times.record(1, 0.05)

    assert times.seconds(32) <= 0.06


def test_a_single_pause_moves_nothing() -> None:
    times = StepTimes(64)
    for _ in range(9):
        times.record(1, 0.05)

    times.record(1, 5.0)

    assert times.seconds(1) == pytest.approx(0.05)


def test_more_rows_than_there_can_be_take_as_long_as_the_most() -> None:
    times = StepTimes(64)

    assert times.seconds(1000) == times.seconds(64)
    times.record(5000, 9.0)
    assert times.measured == ((BUCKETS[-1], 9.0),)


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
