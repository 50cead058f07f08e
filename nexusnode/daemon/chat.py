"""The user's own questions to a host's OpenAI API, with the origin of every token.

Prompts and answers pass through and are kept nowhere. A host's bytes are bounded, and never
trusted.
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import httpx
import trio

from nexusnode.control.messages import ChatEnd, ChatEvent, ChatStart, ChatToken
from p2p.errors import BadKey, ConfigError, ControlError, NexusError, RequestError, Unavailable
from p2p.log import Log
from p2p.process.guard import guard

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0  # a host keeps a waiting client alive every 10 s
MAX_LINE_BYTES = 1 << 20
MAX_ERROR_BYTES = 65_536
MAX_TOKEN_BYTES = 65_536
MAX_TOKENS = 4096  # of one event
MAX_CHATS = 4

Publish = Callable[[ChatEvent], None]
Access = Callable[[], tuple[str, str | None]]


class Chats:
    """The chats that run now. `access` gives the API's address and key at each start."""

    def __init__(self, access: Access, nursery: trio.Nursery, log: Log) -> None:
        self._access = access
        self._nursery = nursery
        self._log = log
        self._running: dict[int, tuple[object, trio.CancelScope]] = {}
        self._last = 0

    def start(self, owner: object, question: ChatStart, publish: Publish) -> int:
        """Begin a chat and return its number; its events go to `publish`, the last has `end`."""
        url, key = self._access()
        if not url:
            raise ConfigError("no host to chat with: set chat.url to the address of its HTTP API")
        if len(self._running) >= MAX_CHATS:
            raise ControlError(f"{MAX_CHATS} chats are running; stop one", "control.busy")
        self._last += 1
        scope = trio.CancelScope()
        self._running[self._last] = (owner, scope)
        task = partial(self._run, self._last, scope, url, key, question, publish)
        self._nursery.start_soon(partial(guard, self._log, "chat", task))
        return self._last

    def stop(self, owner: object, chat: int) -> None:
        running = self._running.get(chat)
        if running is None or running[0] is not owner:
            raise ControlError(f"no chat {chat} of this client is running", "control.not-found")
        running[1].cancel()

    def departed(self, owner: object) -> None:
        """End the chats of a client that is gone."""
        for whose, scope in self._running.values():
            if whose is owner:
                scope.cancel()

    async def _run(
        self,
        chat: int,
        scope: trio.CancelScope,
        url: str,
        key: str | None,
        question: ChatStart,
        publish: Publish,
    ) -> None:
        end = ChatEnd("stopped", "", "", 0, 0, 0, 0)
        try:
            with scope:
                end = await _ask(chat, url, key, question, publish)
        except NexusError as error:
            end = ChatEnd("failed", error.code, str(error)[:1000], 0, 0, 0, 0)
        finally:
            del self._running[chat]
        publish(ChatEvent(chat, (), end))


async def _ask(
    chat: int, url: str, key: str | None, question: ChatStart, publish: Publish
) -> ChatEnd:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    answer = _Answer()
    try:
        async with httpx.AsyncClient(
            base_url=url.rstrip("/") + "/", headers=headers, timeout=timeout
        ) as client:
            model = question.model or await _first_model(client)
            body = _body(question, model)
            async with client.stream("POST", "chat/completions", json=body) as reply:
                await _check(reply)
                async with aclosing(_lines(reply)) as lines:
                    async for line in lines:
                        tokens = answer.take(line)
                        for start in range(0, len(tokens), MAX_TOKENS):
                            part = tuple(tokens[start : start + MAX_TOKENS])
                            publish(ChatEvent(chat, part, None))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(f"{url}: the host's API does not answer ({reason})") from error
    return answer.end()


def _body(question: ChatStart, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.text} for turn in question.turns],
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
        "nexus": {"origin": True, "draft": question.draft},
    }
    if question.seed is not None:
        body["seed"] = question.seed
    return body


async def _first_model(client: httpx.AsyncClient) -> str:
    async with client.stream("GET", "models") as reply:
        await _check(reply)
        found = _parse(await _read_some(reply, MAX_LINE_BYTES))
    models = found.get("data")
    if isinstance(models, list) and models and isinstance(models[0], dict):
        return str(models[0].get("id", ""))
    raise Unavailable("the host's API lists no model")


async def _check(reply: httpx.Response) -> None:
    if reply.status_code == 200:
        return
    error = _parse(await _read_some(reply, MAX_ERROR_BYTES)).get("error")
    words = str(error.get("message", "")) if isinstance(error, dict) else ""
    sentence = f"the host answered {reply.status_code}: {words[:300] or reply.reason_phrase}"
    if reply.status_code == 401:
        raise BadKey(f"{sentence}. Set the key again with `nexusnode chat --set-key`.")
    if reply.status_code in (429, 502, 503, 504):
        raise Unavailable(sentence)
    raise RequestError(sentence)


async def _read_some(reply: httpx.Response, max_bytes: int) -> bytes:
    data = b""
    async with aclosing(_pieces(reply)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > max_bytes:
                break
    return data[:max_bytes]


def _pieces(reply: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Return the body's bytes; httpx gives a generator, and trio wants it closed by hand."""
    pieces = reply.aiter_bytes()
    assert isinstance(pieces, AsyncGenerator)
    return pieces


async def _lines(reply: httpx.Response) -> AsyncGenerator[bytes, None]:
    rest = b""
    async with aclosing(_pieces(reply)) as pieces:
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise Unavailable(f"the host sent a line of more than {MAX_LINE_BYTES} bytes")
            for line in lines:
                yield line.rstrip(b"\r")


class _Answer:
    """What a stream of chunks has said so far."""

    def __init__(self) -> None:
        self._finish = "stop"
        self._counts = {"tokens": 0, "accepted": 0, "drafted": 0, "steps": 0}

    def take(self, line: bytes) -> list[ChatToken]:
        """Return the tokens of one line of the event stream."""
        if not line.startswith(b"data: ") or line == b"data: [DONE]":
            return []
        chunk = _parse(line[6:])
        if isinstance(failure := chunk.get("error"), dict):
            words = str(failure.get("message", ""))[:300]
            raise Unavailable(f"the host ended the answer: {words}")
        self._count(chunk)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return []
        choice = choices[0]
        self._finish = _text(choice.get("finish_reason"), 32) or self._finish
        return _tokens(choice)

    def end(self) -> ChatEnd:
        counts = self._counts
        return ChatEnd(
            self._finish,
            "",
            "",
            counts["tokens"],
            counts["accepted"],
            counts["drafted"],
            counts["steps"],
        )

    def _count(self, chunk: dict[str, Any]) -> None:
        usage, report = chunk.get("usage"), chunk.get("nexus")
        if isinstance(usage, dict):
            self._counts["tokens"] = _number(usage.get("completion_tokens"))
        if isinstance(report, dict):
            for name in ("accepted", "drafted", "steps"):
                self._counts[name] = _number(report.get(name))


def _tokens(choice: dict[str, Any]) -> list[ChatToken]:
    """Return a choice's tokens with their origin, or its text as the target's own."""
    origin = choice.get("nexus")
    listed = origin.get("tokens") if isinstance(origin, dict) else None
    if isinstance(listed, list):
        return [
            ChatToken(
                _text(token.get("text"), MAX_TOKEN_BYTES),
                _text(token.get("node"), 64) if token.get("source") == "draft" else "",
            )
            for token in listed
            if isinstance(token, dict)
        ]
    delta = choice.get("delta")
    text = _text(delta.get("content"), MAX_TOKEN_BYTES) if isinstance(delta, dict) else ""
    return [ChatToken(text, "")] if text else []


def _parse(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object, max_bytes: int) -> str:
    if not isinstance(value, str):
        return ""
    return value.encode(errors="replace")[:max_bytes].decode(errors="ignore")


def _number(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**32 else 0
