"""p2p/process/guard.py: a bug ends its owner, not the process."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from p2p.errors import PeerGone
from p2p.log import quiet_log
from p2p.process.guard import guard


async def good() -> None:
    return


async def buggy() -> None:
    raise ZeroDivisionError


async def gone() -> None:
    raise PeerGone("reset by peer")


async def gone_below_a_nursery() -> None:
    async with trio.open_nursery(), trio.open_nursery():
        raise PeerGone("reset by peer")


async def buggy_beside_a_peer_that_is_gone() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gone)
        nursery.start_soon(buggy)


@pytest.mark.parametrize(
    ("task", "ended", "events"),
    [
        (good, None, []),
        (buggy, ZeroDivisionError, ["reader.bug"]),
        (gone, PeerGone, ["reader.ended"]),
        (gone_below_a_nursery, PeerGone, ["reader.ended"]),
        (buggy_beside_a_peer_that_is_gone, ExceptionGroup, ["reader.bug"]),
    ],
)
async def test_what_ended_a_task_is_logged_and_told(
    task: Callable[[], Awaitable[None]], ended: type[Exception] | None, events: list[str]
) -> None:
    log = quiet_log()
    told: list[BaseException | None] = []

    await guard(log, "reader", task, on_end=told.append)
    await guard(log, "reader", task)

    assert [type(end) if end else None for end in told] == [ended]
    assert [event.name for event in log.recent()] == events * 2
