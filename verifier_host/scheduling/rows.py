"""One engine step as plain data: what the scheduler hands to the model, and what comes back.

Capital letters in shapes: `R` rows of the step, `S` sessions in the step. Everything is numpy
int32.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from verifier_host.messages import Sampling, TokenLogprob

Int32 = npt.NDArray[np.int32]
TILE = 64  # slots per tile; slot = tile * TILE + column, and position p always has column p % TILE


@dataclass(frozen=True, slots=True)
class SessionRows:
    """One session's part of a step: rows [start, stop) of `Rows`.

    Attributes:
        prefix: [P] slots of the committed positions 0…P-1 whose keys are in memory, by position.
        counts: token ids generated so far on the committed text and how often, for penalties; empty
            when the session has none.
        generated: how many tokens the choice has committed (for `min_tokens`).
    """

    session: int
    start: int
    stop: int
    prefix: Int32
    key: bytes
    sampling: Sampling
    counts: dict[int, int]
    generated: int


@dataclass(frozen=True, slots=True)
class Rows:
    """One step, all sessions. Rows of a session are contiguous and parents come before children.

    Attributes:
        token, position, slot: [R]; `slot` is where the row's key and value go.
        parent: [R] row index of the tree parent, or -1 where the parent is the committed text
            (root rows and the first row of a prompt chunk). Rows of a prompt chunk are a chain.
        wants: [R] bool, rows whose chosen token is needed.
        sessions: [S].
    """

    token: Int32
    position: Int32
    slot: Int32
    parent: Int32
    wants: npt.NDArray[np.bool_]
    sessions: tuple[SessionRows, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The target's coupled token after each row.

    Attributes:
        tokens: [R] token id; -1 where the row did not want one, -2 where no logit was usable.
        logprobs: per row that wants one and whose session asks for them, else None.
    """

    tokens: Int32
    logprobs: tuple[TokenLogprob | None, ...]
