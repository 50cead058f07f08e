"""The one owner of every prompt and its committed tokens: the API's backend, the engine's listener.

On a commit the nodes are told first and the text is made after: theirs is the critical path. A new
engine is given every choice again with what it has committed, so a crash costs time, never text.
"""

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

import trio

from p2p.drafting.coupling import coupling_key
from p2p.errors import (
    ContextTooLong,
    NexusError,
    Overloaded,
    RequestError,
    Unavailable,
)
from p2p.wire.messages import CloseReason
from verifier_host import messages
from verifier_host.api.backend import Ask, Finish, ModelCard, Prompt
from verifier_host.front.admission import Queue, Throughput, admit
from verifier_host.front.choices import Choice, Request, Spoken
from verifier_host.front.drafters import Drafters
from verifier_host.front.engine_client import Engine, Said
from verifier_host.front.metrics import HostMetrics
from verifier_host.front.text import Speech, Text
from verifier_host.messages import Cancel, Committed, Finished, FinishReason, Gauge, Loaded

OUTAGE_SECONDS = 120.0  # a request waits so long for a new engine (a restart takes ≤ 15 s)
RESTART_SECONDS = 10.0  # what a client is told to wait while there is no engine
LONG_TEXT = 20_000  # letters; a longer prompt is tokenised in a thread
LETTERS_PER_TOKEN = 64  # a text longer than this times the context cannot fit it
_FINISH: dict[FinishReason, Finish] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.ERROR: "error",
}


class Generations:
    """Every request between the API, the engine and the nodes.

    Args:
        drafting: the operator's word on nodes: "off", "allowlist" or "open".
        max_tokens: of one choice; 0 = no limit but the context.
        waiting, wait_seconds: the longest queue that is accepted.
    """

    def __init__(
        self,
        text: Text,
        engine: Engine,
        drafters: Drafters,
        metrics: HostMetrics,
        *,
        name: str,
        drafting: str,
        max_tokens: int,
        waiting: int,
        wait_seconds: float,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._text = text
        self._engine = engine
        self._drafters = drafters
        self._metrics = metrics
        self._name = name
        self._drafting = drafting
        self._max_tokens = max_tokens
        self._most_waiting = waiting
        self._most_wait_seconds = wait_seconds
        self._now = now
        self._created = int(time.time())
        self._choices: dict[int, Choice] = {}
        self._last_session = 0
        self._known: Loaded | None = None  # of this engine or the one before
        self._gauge: Gauge | None = None
        self._down_since = math.inf  # the engine is up, or was not yet
        self._throughput = Throughput()
        self._unspoken: deque[tuple[Choice, Committed | Finished]] = deque()
        self._to_speak = trio.Event()

    # The API's backend.

    def card(self) -> ModelCard:
        known = self._known
        return ModelCard(
            name=self._name,
            created=self._created,
            context=known.context if known else 0,
            exact=known.exact if known else False,
            fingerprint=known.fingerprint if known else "",
            drafting=self._drafting,
        )

    def not_ready(self) -> str:
        if self._engine.loaded is None:
            return "restarting" if self._known else "loading"
        return "" if self._engine.is_alive else "engine silent"

    async def start(self, ask: Ask) -> Request:
        loaded = self._engine_loaded()
        if ask.exact and not loaded.exact:
            raise RequestError(
                "nexus.exact: this host's engine is not row-invariant", "nexus.exact"
            )
        _check_bias(ask, self._text.size)
        prompts = tuple([await self._tokens(prompt, loaded.context) for prompt in ask.prompts])
        limits = [self._max_new(prompt, ask.max_tokens, loaded.context) for prompt in prompts]
        loaded = self._engine_loaded()  # tokenising may have taken a while
        admit(
            self._queue(ask.namespace),
            len(prompts) * ask.choices,
            self._throughput.per_second,
            self._most_waiting,
            self._most_wait_seconds,
        )
        # Drawn behind the tokenising: who wrote a part of the prompt cannot have known it.
        seed = secrets.randbits(63) if ask.seed is None else ask.seed
        request = Request(self._text, prompts, seed, self._cancelled)
        for place, (prompt, max_new) in enumerate(zip(prompts, limits, strict=True)):
            for number in range(ask.choices):
                choice = self._choice(ask, request, prompt, max_new, seed, number)
                choice.index = place * ask.choices + number
                request.choices.append(choice)
        for choice in request.choices:
            self._begin(choice)
        return request

    # The engine's listener.

    def on_up(self, loaded: Loaded) -> None:
        self._known = loaded
        self._down_since = math.inf
        self._metrics.engine_up(loaded.exact)
        for choice in tuple(self._choices.values()):
            finish = self._missed_finish(choice, loaded)
            if finish is None:
                self._engine.send(choice.start())
            else:
                self._hear(choice, Finished(choice.number, finish, 0))
        self._drafters.reopen(self._now())

    def on_down(self) -> None:
        self._down_since = self._now()
        self._gauge = None
        self._metrics.engine_down()
        self._drafters.forget_engine()

    def on_said(self, message: Said) -> None:
        match message:
            case Gauge():
                self._gauge = message
                self._metrics.gauge(message)
                if message.step_seconds:
                    self._drafters.step_seconds = message.step_seconds[0][1]
                for rows in message.budgets:
                    self._drafters.budget(rows)
            case messages.Admitted(session, seconds_ago):
                choice = self._choices.get(session)
                if choice is not None and not choice.is_admitted:
                    choice.is_admitted = True
                    waited = self._now() - seconds_ago - choice.started_at
                    self._metrics.admitted(max(0.0, waited))
            case messages.Refused(session, code, text):
                choice = self._choices.get(session)
                if choice is not None:
                    self._fail(choice.request, _refusal(code, text))
            case Committed() | Finished():
                choice = self._choices.get(message.session)
                if choice is not None:
                    self._hear(choice, message)

    async def speak(self) -> None:
        """Turn what is committed into text, for ever; writers of nodes get their turn before."""
        while True:
            await self._to_speak.wait()
            self._to_speak = trio.Event()
            await trio.lowlevel.checkpoint()
            while self._unspoken:
                choice, message = self._unspoken.popleft()
                if choice.number not in self._choices:
                    continue
                if isinstance(message, Committed):
                    self._say(choice, message)
                else:
                    self._end(choice, choice.speech.finish(), _FINISH[message.reason])

    async def keep_time(self) -> None:
        """Once a second: let drafters look after silent nodes, end what waits for no engine."""
        while True:
            await trio.sleep(1.0)
            now = self._now()
            self._drafters.tick(now)
            self._metrics.waiting(len(self._waiting()))
            if now - self._down_since > OUTAGE_SECONDS:
                for request in {id(c.request): c.request for c in self._choices.values()}.values():
                    self._fail(request, Unavailable("the engine did not come back in time"))

    def _hear(self, choice: Choice, message: Committed | Finished) -> None:
        if isinstance(message, Committed):
            try:
                choice.take(message)
            except NexusError as error:
                self._fail(choice.request, error)
                return
            self._drafters.commit(choice.number, message.pos, message.tokens, message.credits)
        self._unspoken.append((choice, message))
        self._to_speak.set()

    def _say(self, choice: Choice, message: Committed) -> None:
        self._measure(choice, message)
        said: list[tuple[str, Spoken]] = []
        logprobs: Sequence[messages.TokenLogprob | None] = message.logprobs or (
            [None] * len(message.tokens)
        )
        for token, source, logprob in zip(message.tokens, message.sources, logprobs, strict=True):
            if self._is_end(choice, token):
                continue
            spoken = Spoken(self._text.raw(token), self._drafters.name(source), logprob)
            said += choice.speech.say(self._text.spoken(token), spoken)
        if choice.speech.is_stopped:
            self._engine.send(Cancel(choice.number))
            self._end(choice, said, "stop")
        elif not choice.request.say(choice, said, None):
            self._fail(choice.request, Overloaded("the client does not read its answer", 1.0))

    def _end(self, choice: Choice, said: list[tuple[str, Spoken]], finish: Finish) -> None:
        choice.request.say(choice, said, finish)
        self._forget(choice, CloseReason.FINISHED)
        self._metrics.finished(finish, self._now() - choice.started_at)

    def _fail(self, request: Request, error: NexusError) -> None:
        request.fail(error)
        self._cancelled(request)

    def _cancelled(self, request: Request) -> None:
        for choice in request.choices:
            if not choice.is_over and choice.number in self._choices:
                self._engine.send(Cancel(choice.number))
                self._forget(choice, CloseReason.ABORTED)
                self._metrics.finished("abort", self._now() - choice.started_at)

    def _forget(self, choice: Choice, reason: CloseReason) -> None:
        self._choices.pop(choice.number, None)
        self._drafters.close(choice.number, reason)

    def _begin(self, choice: Choice) -> None:
        self._choices[choice.number] = choice
        self._metrics.begun(len(choice.prompt))
        self._engine.send(choice.start())
        if choice.is_drafted and self._drafting != "off":
            self._drafters.open(choice, self._now())

    def _choice(
        self,
        ask: Ask,
        request: Request,
        prompt: tuple[int, ...],
        max_new: int,
        seed: int,
        number: int,
    ) -> Choice:
        self._last_session += 1
        return Choice(
            number=self._last_session,
            index=0,
            prompt=prompt,
            key=coupling_key(seed, number, prompt),
            sampling=ask.sampling,
            max_new=max_new,
            is_drafted=ask.draft,
            namespace=ask.namespace,
            speech=Speech(ask.stop),
            request=request,
            started_at=self._now(),
        )

    async def _tokens(self, prompt: Prompt, context: int) -> tuple[int, ...]:
        """Return a prompt's token ids; `RequestError` if they are none, or none of this model."""
        if isinstance(prompt, str):
            ids = await self._tokenised(lambda: self._text.encode(prompt), len(prompt), context)
        elif prompt and isinstance(prompt[0], int):
            ids = tuple(id for id in prompt if isinstance(id, int))
            if max(ids) >= self._text.size:
                raise RequestError(
                    f"prompt: a token id of {max(ids)}; this model has {self._text.size}", "prompt"
                )
        else:
            turns = [turn for turn in prompt if not isinstance(turn, int)]
            letters = sum(len(turn.content) for turn in turns)
            ids = await self._tokenised(lambda: self._text.encode_chat(turns), letters, context)
        if not ids:
            raise RequestError("prompt: is empty; expected at least one token", "prompt")
        return ids

    async def _tokenised(
        self, encode: Callable[[], tuple[int, ...]], letters: int, context: int
    ) -> tuple[int, ...]:
        if letters > LETTERS_PER_TOKEN * context:
            raise ContextTooLong(
                f"the prompt has {letters} letters; this host's context is {context} tokens",
                "messages",
            )
        if letters < LONG_TEXT:
            return encode()
        return await trio.to_thread.run_sync(encode)

    def _max_new(self, prompt: tuple[int, ...], asked: int | None, context: int) -> int:
        room = context - len(prompt)
        if room < 1 or (asked is not None and asked > room):
            wanted = f" and {asked} more are asked for" if asked and room > 0 else ""
            raise ContextTooLong(
                f"the prompt has {len(prompt)} tokens{wanted}; this host's context is {context}",
                "max_tokens" if wanted else "messages",
            )
        limit = asked or room
        return min(limit, self._max_tokens) if self._max_tokens else limit

    def _waiting(self) -> list[Choice]:
        return [choice for choice in self._choices.values() if not choice.committed]

    def _queue(self, namespace: bytes) -> Queue:
        waiting = self._waiting()
        return Queue(
            is_full=self._gauge is not None and self._gauge.waiting > 0,
            limits=[choice.max_new for choice in waiting],
            own=[choice.max_new for choice in waiting if choice.namespace == namespace],
            owners=len({namespace, *(choice.namespace for choice in waiting)}),
        )

    def _engine_loaded(self) -> Loaded:
        if self._engine.loaded is None:
            what = "restarting" if self._known else "loading the model"
            raise Unavailable(f"the engine is {what}; try again soon", RESTART_SECONDS)
        return self._engine.loaded

    def _is_end(self, choice: Choice, token: int) -> bool:
        known = self._known
        return known is not None and token in known.end_ids and not choice.sampling.ignore_eos

    def _missed_finish(self, choice: Choice, loaded: Loaded) -> FinishReason | None:
        """Say how a choice ended whose `Finished` died with the engine; None = it goes on."""
        if choice.committed and self._is_end(choice, choice.committed[-1]):
            return FinishReason.STOP
        full = len(choice.prompt) + len(choice.committed) >= loaded.context
        return FinishReason.LENGTH if choice.left <= 0 or full else None

    def _measure(self, choice: Choice, message: Committed) -> None:
        now = self._now()
        since = None if choice.committed_at is None else now - choice.committed_at
        if choice.committed_at is None:
            self._metrics.first_token(now - choice.started_at)
        choice.committed_at = now
        self._throughput.add(len(message.tokens), now)
        self._metrics.committed(len(message.tokens), since, message.drafted > 0)


def _check_bias(ask: Ask, size: int) -> None:
    for id, _ in ask.sampling.logit_bias:
        if id >= size:
            raise RequestError(f"logit_bias: no token {id}; this model has {size}", "logit_bias")


def _refusal(code: str, text: str) -> NexusError:
    kinds: dict[str, type[RequestError]] = {"request.context-length-exceeded": ContextTooLong}
    if code.startswith("request."):
        return kinds.get(code, RequestError)(text)
    return Overloaded(text, RESTART_SECONDS)
