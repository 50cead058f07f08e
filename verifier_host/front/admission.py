"""How long would a new choice wait, and is that too long? Pure: `now` is an argument."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from p2p.errors import Overloaded

MEMORY_SECONDS = 10.0  # chosen: some answers long, and soon over a change of load
IDLE_SECONDS = 1.0  # a longer pause between commits is idleness and says nothing of speed
EXPECTED_TOKENS = 256  # chosen: most answers end long before their max_tokens
LEAST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 60.0


class Throughput:
    """Tokens a second while there is work, of the last `MEMORY_SECONDS` or so."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._at = -math.inf

    def add(self, tokens: int, now: float) -> None:
        seconds = min(IDLE_SECONDS, now - self._at)
        self._at = now
        kept = math.exp(-seconds / MEMORY_SECONDS)
        self._tokens = self._tokens * kept + tokens
        self._seconds = self._seconds * kept + seconds

    @property
    def per_second(self) -> float | None:
        """None until something was measured."""
        return self._tokens / self._seconds if self._seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for the engine, as the key that asks sees it.

    Attributes:
        is_full: the engine holds some choices back: it has no room.
        limits: the most tokens that each choice may take which has not been given one yet.
        own: the same of the key's own choices.
        owners: keys that wait for something, this one included.
    """

    is_full: bool
    limits: Sequence[int]
    own: Sequence[int]
    owners: int

    def wait_seconds(self, per_second: float | None) -> float:
        """Return the estimated wait of the key's next choice; 0 where nothing is known.

        Keys take turns in the engine: with one of its own go at most as many of each other key.
        """
        if not self.is_full or not per_second:
            return 0.0
        return min(_expected(self.limits), self.owners * _expected(self.own)) / per_second


def admit(
    queue: Queue, choices: int, per_second: float | None, most_waiting: int, most_seconds: float
) -> None:
    """Let `choices` more in.

    A key within its share of the queue is let in though others have filled it: k keys can wait
    with at most `most_waiting` times 1 + 1/2 + … + 1/k choices.

    Raises:
        Overloaded: the queue would be too long, in choices or in time.
    """
    waiting = len(queue.limits)
    wait = queue.wait_seconds(per_second)
    retry = min(MOST_RETRY_SECONDS, max(LEAST_RETRY_SECONDS, wait))
    is_over_share = len(queue.own) + choices > most_waiting // queue.owners
    if waiting + choices > most_waiting and is_over_share:
        raise Overloaded(f"{waiting} choices wait for the engine; {most_waiting} may wait", retry)
    if wait > most_seconds:
        raise Overloaded(
            f"the wait would be about {wait:.0f} s; at most {most_seconds:.0f} s are accepted",
            retry,
        )


def _expected(limits: Sequence[int]) -> int:
    return sum(min(limit, EXPECTED_TOKENS) for limit in limits)
