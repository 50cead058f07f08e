"""Which rows the next step computes: every root, the guesses worth their time, then prompts.

Greedy by survival is optimal for a given number of rows, since survival falls along every path and
a row brings one more token exactly when it is reached.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np

from p2p.drafting.tree import Guess
from verifier_host.scheduling.pacing import MAX_TREE_ROWS
from verifier_host.scheduling.rows import Int32, Rows, SessionRows
from verifier_host.scheduling.sessions import Session
from verifier_host.scheduling.survival import Survival

LEAST_SURVIVAL = 0.01  # a row that helps once in a hundred steps is not worth its bookkeeping
CHUNK = 32  # rows of prompts at least every fourth step, so that they never starve


@dataclass(frozen=True, slots=True)
class Picked:
    """A session's tree rows: `parents[i]` is 0 for a child of the root, else 1 + an earlier i."""

    guesses: list[Guess]
    parents: list[int]


@dataclass(frozen=True, slots=True)
class Part:
    """What a step computes for one session, for the walk afterwards.

    Attributes:
        root: row whose choice is the next token, tree rows right behind it; -1 = none yet.
        stop: one past the session's last row.
        arrivals: blocks its tree had when its rows were packed.
    """

    session: Session
    start: int
    root: int
    stop: int
    picked: Picked
    arrivals: int


def pick(
    sessions: Sequence[Session], survival: Survival, curve: Sequence[float], room: int
) -> list[Picked]:
    """Choose tree rows over all sessions: the best first, as many as bring most tokens a second.

    Args:
        sessions: that have a root row in the step.
        curve: seconds of a step of R rows.
        room: tree rows at most.
    """
    heap: list[tuple[float, int, int, int, Guess, int]] = []
    chance = survival.chance
    for index, session in enumerate(sessions):
        if session.worth.is_drafting and len(session.text) + 1 < session.limit:
            heap.extend(
                (-chance(guess, 1), 1, guess.order, index, guess, 0)
                for guess in session.children().values()
            )
    heapify(heap)
    counts = [0] * len(sessions)
    found: list[tuple[int, Guess, int]] = []
    base, expected = len(sessions), float(len(sessions))
    best, best_rate = 0, expected / curve[min(base, len(curve) - 1)] if base else 0.0
    room = min(room, len(curve) - 1 - base)
    while heap and len(found) < room:
        negative, depth, _, index, guess, parent = heappop(heap)
        if negative > -LEAST_SURVIVAL:
            break
        if counts[index] >= MAX_TREE_ROWS:
            continue
        counts[index] += 1
        found.append((index, guess, parent))
        expected -= negative
        rate = expected / curve[base + len(found)]
        if rate > best_rate:
            best, best_rate = len(found), rate
        depth += 1
        if guess.position + 2 >= sessions[index].limit:
            continue  # nothing is chosen behind the last token
        for child in guess.children.values():
            own = negative * chance(child, depth)
            heappush(heap, (own, depth, child.order, index, child, counts[index]))
    picked = [Picked([], []) for _ in sessions]
    for index, guess, parent in found[:best]:
        picked[index].guesses.append(guess)
        picked[index].parents.append(parent)
    return picked


def chunks(prompts: Sequence[Session], room: int) -> list[tuple[Session, int]]:
    """Share rows out to prompts: the oldest of each owner, then the second of each …"""
    ranked, seen = [], Counter[bytes]()
    for session in sorted(prompts, key=lambda session: session.order):
        seen[session.start.namespace] += 1
        ranked.append((seen[session.start.namespace], session))
    shares = []
    for _, session in sorted(ranked, key=lambda pair: pair[0]):
        count = min(room, session.pending)
        if count:
            shares.append((session, count))
            room -= count
    return shares


def pack(
    drafting: Sequence[tuple[Session, Picked]],
    prompts: Sequence[tuple[Session, int]],
    scratch: Int32,
) -> tuple[Rows, list[Part]]:
    """Lay the rows of a step out.

    The best row of each position goes straight to its position's slot; its siblings, which would
    need the same slot, go to scratch and are copied if they are accepted.
    """
    token: list[int] = []
    position: list[int] = []
    slot: list[int] = []
    parent: list[int] = []
    wants: list[bool] = []
    parts: list[Part] = []
    spare = iter(scratch.tolist())
    for session, picked in drafting:
        root = len(token)
        at = session.cached
        first = at + 1
        homes = session.slots[at : at + 2 + len(picked.guesses)].tolist()
        token.append(session.text[-1])
        position.append(at)
        slot.append(homes[0])
        parent.append(-1)
        for guess, above in zip(picked.guesses, picked.parents, strict=True):
            token.append(guess.token)
            position.append(guess.position)
            depth = guess.position - first + 1
            home = homes[depth] if depth < len(homes) else -1
            if home >= 0:
                homes[depth] = -1
            slot.append(home if home >= 0 else next(spare))
            parent.append(root + above)
        stop = len(token)
        wants += [True] * (stop - root)
        parts.append(Part(session, root, root, stop, picked, session.tree.arrivals))
    for session, count in prompts:
        start, at = len(token), session.cached
        token += session.text[at : at + count]
        position += range(at, at + count)
        slot += session.slots[at : at + count].tolist()
        parent += [-1, *range(start, start + count - 1)]
        stop = start + count
        is_last = count == session.pending
        wants += [False] * (count - 1) + [is_last]
        root = stop - 1 if is_last else -1
        parts.append(Part(session, start, root, stop, Picked([], []), session.tree.arrivals))
    rows = Rows(
        token=np.array(token, dtype=np.int32),
        position=np.array(position, dtype=np.int32),
        slot=np.array(slot, dtype=np.int32),
        parent=np.array(parent, dtype=np.int32),
        wants=np.array(wants, dtype=np.bool_),
        sessions=tuple(_rows_of(part) for part in parts),
    )
    return rows, parts


def _rows_of(part: Part) -> SessionRows:
    session = part.session
    return SessionRows(
        session=session.number,
        start=part.start,
        stop=part.stop,
        prefix=session.slots[: session.cached],
        key=session.start.key,
        sampling=session.start.sampling,
        counts=session.counts,
        generated=session.generated,
    )
