"""Who waits when the KV pool is full: owners take turns at admission, who has most gives way.

A session's owner is its namespace, one for each API key: many requests of one key do not keep
those of another waiting. The oldest admitted session always goes on, so all of them end. A
preempted session is prefilled again later, from the prefix tree as far as that still reaches; its
text does not change.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from verifier_host.scheduling.sessions import Session


def victim(admitted: Sequence[Session]) -> Session:
    """Return who gives up its tiles: the youngest of an owner with the most sessions inside.

    The oldest session of all is it only if it is alone.
    """
    inside = Counter(session.start.namespace for session in admitted)
    return max(admitted, key=lambda session: (inside[session.start.namespace], session.order))


def next_in(
    waiting: Sequence[Session], admitted: Sequence[Session], turns: Mapping[bytes, int]
) -> Session | None:
    """Return who may come in next, if there is room; None = nobody now.

    The owner with the fewest sessions inside comes first, then who came in longest ago; of one
    owner the oldest session. Choices of one request have one prompt: the first of them is
    prefilled for all.

    Args:
        turns: of each owner, a number that grows with every admission; none = not yet in.
    """
    firsts: dict[bytes, Session] = {}
    for session in waiting:
        first = firsts.setdefault(session.start.namespace, session)
        if session.order < first.order:
            firsts[session.start.namespace] = session
    inside = Counter(session.start.namespace for session in admitted)
    able = [first for first in firsts.values() if not _has_twin_at_work(first, admitted)]
    return min(able, key=lambda first: _rank(first, inside, turns), default=None)


def _rank(first: Session, inside: Counter[bytes], turns: Mapping[bytes, int]) -> tuple[int, ...]:
    owner = first.start.namespace
    return (inside[owner], turns.get(owner, 0), first.order)


def _has_twin_at_work(waiting: Session, admitted: Sequence[Session]) -> bool:
    """Say whether its prompt is just being computed, for another choice of its request."""
    return any(
        other.pending > 1
        and other.start.namespace == waiting.start.namespace
        and other.start.prompt == waiting.start.prompt
        for other in admitted
    )
