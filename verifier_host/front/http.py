"""The API's sockets: hypercorn's HTTP over connections that end when they are told to.

hypercorn 0.18 shields its writes from cancellation, so a client that reads nothing would hold a
write, and the shutdown, for ever: `_Patient` bounds each write (tests/system/test_front.py).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from starlette.applications import Starlette

from p2p.errors import ResourceError

HEADER_SECONDS = 10.0  # from connecting, or from the last answer, to the end of the next header
WRITE_SECONDS = 60.0  # for one write to be taken
GRACE_SECONDS = 1.0  # at shutdown, for answers that are being written


@asynccontextmanager
async def serve_http(app: Starlette, host: str, port: int) -> AsyncIterator[int]:
    """Serve `app` on `host`:`port` (0 = any free one) within the block; yield the port.

    Raises:
        ResourceError: the address cannot be listened on.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ResourceError(f"{host}:{port}: cannot be listened on ({error.strerror})") from error
    config = Config()
    config.keep_alive_timeout = HEADER_SECONDS
    config.include_server_header = False
    config.accesslog = config.errorlog = None
    context = WorkerContext(None)
    connections: set[_Patient] = set()
    wrapped = ASGIWrapper(cast("ASGIFramework", app))
    serve_one = partial(TCPServer, wrapped, config, context, ConnectionState({}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(
                trio.serve_listeners,
                serve_one,
                [_Listener(each, connections) for each in listeners],
                handler_nursery=nursery,
            )
        )
        try:
            yield int(listeners[0].socket.getsockname()[1])
        finally:
            await context.terminated.set()
            nursery.cancel_scope.cancel()
            for connection in tuple(connections):
                connection.give_up()


class _Patient(trio.abc.HalfCloseableStream):
    """A connection whose writes end after `WRITE_SECONDS`, or at `give_up`, shielded or not."""

    def __init__(self, stream: trio.SocketStream, among: "set[_Patient]") -> None:
        self.socket = stream.socket  # hypercorn asks it for both addresses
        self._stream = stream
        self._among = among
        self._scopes: set[trio.CancelScope] = set()
        self._has_given_up = False
        among.add(self)

    def give_up(self) -> None:
        """End the writes under way once `GRACE_SECONDS` have passed, and all later ones at once."""
        self._has_given_up = True
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, trio.current_time() + GRACE_SECONDS)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        seconds = GRACE_SECONDS if self._has_given_up else WRITE_SECONDS
        with trio.move_on_after(seconds) as scope:
            self._scopes.add(scope)
            try:
                await self._stream.send_all(memoryview(data))
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self._among.discard(self)
        await self._stream.aclose()


class _Listener(trio.abc.Listener[_Patient]):
    def __init__(self, listener: trio.SocketListener, among: set[_Patient]) -> None:
        self._listener = listener
        self._among = among

    async def accept(self) -> _Patient:
        return _Patient(await self._listener.accept(), self._among)

    async def aclose(self) -> None:
        await self._listener.aclose()
