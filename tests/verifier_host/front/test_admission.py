"""How long a wait is accepted."""

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


def test_the_wait_is_what_is_queued_over_the_rate() -> None:
    queue = Queue(2, True, [100, 10_000])

    assert queue.wait_seconds(10.0) == (100 + EXPECTED_TOKENS) / 10
    assert queue.wait_seconds(None) == 0
    assert Queue(2, False, [100, 10_000]).wait_seconds(10.0) == 0


def test_the_queue_may_be_as_long_as_configured_and_no_longer() -> None:
    admit(Queue(62, False, []), 2, None, 64, 30)

    with pytest.raises(Overloaded) as caught:
        admit(Queue(63, False, []), 2, None, 64, 30)

    assert caught.value.retry_seconds == 1


def test_the_wait_may_be_as_long_as_configured_and_no_longer() -> None:
    admit(Queue(1, True, [100]), 1, 10.0, 64, 10)

    with pytest.raises(Overloaded, match="about 11 s") as caught:
        admit(Queue(1, True, [110]), 1, 10.0, 64, 10)

    assert caught.value.retry_seconds == 11
