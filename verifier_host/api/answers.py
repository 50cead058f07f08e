"""From what a request generates to the objects a client reads: chunks, the whole, usage, origin."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from p2p.errors import NexusError
from verifier_host.api.backend import ModelCard, Piece, Running, Tally, Token
from verifier_host.api.errors import error_object
from verifier_host.api.stream import DONE, event

Object = dict[str, object]


class Shape(Protocol):
    """One endpoint's way to write a choice."""

    @property
    def prefix(self) -> str: ...
    @property
    def whole_object(self) -> str: ...
    @property
    def chunk_object(self) -> str: ...

    def opening(self, choice: int) -> Object | None:
        """Return what a choice's stream begins with, if anything."""

    def chunk(self, piece: Piece, sent: int, /) -> Object:
        """Return a piece; `sent` letters of its choice went before."""

    def whole(self, piece: Piece) -> Object:
        """Return a complete choice."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a client asked of the answer's form. `choices` counts over all prompts."""

    shape: Shape
    choices: int
    origin: bool
    include_usage: bool


async def whole(running: Running, form: Form, card: ModelCard) -> Object:
    """Return the answer as one object.

    Raises:
        NexusError: the generation could not be finished.
    """
    tokens: dict[int, list[Token]] = {choice: [] for choice in range(form.choices)}
    finishes = {}
    async for piece in running.pieces():
        tokens[piece.choice] += piece.tokens
        finishes[piece.choice] = piece.finish
    pieces = [Piece(c, tuple(tokens[c]), finishes.get(c)) for c in range(form.choices)]
    tally = running.tally()
    head = _head(form.shape.prefix, form.shape.whole_object, card)
    choices = [_with_origin(form.shape.whole(piece), piece, form) for piece in pieces]
    report = {"usage": _usage(tally), "nexus": _report(tally, card)}
    return {**head, "choices": choices, **report}


async def events(running: Running, form: Form, card: ModelCard) -> AsyncGenerator[bytes, None]:
    """Yield the answer as server-sent events. A failure becomes the last one: it has begun."""
    head = _head(form.shape.prefix, form.shape.chunk_object, card)
    if form.include_usage:
        head = {**head, "usage": None}
    try:
        async with aclosing(_chunks(running, form)) as chunks:
            left = form.choices
            async for choice in chunks:
                left -= choice["finish_reason"] is not None
                is_last = not left and not form.include_usage
                report = {"nexus": _report(running.tally(), card)} if is_last else {}
                yield event({**head, "choices": [choice], **report})
    except NexusError as error:
        yield event(error_object(error))
        return
    if form.include_usage:
        tally = running.tally()
        report = {"usage": _usage(tally), "nexus": _report(tally, card)}
        yield event({**head, "choices": [], **report})
    yield DONE


async def _chunks(running: Running, form: Form) -> AsyncGenerator[Object, None]:
    sent = [0] * form.choices
    for choice in range(form.choices):
        opening = form.shape.opening(choice)
        if opening is not None:
            yield opening
    async for piece in running.pieces():
        yield _with_origin(form.shape.chunk(piece, sent[piece.choice]), piece, form)
        sent[piece.choice] += len(piece.text)


def _head(prefix: str, kind: str, card: ModelCard) -> Object:
    return {
        "id": prefix + secrets.token_hex(12),
        "object": kind,
        "created": int(time.time()),
        "model": card.name,
        "system_fingerprint": card.fingerprint,
    }


def _with_origin(choice: Object, piece: Piece, form: Form) -> Object:
    if not form.origin:
        return choice
    tokens = [
        {
            "text": token.text,
            "source": "draft" if token.node else "target",
            "node": token.node or None,
        }
        for token in piece.tokens
    ]
    return {**choice, "nexus": {"tokens": tokens}}


def _usage(tally: Tally) -> Object:
    return {
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "total_tokens": tally.prompt_tokens + tally.completion_tokens,
        "completion_tokens_details": {
            "accepted_prediction_tokens": tally.accepted,
            "rejected_prediction_tokens": max(0, tally.drafted - tally.accepted),
        },
    }


def _report(tally: Tally, card: ModelCard) -> Object:
    return {
        "seed": tally.seed,
        "steps": tally.steps,
        "drafted": tally.drafted,
        "accepted": tally.accepted,
        "exact": card.exact,
    }
