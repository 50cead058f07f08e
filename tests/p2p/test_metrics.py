"""p2p/process/metrics.py: a real port that answers Prometheus."""

import pytest
import trio
from prometheus_client import CollectorRegistry, Counter

from p2p.errors import ResourceError
from p2p.process.metrics import MAX_REQUEST_BYTES, serve_metrics


async def ask(port: int, request: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request)
        answer = b""
        with trio.fail_after(5):
            async for data in stream:
                answer += data
        return answer


async def test_metrics_are_served_and_other_paths_refused() -> None:
    registry = CollectorRegistry()
    Counter("nexus_things", "Things.", registry=registry).inc(3)

    async with serve_metrics(registry, "127.0.0.1", 0) as port:
        page = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        other = await ask(port, b"GET /secrets HTTP/1.1\r\n\r\n")

    assert page.startswith(b"HTTP/1.1 200 OK")
    assert b"nexus_things_total 3.0" in page
    assert other.startswith(b"HTTP/1.1 404")


async def test_a_client_that_leaves_or_floods_harms_nobody() -> None:
    async with serve_metrics(CollectorRegistry(), "127.0.0.1", 0) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_eof()
        await stream.aclose()
        flood = await ask(port, b"x" * MAX_REQUEST_BYTES)
        page = await ask(port, b"GET / HTTP/1.1\r\n\r\n")

    assert flood.startswith(b"HTTP/1.1 404")
    assert page.startswith(b"HTTP/1.1 200")


async def test_a_port_that_is_taken_is_named() -> None:
    async with serve_metrics(CollectorRegistry(), "127.0.0.1", 0) as port:
        with pytest.raises(ResourceError, match=f"127.0.0.1:{port}: cannot be listened on"):
            async with serve_metrics(CollectorRegistry(), "127.0.0.1", port):
                pass
