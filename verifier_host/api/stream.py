"""Answers on the wire: one JSON object, or server-sent events; a client that leaves is noticed."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from p2p.errors import NexusError

KEEP_ALIVE_SECONDS = 10.0
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
GONE_STATUS = 499  # nginx's "client closed request": nobody reads it

T = TypeVar("T")


def event(body: object) -> bytes:
    """Return one server-sent event."""
    return (
        b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
    )


class EventStream(Response):
    """Sends events as they come, and a comment while none do; `on_end` is called in any case.

    When the client leaves, `events` is closed where it stands.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], on_end: Callable[[], None]) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._on_end = on_end
        self._last_write = 0.0
        self._lock = trio.Lock()  # two tasks write: events and keep-alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
                nursery.start_soon(self._keep_alive, send)
                async with aclosing(self._events) as events:
                    async for data in events:
                        await self._write(send, data)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                nursery.cancel_scope.cancel()
        finally:
            self._on_end()

    async def _write(self, send: Send, data: bytes) -> None:
        async with self._lock:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self._last_write = trio.current_time()

    async def _keep_alive(self, send: Send) -> None:
        self._last_write = trio.current_time()
        while True:
            due = self._last_write + KEEP_ALIVE_SECONDS
            await trio.sleep_until(due)
            if self._last_write + KEEP_ALIVE_SECONDS <= due:
                await self._write(send, KEEP_ALIVE)


async def unless_gone(request: Request, work: Callable[[], Awaitable[T]]) -> T | None:
    """Return what `work` returns, or None: the client left and `work` was cancelled.

    The request's body must have been read. A `NexusError` of `work` is raised as it is.
    """
    done: list[T] = []
    failure: NexusError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_gone, request.receive, nursery.cancel_scope)
        try:
            done.append(await work())
        except NexusError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return done[0] if done else None


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
