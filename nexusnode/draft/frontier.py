"""Which tokens the next decode computes, over all sessions. Pure.

A session asks by a `Want`; `Turn` shares the rows of a decode among hosts by their weights
(deficit round robin, Shreedhar and Varghese 1995) and inside a host by survival.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Survival below which the chain ends. Where draft and target share cores, what 0.02 drafted beyond
# it cost more than it brought (demo: 1.37 to 1.43 times plain instead of 1.33 to 1.42).
CHAIN_FLOOR = 0.1
LEAF_FLOOR = 0.02  # survival below which a further candidate is not worth its bytes
MAX_DEPTH = 64  # guesses below the committed text that a host looks at (docs/protocol.md, 5.8)
RUN_ROWS = 8  # longest chunk of a repetition
DRAFT_ROWS = 16  # rows for guesses in one decode: bounds how long a commit waits
PROMPT_ROWS = 64  # rows of a prompt in one decode on a CPU
LEAST_WEIGHT = 0.01


@dataclass(frozen=True, slots=True)
class Want:
    """What a session would have decoded next: `rows` tokens.

    `survival` is the chance that the first of them is right: 1 for committed text. `is_prompt`:
    a piece of a long committed text, one at a time for the whole worker.
    """

    session: int
    host: int
    survival: float
    rows: int
    is_prompt: bool = False


class Turn:
    """Shares decodes among hosts; remembers what each is owed."""

    def __init__(self) -> None:
        self._credit: dict[int, float] = {}
        self._last_prompt = 0

    def choose(self, wants: Sequence[Want], weights: Mapping[int, float]) -> list[Want]:
        """Return what the next decode computes: all of it, or each host's fair part.

        Args:
            weights: of hosts, above 0; a host that is not named weighs 1.
        """
        prompt = self._next_prompt([want for want in wants if want.is_prompt])
        guesses = [want for want in wants if not want.is_prompt]
        if sum(want.rows for want in guesses) > DRAFT_ROWS:
            guesses = self._share(guesses, weights)
        else:
            self._credit.clear()
        return guesses + prompt

    def _next_prompt(self, prompts: Sequence[Want]) -> list[Want]:
        """Take turns among prompts by session, so that a short one does not wait for a long one."""
        if not prompts:
            return []
        ring = sorted(prompts, key=lambda want: (want.session <= self._last_prompt, want.session))
        self._last_prompt = ring[0].session
        return ring[:1]

    def _share(self, wants: Sequence[Want], weights: Mapping[int, float]) -> list[Want]:
        queues: dict[int, list[Want]] = {}
        for want in sorted(wants, key=lambda want: want.survival):
            queues.setdefault(want.host, []).append(want)  # the best is last
        self._credit = {host: self._credit.get(host, 0.0) for host in queues}
        chosen: list[Want] = []
        room = DRAFT_ROWS
        while room > 0 and any(queues.values()):
            for host in sorted(queues, key=lambda host: -self._credit[host]):
                self._credit[host] += max(LEAST_WEIGHT, weights.get(host, 1.0))
                queue = queues[host]
                while queue and queue[-1].rows <= min(room, self._credit[host]):
                    want = queue.pop()
                    self._credit[host] -= want.rows
                    room -= want.rows
                    chosen.append(want)
            if all(not queue or queue[-1].rows > room for queue in queues.values()):
                break
        # What nobody could use is not saved up: a host idle for long must not flood later.
        self._credit = {host: min(left, DRAFT_ROWS) for host, left in self._credit.items()}
        return chosen


def prompt_rows(is_drafting: bool) -> int:
    """Return the tokens of a prompt in one decode: half when others draft beside it."""
    return PROMPT_ROWS // 2 if is_drafting else PROMPT_ROWS


def run_rows(chances: Iterable[float], costs: Sequence[float]) -> int:
    """Return how many rows of a repetition to decode in one chunk, 1 to RUN_ROWS.

    Row 1 is the model's own guess and always counts; row i + 1 counts if the i before it are
    confirmed. The best chunk has the most counting rows for its time.

    Args:
        chances: [N] that the model confirms token i of the repetition, given those before.
        costs: c(1), c(2), c(4), c(8) in seconds; between them costs are interpolated.
    """
    best_rows, best_rate, gain, reach = 1, 1.0 / decode_cost(1, costs), 1.0, 1.0
    for rows, chance in enumerate(chances, start=2):
        if rows > RUN_ROWS:
            break
        reach *= chance
        gain += reach
        rate = gain / decode_cost(rows, costs)
        if rate > best_rate:
            best_rows, best_rate = rows, rate
    return best_rows


def decode_cost(rows: int, costs: Sequence[float]) -> float:
    """Return the seconds of a decode of `rows` rows, 1 to 8."""
    below = rows.bit_length() - 1
    low, high = costs[below], costs[min(below + 1, len(costs) - 1)]
    return low + (high - low) * (rows - (1 << below)) / (1 << below)
