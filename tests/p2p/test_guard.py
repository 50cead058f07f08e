"""p2p/process/guard.py: a bug ends its owner, not the process."""

from collections.abc import Awaitable, Callable

import pytest

from p2p.errors import PeerGone
from p2p.log import quiet_log
from p2p.process.guard import guard


async def good() -> None:
    return


async def buggy() -> None:
    raise ZeroDivisionError


async def gone() -> None:
    raise PeerGone("reset by peer")


@pytest.mark.parametrize(
    ("task", "ended", "events"),
    [
        (good, None, []),
        (buggy, ZeroDivisionError, ["reader.bug"]),
        (gone, PeerGone, ["reader.ended"]),
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
