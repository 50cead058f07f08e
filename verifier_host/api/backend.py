"""What the API asks of whoever generates: the seam between HTTP and engine (later, a gateway)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from verifier_host.messages import Sampling

Finish = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `content` is plain text, parts already joined."""

    role: str
    content: str


Prompt = str | tuple[int, ...] | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request whose form is in order; whether it fits the model is the backend's to say.

    Attributes:
        choices: completions per prompt, `n`.
        max_tokens: None = as many as the context holds.
        draft: it may be drafted, and seen by nodes, if the operator's settings say so too.
        exact: refuse it if the engine is not row-invariant.
        namespace: parts prefix caches, one for each API key.
    """

    prompts: tuple[Prompt, ...]
    choices: int
    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    draft: bool
    exact: bool
    namespace: bytes


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that was not chosen at this place, and the model's own log-probability of it."""

    raw: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """One committed token whose text is final.

    Attributes:
        text: the text it released: "" while a character is unfinished; cut at a stop string.
        raw: the bytes it stands for.
        node: short peer id of the node that guessed it, "" = nobody did.
    """

    text: str
    raw: bytes
    node: str
    logprob: float | None
    top: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new of one choice; `finish` comes once, with its last piece."""

    choice: int
    tokens: tuple[Token, ...]
    finish: Finish | None

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a request has taken so far, over all its choices."""

    prompt_tokens: int
    completion_tokens: int
    seed: int
    steps: int
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The model that is served; `fingerprint` is "" until the engine has been loaded once."""

    name: str
    created: int
    context: int
    exact: bool
    fingerprint: str
    drafting: str


class Running(Protocol):
    """One request on its way."""

    @property
    def prompt_texts(self) -> tuple[str, ...]:
        """Each prompt as text, for `echo`."""

    def pieces(self) -> AsyncIterator[Piece]:
        """Yield what is new, choices interleaved, until each has finished. One reader only.

        Raises:
            NexusError: the generation cannot go on.
        """

    def tally(self) -> Tally: ...

    def cancel(self) -> None:
        """End it and free what it holds; harmless when it is over."""


class Backend(Protocol):
    """Whoever generates."""

    def card(self) -> ModelCard: ...

    def not_ready(self) -> str:
        """Say why no request can be served now; "" = one can."""

    async def start(self, ask: Ask) -> Running:
        """Begin to generate.

        Raises:
            RequestError: it does not fit the model, or the queue is full.
            Unavailable: the engine is not there.
        """
