"""Is p̂ true, and do rows chosen by it beat rows taken in breadth?

    python -m benchmarks.calibration [--quick] [--json PATH] [--threads 2]

The real target writes its answers first, without drafts, half of them greedy, half at T = 1: what
it says depends on no draft, so the text can be replayed. Then the real draft drafts along it, its
guesses go into the host's own tree, the host's own planner picks rows, and both ends learn from
every commit as they do in service. What is measured begins after `WARM` tokens. The prompts are
the file's first 60: the prior that comes with the draft was measured on the others. The bars:

  calibration error  the mean over all guesses on places the text went through of
                     |p̂ - observed share| by tenths of p̂ (expected calibration error, Guo et al.
                     2017): the node's claim as the wire carries it, and the host's belief (≤ 0.05).
  rows               accepted tokens per row of trees of up to 4, 8 and 16 rows picked by survival,
                     over as many rows of the same tree in order of depth and arrival (> 1).
"""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.prompts import Prompt, load_prompts
from benchmarks.report import (
    Bar,
    Row,
    at_least,
    at_most,
    finish,
    guarded,
    parser,
    progress,
    ratio,
    reported,
)
from nexusnode.draft.drafter import Drafter
from nexusnode.draft.llama import open_llama
from nexusnode.draft.messages import Close, Commit, Grown, Open
from nexusnode.draft.worker import read_prior
from nexusnode.models.catalogue import bundled_path
from p2p.drafting.acceptance import accept
from p2p.drafting.coupling import coupling_key
from p2p.drafting.tree import Guess
from p2p.wire.messages import Sampler
from verifier_host.api.backend import Message
from verifier_host.engine.target import Target, open_target
from verifier_host.front.text import Text
from verifier_host.front.vocabulary import load_vocabulary
from verifier_host.messages import Committed, Finished, Load, Sampling, Start
from verifier_host.scheduling.pacing import Pace
from verifier_host.scheduling.plan import Part, Picked, pick
from verifier_host.scheduling.scheduler import Scheduler, Step
from verifier_host.scheduling.sessions import Session
from verifier_host.scheduling.survival import Survival
from verifier_host.scheduling.walk import learn
from verifier_host.targets import find_target

WARM = 2000  # tokens that both ends learn from before anything is counted
PROMPTS = 60  # of the file's beginning: `prior.py` measures on the last 60
SEED = 11
KV_TOKENS, MAX_ROWS, CONTEXT = 16_384, 64, 2048
TEMPERATURES = (0.0, 1.0)
TURNS = 12  # of the draft in one step of the target
BUDGET, AHEAD = 16, 16
DRAFTER = 1
ROOMS = (4, 8, 16)
SERVED = 8  # the room whose rows decide what is committed and learnt
TENTHS = 10


@dataclass(frozen=True, slots=True)
class Told:
    """What the target says to a prompt."""

    kind: str
    temperature: float
    key: bytes
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass
class Tenths:
    """Guesses by tenths of their chance: how many, the sum of chances, how many held."""

    counts: list[int] = field(default_factory=lambda: [0] * TENTHS)
    chances: list[float] = field(default_factory=lambda: [0.0] * TENTHS)
    hits: list[int] = field(default_factory=lambda: [0] * TENTHS)

    def add(self, chance: float, is_hit: bool) -> None:
        at = min(TENTHS - 1, int(chance * TENTHS))
        self.counts[at] += 1
        self.chances[at] += chance
        self.hits[at] += is_hit

    @property
    def error(self) -> float:
        """The expected calibration error; NaN of nothing."""
        off = sum(abs(p - h) for p, h in zip(self.chances, self.hits, strict=True))
        return ratio(off, sum(self.counts))

    def rows(self, whose: str) -> list[Row]:
        return [
            {
                "p̂ of": whose,
                "from": at / TENTHS,
                "guesses": count,
                "mean p̂": ratio(self.chances[at], count),
                "observed": ratio(self.hits[at], count),
            }
            for at, count in enumerate(self.counts)
        ]


@dataclass
class Tally:
    """What was counted after the warm tokens."""

    node: dict[float, Tenths] = field(default_factory=lambda: {t: Tenths() for t in TEMPERATURES})
    host: dict[float, Tenths] = field(default_factory=lambda: {t: Tenths() for t in TEMPERATURES})
    # room -> [rows, accepted by survival, accepted in breadth]
    rooms: dict[int, list[int]] = field(default_factory=lambda: {room: [0, 0, 0] for room in ROOMS})
    tokens: int = 0
    steps: int = 0


def tell(target: Target, text: Text, prompts: Sequence[Prompt], tokens: int) -> list[Told]:
    """Return the target's answers, without any draft."""
    spec = target.spec
    scheduler = Scheduler(target.slots, CONTEXT, MAX_ROWS, spec.vocabulary, spec.end_ids)
    asked: dict[int, Told] = {}
    for number, prompt in enumerate(prompts, start=1):
        ids = text.encode_chat([Message(m["role"], m["content"]) for m in prompt.messages])
        # Pairs of prompts, as chats and documents take turns in the file.
        temperature = TEMPERATURES[number // 2 % len(TEMPERATURES)]
        key = coupling_key(SEED, 0, ids)
        asked[number] = Told(prompt.kind, temperature, key, ids, ())
        sampling = Sampling(temperature=temperature)
        scheduler.start(Start(number, ids, (), key, sampling, tokens, b""))
    said: dict[int, list[int]] = {number: [] for number in asked}
    left = len(asked)
    while left:
        step = scheduler.plan(time.monotonic())
        assert isinstance(step, Step), "sessions without drafts never wait"
        began = time.monotonic()
        if len(step.copies.source):
            target.settle(step.copies.source, step.copies.destination)
        chosen = target.forward(step.rows)
        now = time.monotonic()
        outcome = scheduler.apply(chosen, now - began, now)
        for message in outcome.said:
            match message:
                case Committed():
                    said[message.session] += message.tokens
                case Finished():
                    left -= 1
                case _:
                    raise AssertionError(f"a prompt was refused: {message}")
        if len(outcome.copies.source):
            target.settle(outcome.copies.source, outcome.copies.destination)
    return [
        Told(one.kind, one.temperature, one.key, one.prompt, tuple(said[number]))
        for number, one in asked.items()
    ]


class Replay:
    """Drafts along texts that are known already."""

    def __init__(self, drafter: Drafter, vocabulary: int) -> None:
        self._drafter = drafter
        self._vocabulary = vocabulary
        self._survival = Survival()
        self._seen = 0
        self.tally = Tally()

    def run(self, number: int, told: Told) -> None:
        """Replay one session from its prompt to its end."""
        limit = len(told.prompt) + len(told.tokens)
        sampling = Sampling(temperature=told.temperature)
        start = Start(number, told.prompt, (), told.key, sampling, len(told.tokens), b"")
        session = Session(start, number, self._vocabulary, limit, Pace())
        sampler = Sampler(round(1000 * told.temperature), 0, 1000, 0)
        self._drafter.handle(
            Open(
                number, 1, told.key, sampler, len(told.tokens), told.prompt, True, BUDGET, AHEAD, 1
            )
        )
        whole = (*told.prompt, *told.tokens)
        # The first token is the prompt's: no guess can be on its way.
        self._commit(session, whole[len(told.prompt) : len(told.prompt) + 1])
        while len(session.text) < limit:
            self._grow(session)
            self._step(session, whole, told.temperature)
        self._drafter.handle(Close(number))

    def _grow(self, session: Session) -> None:
        for _ in range(TURNS):
            for message in self._drafter.turn():
                for growth in message.growths if isinstance(message, Grown) else ():
                    session.tree.add(
                        DRAFTER, growth.pos, growth.first,
                        growth.parents, growth.tokens, growth.scores,
                    )  # fmt: skip

    def _step(self, session: Session, whole: Sequence[int], temperature: float) -> None:
        is_counted = self._seen >= WARM
        if is_counted:
            self._judge(session, whole, temperature)
        served: tuple[Picked, list[int]] = (Picked([], []), [0])
        for room in ROOMS:
            (picked,) = pick([session], self._survival, [1.0] * (room + 2), room)
            path = _accepted(session, picked, whole)
            if room == SERVED:
                served = picked, path
            if is_counted and picked.guesses:
                wide = _breadth(session, len(picked.guesses))
                counts = self.tally.rooms[room]
                counts[0] += len(picked.guesses)
                counts[1] += len(path) - 1
                counts[2] += len(_accepted(session, wide, whole)) - 1
        picked, path = served
        at = len(session.text)
        found = whole[at : at + len(path)]
        rows = 1 + len(picked.guesses)
        part = Part(session, 0, 0, rows, picked, session.tree.arrivals)
        learn(part, path, found, self._survival)
        self._commit(session, found)
        if is_counted:
            self.tally.steps += 1
            self.tally.tokens += len(found)

    def _judge(self, session: Session, whole: Sequence[int], temperature: float) -> None:
        """Compare what is claimed of guesses whose parent is right with what came there."""
        tally = self.tally
        for guess, depth in _reached(session, whole):
            is_hit = guess.token == whole[guess.position]
            claimed = (guess.names[DRAFTER].score / 255) ** 2
            tally.node[temperature].add(claimed, is_hit)
            tally.host[temperature].add(self._survival.chance(guess, depth), is_hit)

    def _commit(self, session: Session, tokens: Sequence[int]) -> None:
        pos = len(session.text)
        _, parts = session.tree.commit(tokens, session.tree.arrivals)
        tip = parts[0].tip if parts else 0
        self._drafter.handle(Commit(session.number, pos, tip, tuple(tokens), BUDGET, AHEAD))
        self._seen += len(tokens)


def _reached(session: Session, whole: Sequence[int]) -> Iterator[tuple[Guess, int]]:
    """Yield the guesses whose parent is the text, with their depth."""
    children, depth = session.children(), 1
    while children:
        below: dict[int, Guess] = {}
        for guess in children.values():
            if guess.position >= len(whole):
                return
            yield guess, depth
            if guess.token == whole[guess.position]:
                below = guess.children
        children, depth = below, depth + 1


def _accepted(session: Session, picked: Picked, whole: Sequence[int]) -> list[int]:
    """Return the rows of the tree that say what the target says, root first."""
    positions = [len(session.text) - 1, *(guess.position for guess in picked.guesses)]
    chosen = [whole[at + 1] if at + 1 < len(whole) else -1 for at in positions]
    tokens = [session.text[-1], *(guess.token for guess in picked.guesses)]
    return accept([-1, *picked.parents], tokens, chosen)


def _breadth(session: Session, count: int) -> Picked:
    """Return `count` rows by depth, and at one depth as they came."""
    picked = Picked([], [])
    level = [(guess, 0) for guess in session.children().values()]
    while level and len(picked.guesses) < count:
        below = []
        for guess, parent in sorted(level, key=lambda one: one[0].order):
            if len(picked.guesses) == count:
                break
            picked.guesses.append(guess)
            picked.parents.append(parent)
            below += [(child, len(picked.guesses)) for child in guess.children.values()]
        level = [one for one in below if one[0].position + 1 < session.limit]
    return picked


def bars_of(tally: Tally) -> list[Bar]:
    bars = []
    for whose, by_temperature in (("node", tally.node), ("host", tally.host)):
        for temperature, tenths in by_temperature.items():
            name = f"calibration error, the {whose}'s p̂, T = {temperature:g}"
            bars.append(at_most(name, tenths.error, 0.05, ""))
    for room, (rows, by_survival, in_breadth) in tally.rooms.items():
        name = f"up to {room} rows"
        gain = ratio(by_survival, in_breadth)
        # More than 1: the bar is that survival beats breadth.
        bars.append(
            at_least(f"accepted, survival / breadth, {name}", gain, math.nextafter(1.0, 2.0))
        )
        bars.append(reported(f"accepted per row by survival, {name}", by_survival / rows, "tokens"))
        bars.append(reported(f"accepted per row in breadth, {name}", in_breadth / rows, "tokens"))
    bars.append(reported("τ of the replay", ratio(tally.tokens, tally.steps), "tokens"))
    bars.append(reported("tokens counted", tally.tokens, "tokens"))
    return bars


def main() -> int:
    made = parser("calibration", __doc__)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--tokens", type=int, help="of an answer at most")
    flags = made.parse_args()
    count, tokens = (56, 64) if flags.quick else (PROMPTS, 128)
    found = find_target("bundled")
    load = Load(str(found.path), "benchmark", "fp32", flags.threads, KV_TOKENS, 0, MAX_ROWS, False)
    target = open_target(load, lambda done, what: None)
    text = Text(load_vocabulary(found))
    progress("the target speaks")
    told = tell(target, text, load_prompts()[:count], flags.tokens or tokens)
    total = sum(len(one.tokens) for one in told)
    progress(f"{total} tokens; the draft follows")
    draft = bundled_path()
    engine = open_llama(str(draft), sessions=2, context=CONTEXT, threads=1)
    replay = Replay(Drafter(engine, read_prior(draft)), target.spec.vocabulary)
    for number, one in enumerate(told, start=1):
        if one.tokens:
            replay.run(number, one)
    tally = replay.tally
    rows = [
        row
        for whose, by_temperature in (("node", tally.node), ("host", tally.host))
        for temperature, tenths in by_temperature.items()
        for row in tenths.rows(f"{whose}, T = {temperature:g}")
    ]
    return finish(flags, bars_of(tally), rows, threads=flags.threads)


if __name__ == "__main__":
    sys.exit(guarded("calibration", main))
