"""One request on its way: its choices, what of their text is final, and who reads it."""

from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import trio

from p2p.errors import NexusError, Unavailable
from verifier_host.api.backend import Alternative, Finish, Piece, Tally, Token
from verifier_host.front.text import Speech, Text
from verifier_host.messages import TARGET, Committed, Sampling, Start, TokenLogprob

MAX_UNREAD_BYTES = 256 << 10  # of text that a client does not take: then it is let go
_TOKEN_BYTES = 64  # a token or an alternative to it, roughly, beside its text
LEAST_LOGPROB = -9999.0  # JSON has no -inf; OpenAI's own floor


@dataclass(frozen=True, slots=True)
class Spoken:
    """A committed token on its way to being text."""

    raw: bytes
    node: str
    logprob: TokenLogprob | None


@dataclass(slots=True)
class Choice:
    """One completion: the owner of its prompt and its committed tokens.

    `key` and `prompt` never change; `committed` only grows.
    """

    number: int  # the engine's session
    index: int  # the client's
    prompt: tuple[int, ...]
    key: bytes
    sampling: Sampling
    max_new: int
    is_drafted: bool
    namespace: bytes
    speech: Speech[Spoken]
    request: "Request"
    started_at: float
    committed: list[int] = field(default_factory=list)
    committed_at: float | None = None
    is_admitted: bool = False  # by any engine
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    is_over: bool = False

    @property
    def left(self) -> int:
        return self.max_new - len(self.committed)

    def text(self) -> list[int]:
        return [*self.prompt, *self.committed]

    def start(self) -> Start:
        """Return what begins this choice at an engine, or takes it up again at a new one."""
        return Start(
            session=self.number,
            prompt=self.prompt,
            committed=tuple(self.committed),
            key=self.key,
            sampling=self.sampling,
            max_new=self.max_new,
            namespace=self.namespace,
            is_drafted=self.is_drafted,
        )

    def take(self, said: Committed) -> None:
        """Append what the engine committed. `Unavailable` if it does not join what is there: then
        front and engine disagree, and only a new start of the request helps."""
        if said.pos != len(self.prompt) + len(self.committed):
            raise Unavailable("the engine lost its place in this answer; ask again")
        self.committed += said.tokens
        self.steps += 1
        self.drafted += said.drafted
        self.accepted += sum(source != TARGET for source in said.sources)


class Request:
    """What the API reads: `Running` of `api/backend.py`. One task may read its pieces."""

    def __init__(
        self,
        text: Text,
        prompts: tuple[tuple[int, ...], ...],
        seed: int,
        cancel: Callable[["Request"], None],
    ) -> None:
        self._text = text
        self._prompts = prompts
        self._seed = seed
        self._cancel = cancel
        self._unread: deque[Piece] = deque()
        self._unread_bytes = 0
        self._news = trio.Event()
        self._failure: NexusError | None = None
        self._is_cancelled = False
        self.choices: list[Choice] = []

    @property
    def prompt_texts(self) -> tuple[str, ...]:
        return tuple(self._text.decode(prompt) for prompt in self._prompts)

    @property
    def is_over(self) -> bool:
        return all(choice.is_over for choice in self.choices)

    def tally(self) -> Tally:
        return Tally(
            prompt_tokens=sum(map(len, self._prompts)),
            completion_tokens=sum(len(choice.committed) for choice in self.choices),
            seed=self._seed,
            steps=sum(choice.steps for choice in self.choices),
            drafted=sum(choice.drafted for choice in self.choices),
            accepted=sum(choice.accepted for choice in self.choices),
        )

    def cancel(self) -> None:
        if not self._is_cancelled:
            self._is_cancelled = True
            self._cancel(self)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        while True:
            while self._unread:
                piece = self._unread.popleft()
                self._unread_bytes -= _size(piece)
                yield piece
            if self._failure is not None:
                raise self._failure
            if self.is_over:
                return
            self._news = trio.Event()
            await self._news.wait()

    def say(self, choice: Choice, said: list[tuple[str, Spoken]], finish: Finish | None) -> bool:
        """Add final text of a choice. False: the client has left too much unread."""
        if said or finish:
            tokens = tuple(self._token(text, spoken) for text, spoken in said)
            piece = Piece(choice.index, tokens, finish)
            self._unread.append(piece)
            self._unread_bytes += _size(piece)
            choice.is_over = choice.is_over or finish is not None
            self._news.set()
        return self._unread_bytes <= MAX_UNREAD_BYTES

    def fail(self, error: NexusError) -> None:
        """End the request for its reader, after what it may still read."""
        self._failure = self._failure or error
        self._news.set()

    def _token(self, text: str, spoken: Spoken) -> Token:
        if spoken.logprob is None:
            return Token(text, spoken.raw, spoken.node, None, ())
        top = tuple(
            Alternative(self._text.raw(id), max(LEAST_LOGPROB, logprob))
            for id, logprob in spoken.logprob.top
        )
        logprob = max(LEAST_LOGPROB, spoken.logprob.logprob)
        return Token(text, spoken.raw, spoken.node, logprob, top)


def _size(piece: Piece) -> int:
    return sum(_TOKEN_BYTES * (1 + len(token.top)) + len(token.raw) for token in piece.tokens)
