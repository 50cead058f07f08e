"""The broad guard around what a peer can start here: its stream may fail, its neighbours' may not.

py-libp2p 0.8.1 ends the whole host on an exception in a stream handler, its own handlers and
negotiation included (`tests/p2p/test_traps.py`, 01). So this room needs an `except Exception` of
its own beside that of `p2p/process/guard.py`, which guards our tasks and may not be imported here.
"""

from collections import Counter
from collections.abc import Awaitable, Callable

from p2p.errors import NexusError


def ignore(error: Exception) -> None:
    """Do nothing about a bug: for the library's own handlers, whose words may quote a peer's."""


async def contain(
    task: Callable[[], Awaitable[object]],
    faults: Counter[str],
    on_bug: Callable[[Exception], None] = ignore,
) -> None:
    """Run `task`; count under its name what it raises, but never pass it on.

    Errors of ours are counted by code: a stream ends with `PeerGone` or `PeerError` as a rule.
    Anything else is given to `on_bug` too.
    """
    try:
        await task()
    except NexusError as error:
        faults[error.code] += 1
    except Exception as error:
        faults[type(error).__name__] += 1
        on_bug(error)
