"""The one `except Exception` of a process: a bug in a task is logged, and ends its owner only.

Errors of ours (`NexusError`) are not bugs: who starts a task says which of them it expects.
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
    except NexusError as error:
        ended = error
        log.warning(f"{name}.ended", code=error.code, reason=str(error))
    except Exception as error:
        ended = error
        log.failure(f"{name}.bug", error)
    if on_end is not None:
        on_end(ended)
