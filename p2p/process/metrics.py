"""A process's Prometheus metrics on a port of their own; only parents serve them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from p2p.errors import ResourceError

MAX_REQUEST_BYTES = 8192
REQUEST_SECONDS = 5.0


@asynccontextmanager
async def serve_metrics(registry: CollectorRegistry, address: str, port: int) -> AsyncIterator[int]:
    """Answer `GET /metrics` on `address`:`port` (0 = any free one) and yield the port.

    Raises:
        ResourceError: the address cannot be listened on.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=address)
    except OSError as error:
        raise ResourceError(
            f"{address}:{port}: cannot be listened on ({error.strerror})"
        ) from error
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(_answer, registry), listeners)
        try:
            yield int(listeners[0].socket.getsockname()[1])
        finally:
            nursery.cancel_scope.cancel()


async def _answer(registry: CollectorRegistry, stream: trio.SocketStream) -> None:
    request = b""
    with trio.move_on_after(REQUEST_SECONDS):
        try:
            while b"\r\n\r\n" not in request and len(request) < MAX_REQUEST_BYTES:
                data = await stream.receive_some(4096)
                if not data:
                    return
                request += data
            known = request.startswith((b"GET /metrics ", b"GET / "))
            body = generate_latest(registry) if known else b"not found: try /metrics\n"
            kind = CONTENT_TYPE_LATEST if known else "text/plain"
            head = (
                f"HTTP/1.1 {'200 OK' if known else '404 Not Found'}\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            await stream.send_all(head.encode() + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
