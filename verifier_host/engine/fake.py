"""The target's double: a hash of the context, behind the same loop and the same slots as a model.

Its "keys" are hashes of everything before them, read slot by slot as attention would: one wrong
slot anywhere changes the text. Run as `python -m verifier_host.engine.fake` it is an engine child;
`Load.path` may carry settings: `fake?step=0.01&end=40&slots=4096&fail=model`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

import numpy as np
import numpy.typing as npt

from p2p.errors import ModelError
from verifier_host.engine.worker import Progress, Spec, run
from verifier_host.messages import Load, Sampling, TokenLogprob
from verifier_host.scheduling.rows import TILE, Chosen, Int32, Rows, SessionRows

UInt64 = npt.NDArray[np.uint64]
VOCABULARY = 49_152  # the bundled target's
END_ID = 2
FIRST_ID, IDS = 1_000, 8_000  # tokens it says: ordinary words of the bundled vocabulary
DEFAULT_SLOTS = 1 << 16
DEFAULT_CONTEXT = 8_192
_LOGPROB = -1.5
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class FakeSettings:
    """`end` is the mean length of a text in tokens, 0 = none ends by itself."""

    step_seconds: float = 0.0
    end: int = 0
    slots: int = DEFAULT_SLOTS
    context: int = DEFAULT_CONTEXT
    sleep: Callable[[float], None] = time.sleep


class FakeTarget:
    """A target over `slots` slots of one 64-bit hash each."""

    def __init__(self, settings: FakeSettings) -> None:
        self.spec = Spec((END_ID,), VOCABULARY, settings.context)
        self.slots = settings.slots
        self.exact = True
        self.fingerprint = "fake000000000000"
        self.kernels = "hash"
        self.memory_bytes = 8 * settings.slots
        self.trial = ((1, 1.0), (512, 1.0))  # a step takes its time whatever its rows
        self._settings = settings
        # Whatever a slot holds before its row is computed must not look right.
        self._kv: UInt64 = np.full(settings.slots, 0xDEAD, dtype=np.uint64)

    def forward(self, rows: Rows) -> Chosen:
        """Compute one step. A row out of its column, or a key out of its place, is a bug."""
        if self._settings.step_seconds:
            self._settings.sleep(self._settings.step_seconds)
        tokens = np.full(len(rows.token), -1, dtype=np.int32)
        for session in rows.sessions:
            self._compute(rows, session, tokens)
        logprobs = tuple(
            _logprob(int(token), session.sampling) if rows.wants[row] else None
            for session in rows.sessions
            for row, token in zip(
                range(session.start, session.stop),
                tokens[session.start : session.stop],
                strict=True,
            )
        )
        return Chosen(tokens, logprobs)

    def settle(self, source: Int32, destination: Int32) -> None:
        """Copy keys from slot to slot, all read before any is written."""
        self._kv[destination] = self._kv[source]

    def _compute(self, rows: Rows, session: SessionRows, tokens: Int32) -> None:
        prefix = session.prefix
        assert (prefix % TILE == np.arange(len(prefix)) % TILE).all(), "a key out of its column"
        base = _seen(self._kv[prefix])
        seen: dict[int, int] = {-1: base}
        spoken: dict[int, int] = {-1: _said(session.counts)}
        first = len(prefix)
        for row in range(session.start, session.stop):
            above, position = int(rows.parent[row]), int(rows.position[row])
            at = first if above < 0 else int(rows.position[above]) + 1
            assert position == at, f"row {row} at position {position}, expected {at}"
            key = _mix(seen[above], int(rows.token[row]), position)
            self._kv[rows.slot[row]] = key
            seen[row] = (seen[above] + _placed(key, position)) & _WORD
            # Only a guess hangs on a row that wants a choice; prompts are not counted.
            is_guess = above >= 0 and rows.wants[above]
            spoken[row] = spoken[above] + (_mix(int(rows.token[row]), 7) if is_guess else 0)
            if rows.wants[row]:
                tokens[row] = _choose(
                    seen[row], spoken[row], session.key, session.sampling, self._settings.end
                )


def continuation(
    prompt: Sequence[int], key: bytes, sampling: Sampling, count: int, end: int = 0
) -> list[int]:
    """Return what a `FakeTarget` says after `prompt`, one token at a time, up to an end id."""
    seen, said = 0, 0
    text: list[int] = []
    for position, token in enumerate(prompt):
        seen = (seen + _placed(_mix(seen, token, position), position)) & _WORD
    while len(text) < count:
        token = _choose(seen, said, key, sampling, end)
        if token == END_ID and not sampling.ignore_eos:
            break
        text.append(token)
        position = len(prompt) + len(text) - 1
        seen = (seen + _placed(_mix(seen, token, position), position)) & _WORD
        said += _mix(token, 7)
    return text


def open_fake(load: Load, progress: Progress) -> FakeTarget:
    """Open the target that `load.path` describes."""
    fields = {name: values[0] for name, values in parse_qs(load.path.partition("?")[2]).items()}
    if fields.get("fail") == "model":
        raise ModelError(f"{load.path}: told to fail")
    progress(0.5, "hashing")
    return FakeTarget(
        FakeSettings(
            step_seconds=float(fields.get("step", 0)),
            end=int(fields.get("end", 0)),
            slots=int(fields.get("slots", load.kv_tokens or DEFAULT_SLOTS)),
            context=int(fields.get("context", DEFAULT_CONTEXT)),
        )
    )


def _mix(*words: int) -> int:
    """Hash integers to 64 bits (splitmix64's steps)."""
    x = 0x9E3779B97F4A7C15
    for word in words:
        x = ((x ^ word) * 0xBF58476D1CE4E5B9) & _WORD
        x ^= x >> 29
        x = (x * 0x94D049BB133111EB) & _WORD
        x ^= x >> 32
    return x


def _placed(key: int, position: int) -> int:
    return key * (2 * position + 1) & _WORD


def _seen(keys: UInt64) -> int:
    """Return the sum of `_placed` over all positions: every slot counts, and its place."""
    places = np.arange(len(keys), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return int((keys * places).sum(dtype=np.uint64))


def _said(counts: dict[int, int]) -> int:
    return sum(_mix(token, 7) * count for token, count in counts.items())


def _choose(seen: int, said: int, key: bytes, sampling: Sampling, end: int) -> int:
    penalised = sampling.presence_penalty or sampling.frequency_penalty
    drawn = int.from_bytes(key, "little") if sampling.temperature >= 0.01 else 0
    word = _mix(seen, said & _WORD if penalised else 0, drawn)
    if end and (word >> 40) % end == 0:
        return END_ID
    return FIRST_ID + word % IDS


def _logprob(token: int, sampling: Sampling) -> TokenLogprob | None:
    if sampling.logprobs < 0:
        return None
    top = tuple((FIRST_ID + (token + at) % IDS, _LOGPROB - at) for at in range(sampling.logprobs))
    return TokenLogprob(_LOGPROB, top)


if __name__ == "__main__":
    run(open_fake)
