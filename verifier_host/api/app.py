"""The HTTP surface: who may ask, what for, and how it is answered. OpenAI's paths and shapes."""

from collections.abc import Callable
from contextlib import aclosing

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from p2p.errors import (
    BadKey,
    BodyTooLarge,
    ModelNotAllowed,
    NexusError,
    RequestError,
    UnknownModel,
    UnsupportedMedia,
)
from p2p.log import Log
from verifier_host.api import chat, completions
from verifier_host.api.answers import Form, Shape, events, whole
from verifier_host.api.backend import Ask, Backend, Prompt, Running
from verifier_host.api.errors import error_code, error_response, from_http_exception, internal_error
from verifier_host.api.keys import ANYONE, Key, KeyBook, find
from verifier_host.api.limits import Meter
from verifier_host.api.requests import (
    MAX_CHOICES,
    Fields,
    parse,
    read_sampling,
    read_seed,
    read_stop,
)
from verifier_host.api.stream import GONE_STATUS, EventStream, unless_gone

MAX_BODY_BYTES = 4 << 20
BODY_SECONDS = 30.0


def make_app(
    backend: Backend,
    keys: KeyBook | None,
    log: Log,
    refused: Callable[[str], None] = lambda _code: None,
) -> Starlette:
    """Return the API over `backend`.

    Args:
        keys: None = anyone who reaches the port may ask.
        refused: called with the code of each refusal, for metrics.
    """
    api = _Api(backend, keys, log, refused)
    return Starlette(
        routes=[
            Route("/health", api.health, methods=["GET"]),
            Route("/ready", api.ready, methods=["GET"]),
            Route("/v1/models", api.models, methods=["GET"]),
            Route("/v1/models/{name:path}", api.model, methods=["GET"]),
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
            Route("/v1/completions", api.completions, methods=["POST"]),
        ],
        exception_handlers={
            NexusError: api.on_error,
            HTTPException: api.on_http_exception,
            Exception: api.on_bug,
        },
    )


class _Api:
    def __init__(
        self, backend: Backend, keys: KeyBook | None, log: Log, refused: Callable[[str], None]
    ) -> None:
        self._backend = backend
        self._keys = keys
        self._log = log
        self._refused = refused
        self._meter = Meter()

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        why = self._backend.not_ready()
        return JSONResponse({"status": why or "ready"}, 503 if why else 200)

    async def models(self, request: Request) -> Response:
        key = self._key(request)
        cards = [self._card()] if _may_use(key, self._backend.card().name) else []
        return JSONResponse({"object": "list", "data": cards})

    async def model(self, request: Request) -> Response:
        self._check_model(request.path_params["name"], self._key(request))
        return JSONResponse(self._card())

    async def chat(self, request: Request) -> Response:
        key = self._key(request)
        fields = await _read_fields(request)
        if fields is None:
            return Response(status_code=GONE_STATUS)
        self._check_model(fields.text("model"), key)
        chat.refuse_unsupported(fields)
        logprobs = chat.read_logprobs(fields)
        prompts = (chat.read_messages(fields),)
        ask = _read_ask(fields, key, prompts, logprobs, chat.read_max_tokens(fields))
        shape = chat.ChatShape(with_logprobs=logprobs >= 0)
        return await self._answer(request, key, fields, ask, lambda _running: shape)

    async def completions(self, request: Request) -> Response:
        key = self._key(request)
        fields = await _read_fields(request)
        if fields is None:
            return Response(status_code=GONE_STATUS)
        self._check_model(fields.text("model"), key)
        logprobs = completions.read_logprobs(fields)
        completions.refuse_unsupported(fields, logprobs)
        prompts = completions.read_prompts(fields)
        ask = _read_ask(fields, key, prompts, logprobs, completions.read_max_tokens(fields))
        has_echo = fields.flag("echo")

        def shape(running: Running) -> Shape:
            texts = running.prompt_texts if has_echo else ("",) * len(prompts)
            echoes = tuple(text for text in texts for _ in range(ask.choices))
            return completions.CompletionShape(logprobs >= 0, echoes)

        return await self._answer(request, key, fields, ask, shape)

    async def _answer(
        self,
        request: Request,
        key: Key,
        fields: Fields,
        ask: Ask,
        shape_of: Callable[[Running], Shape],
    ) -> Response:
        """Generate and answer. Whatever ends it, the key is counted out and the engine let go."""
        is_stream = fields.flag("stream")
        include_usage = fields.part("stream_options").flag("include_usage") and is_stream
        origin = fields.part("nexus").flag("origin")
        if fields.unknown():
            self._log.event("request.unknown_fields", count=fields.unknown())
        self._meter.enter(key, trio.current_time())
        begun: list[Running] = []

        def end() -> None:
            tally = begun[0].tally() if begun else None
            tokens = tally.prompt_tokens + tally.completion_tokens if tally else 0
            self._meter.leave(key, tokens, trio.current_time())
            for running in begun:
                running.cancel()

        async def start() -> Form:
            begun.append(await self._backend.start(ask))
            count = len(ask.prompts) * ask.choices
            return Form(shape_of(begun[0]), count, origin, include_usage)

        async def everything() -> Response:
            form = await start()
            return JSONResponse(await whole(begun[0], form, self._backend.card()))

        handed_over = False
        try:
            if not is_stream:
                return await unless_gone(request, everything) or Response(status_code=GONE_STATUS)
            form = await unless_gone(request, start)
            if form is None:
                return Response(status_code=GONE_STATUS)
            handed_over = True
            return EventStream(events(begun[0], form, self._backend.card()), end)
        finally:
            if not handed_over:
                end()

    async def on_error(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, NexusError)
        self._refused(error_code(error))
        return error_response(error)

    async def on_http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        self._refused("not_found" if error.status_code == 404 else "method_not_allowed")
        return from_http_exception(request, error)

    async def on_bug(self, _request: Request, error: Exception) -> Response:
        number, response = internal_error()
        self._refused("internal_error")
        self._log.failure("api.bug", error, id=number)
        return response

    def _key(self, request: Request) -> Key:
        if self._keys is None:
            return ANYONE
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise BadKey("no API key: send the header Authorization: Bearer nx-…")
        return find(self._keys.keys(), secret.strip())

    def _check_model(self, name: str, key: Key) -> None:
        served = self._backend.card().name
        if name != served:
            raise UnknownModel(f"model: no such model here; this host serves {served}", "model")
        if not _may_use(key, name):
            raise ModelNotAllowed(f"model: this key may not use {name}", "model")

    def _card(self) -> dict[str, object]:
        card = self._backend.card()
        own = {"exact": card.exact, "fingerprint": card.fingerprint, "drafting": card.drafting}
        return {
            "id": card.name,
            "object": "model",
            "created": card.created,
            "owned_by": "nexus",
            "max_model_len": card.context,
            "nexus": own,
        }


def _may_use(key: Key, model: str) -> bool:
    return not key.models or model in key.models


def _read_ask(
    fields: Fields,
    key: Key,
    prompts: tuple[Prompt, ...],
    logprobs: int,
    max_tokens: int | None,
) -> Ask:
    own = fields.part("nexus")
    return Ask(
        prompts=prompts,
        choices=fields.whole("n", 1, MAX_CHOICES, 1),
        sampling=read_sampling(fields, logprobs),
        max_tokens=max_tokens,
        stop=read_stop(fields),
        seed=read_seed(fields),
        draft=own.flag("draft", True) and key.draft,
        exact=own.flag("exact"),
        namespace=key.namespace,
    )


async def _read_fields(request: Request) -> Fields | None:
    """Return the body's fields, None if the client left while it sent them."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia("content-type: expected application/json")
    body = bytearray()
    try:
        with trio.move_on_after(BODY_SECONDS) as scope:
            async with aclosing(request.stream()) as stream:
                async for data in stream:
                    body += data
                    if len(body) > MAX_BODY_BYTES:
                        raise BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES >> 20} MiB")
    except ClientDisconnect:
        return None
    if scope.cancelled_caught:
        raise RequestError(f"the body did not arrive within {BODY_SECONDS:.0f} s")
    return parse(bytes(body))
