"""How long a wait is accepted."""

from collections.abc import Sequence

import pytest

from p2p.errors import Overloaded
from verifier_host.front.admission import EXPECTED_TOKENS, Queue, Throughput, admit


def test_nothing_is_known_before_anything_was_measured() -> None:
    assert Throughput().per_second is None


def test_a_steady_rate_is_found() -> None:
    throughput = Throughput()
    for tick in range(200):
        throughput.add(5, tick * 0.1)

    assert throughput.per_second == pytest.approx(50, rel=0.05)


def test_idleness_is_no_slowness() -> None:
    throughput = Throughput()
    for start in (0.0, 1000.0):
        for tick in range(100):
            throughput.add(5, start + tick * 0.1)

    assert throughput.per_second == pytest.approx(50, rel=0.15)


def alone(limits: Sequence[int], is_full: bool = True) -> Queue:
    """The queue of the only key."""
    return Queue(is_full, limits, limits, 1)


def test_the_wait_is_what_is_queued_over_the_rate() -> None:
    queue = alone([100, 10_000])

    assert queue.wait_seconds(10.0) == (100 + EXPECTED_TOKENS) / 10
    assert queue.wait_seconds(None) == 0
    assert alone([100, 10_000], is_full=False).wait_seconds(10.0) == 0


def test_a_key_waits_for_its_turns_and_not_for_all_of_another_keys() -> None:
    many = [100] * 50

    assert Queue(True, many, [], 2).wait_seconds(10.0) == 0
    assert Queue(True, [*many, 30], [30], 2).wait_seconds(10.0) == 2 * 30 / 10
    assert Queue(True, [*many, 30], many, 2).wait_seconds(10.0) == (5000 + 30) / 10


def test_the_queue_may_be_as_long_as_configured_and_no_longer() -> None:
    admit(alone([1] * 62), 2, None, 64, 30)

    with pytest.raises(Overloaded) as caught:
        admit(alone([1] * 63), 2, None, 64, 30)

    assert caught.value.retry_seconds == 1


def test_a_key_within_its_share_is_let_in_though_another_has_filled_the_queue() -> None:
    admit(Queue(True, [1] * 64, [], 2), 32, None, 64, 30)

    with pytest.raises(Overloaded):
        admit(Queue(True, [1] * 64, [], 2), 33, None, 64, 30)
    with pytest.raises(Overloaded):
        admit(Queue(True, [1] * 65, [1] * 64, 2), 1, None, 64, 30)


def test_the_wait_may_be_as_long_as_configured_and_no_longer() -> None:
    admit(alone([100]), 1, 10.0, 64, 10)

    with pytest.raises(Overloaded, match="about 11 s") as caught:
        admit(alone([110]), 1, 10.0, 64, 10)

    assert caught.value.retry_seconds == 11
