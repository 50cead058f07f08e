"""Text ⇄ tokens: chat template, tokenizer, and text that is released token by token.

`tokenizers` and a sandboxed `jinja2`, not transformers: 24 MiB resident, not 251.
"""

import codecs
import time
from collections.abc import Sequence
from typing import Generic, NoReturn, TypeVar

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from p2p.errors import ModelError, RequestError
from p2p.wire.messages import TokenKind
from verifier_host.api.backend import Message
from verifier_host.front.vocabulary import Vocabulary

# What a template written for other inputs may raise besides jinja2's own errors.
_TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError)


class Text:
    """A target's way from text to tokens and back."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._template = _compile(vocabulary.template) if vocabulary.template else None

    @property
    def size(self) -> int:
        """How many token ids there are."""
        return len(self._vocabulary.entries)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return a plain prompt's token ids, with what the model wants in front of any text."""
        return tuple(self._vocabulary.tokenizer.encode(text).ids)

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return a conversation's token ids, up to where the assistant begins to speak.

        Raises:
            RequestError: the model has no chat template, or its template refuses the messages.
        """
        rendered = self.render(messages)
        ids = self._vocabulary.tokenizer.encode(rendered, add_special_tokens=False).ids
        return tuple(ids)

    def render(self, messages: Sequence[Message]) -> str:
        """Return a conversation as the model's chat template writes it."""
        if self._template is None:
            raise RequestError("messages: this model has no chat template; use /v1/completions")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                messages=turns,
                add_generation_prompt=True,
                bos_token=self._vocabulary.bos,
                eos_token=self._vocabulary.eos,
                raise_exception=_refuse,
                strftime_now=time.strftime,
            )
        except _Refusal as error:
            raise RequestError(f"messages: the model's chat template says: {error}") from error
        except _TEMPLATE_ERRORS as error:
            raise RequestError(
                "messages: the model's chat template does not take these messages", "messages"
            ) from error

    def raw(self, id: int) -> bytes:
        """Return the bytes a token stands for, a control token's own spelling included."""
        entries = self._vocabulary.entries
        return entries[id][1] if id < len(entries) else b""

    def spoken(self, id: int) -> bytes:
        """Return the bytes that a token adds to a text: none for control tokens."""
        entries = self._vocabulary.entries
        if id >= len(entries) or entries[id][0] in (TokenKind.CONTROL, TokenKind.UNUSED):
            return b""
        return entries[id][1]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of many tokens at once."""
        return b"".join(map(self.spoken, ids)).decode(errors="replace")


Payload = TypeVar("Payload")


class Speech(Generic[Payload]):
    """Releases a choice's text token by token: never half a character, never what may yet turn out
    to be the beginning of a stop string.

    How tokens were committed, one by one or many at a time, changes nothing in what is released
    once all have come.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held: list[tuple[str, Payload]] = []
        self.is_stopped = False

    def say(self, raw: bytes, payload: Payload) -> list[tuple[str, Payload]]:
        """Take a token's bytes; return the tokens that are final now, with their text.

        A character of several tokens is the last one's text. A stop string and what follows are
        nobody's; once one was seen, `is_stopped`, nothing more is said.
        """
        if self.is_stopped:
            return []
        self._held.append((self._decoder.decode(raw), payload))
        text = "".join(part for part, _ in self._held)
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            return self._cut(min(found))
        if self._decoder.getstate()[0]:
            return []
        return self._release(len(text) - self._suspect(text))

    def finish(self) -> list[tuple[str, Payload]]:
        """Return what is still held; an unfinished character becomes U+FFFD."""
        rest = self._decoder.decode(b"", True)
        released, self._held = self._held, []
        if rest and released:
            text, payload = released[-1]
            released[-1] = (text + rest, payload)
        return released

    def _suspect(self, text: str) -> int:
        """Return how many last letters may be the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, letters: int) -> list[tuple[str, Payload]]:
        """Let go of the tokens that end within the first `letters`."""
        end = count = 0
        for text, _ in self._held:
            end += len(text)
            if end > letters:
                break
            count += 1
        released, self._held = self._held[:count], self._held[count:]
        return released

    def _cut(self, letters: int) -> list[tuple[str, Payload]]:
        """Let go of the first `letters` and forget the rest."""
        released = []
        for text, payload in self._held:
            if letters <= 0:
                break
            released.append((text[:letters], payload))
            letters -= len(text)
        self._held = []
        return released


class _Refusal(Exception):
    """A template's own `raise_exception`."""


def _refuse(text: object) -> NoReturn:
    raise _Refusal(str(text)[:200])


def _compile(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise ModelError(f"the model's chat template cannot be used: {error}") from error
