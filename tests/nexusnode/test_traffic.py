from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nexusnode.daemon.traffic import FILE, CountedLink, Traffic
from p2p.log import quiet_log

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def traffic_of(
    data: Path, clock: Callable[[], float], zone: Callable[[], tzinfo] = lambda: UTC
) -> Traffic:
    traffic = Traffic(data, zone, clock, quiet_log())
    traffic.read()
    return traffic


async def test_a_count_outlasts_a_restart_and_not_midnight(tmp_path: Path) -> None:
    clock = Clock()
    first = traffic_of(tmp_path, clock)
    first.add(received=100, sent=7)
    await first.save()

    second = traffic_of(tmp_path, clock)
    second.add(received=1)
    assert (second.received, second.sent) == (101, 7)
    clock.now += 12 * 3600
    assert (second.received, second.sent) == (0, 0)
    assert traffic_of(tmp_path, clock).received == 0


async def test_midnight_is_that_of_the_zone(tmp_path: Path) -> None:
    clock = Clock()
    traffic = traffic_of(tmp_path, clock, lambda: ZoneInfo("Asia/Tokyo"))  # 21:00 there
    traffic.add(sent=5)

    clock.now += 3 * 3600 - 1
    assert traffic.sent == 5
    clock.now += 1
    assert traffic.sent == 0


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"[" * 5000, b'["2026-03-04", "x", 1]'])
async def test_a_damaged_count_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)

    assert traffic_of(tmp_path, Clock()).received == 0


async def test_a_disk_that_does_not_take_it_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE / "in the way").mkdir(parents=True)
    traffic = traffic_of(tmp_path, Clock())
    traffic.add(sent=5)

    await traffic.save()

    assert traffic.sent == 5


async def test_the_bytes_of_a_link_are_counted() -> None:
    class Link:
        async def send(self, data: bytes) -> None: ...
        async def receive(self, max_bytes: int) -> bytes:
            return b"abc"

    counted: list[tuple[int, int]] = []
    link = CountedLink(Link(), lambda *count: counted.append(count))  # type: ignore[arg-type]

    await link.send(b"12345")
    assert await link.receive(10) == b"abc"
    assert counted == [(0, 5), (3, 0)]
