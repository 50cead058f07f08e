"""Who waits when the KV pool is full: admission oldest first, preemption youngest first.

The oldest session always goes on, so all of them end. A preempted session is prefilled again later,
from the prefix tree as far as that still reaches; its text does not change.
"""

from collections.abc import Sequence

from verifier_host.scheduling.sessions import Session


def victim(admitted: Sequence[Session]) -> Session:
    """Return who gives up its tiles."""
    return max(admitted, key=lambda session: session.order)


def next_in(waiting: Sequence[Session], admitted: Sequence[Session]) -> Session | None:
    """Return who may come in next, if there is room; None = nobody now.

    Choices of one request have one prompt: the first of them is prefilled for all.
    """
    if not waiting:
        return None
    first = min(waiting, key=lambda session: session.order)
    for other in admitted:
        if (
            other.pending > 1
            and other.start.namespace == first.start.namespace
            and other.start.prompt == first.start.prompt
        ):
            return None
    return first
