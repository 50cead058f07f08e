"""The one `except Exception` of a process: a bug in a task is logged, and ends its owner only.

Errors of ours (`NexusError`) are not bugs: who starts a task says which of them it expects. A group
of nothing else, as a nursery makes of an error that passes it, counts as its first.
"""

from collections.abc import Awaitable, Callable

from p2p.errors import NexusError
from p2p.log import Log


async def guard(
    log: Log,
    name: str,
    task: Callable[[], Awaitable[object]],
    *,
    on_end: Callable[[BaseException | None], None] | None = None,
) -> None:
    """Run `task` to its end, whatever that is, without harm to its siblings.

    Args:
        on_end: called once with what ended the task (None = it returned), before this returns.
    """
    ended: BaseException | None = None
    try:
        await task()
    except Exception as error:
        ended = _ours(error) or error
        if isinstance(ended, NexusError):
            log.warning(f"{name}.ended", code=ended.code, reason=str(ended))
        else:
            log.failure(f"{name}.bug", error)
    if on_end is not None:
        on_end(ended)


def _ours(error: BaseException) -> NexusError | None:
    """Return the error of ours in what a nursery raised, if it holds no bug."""
    if isinstance(error, NexusError):
        return error
    if isinstance(error, BaseExceptionGroup):
        known = [_ours(each) for each in error.exceptions]
        return known[0] if all(known) else None
    return None
