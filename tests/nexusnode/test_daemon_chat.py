import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from nexusnode.control.messages import ChatEnd, ChatEvent, ChatStart, ChatToken, ChatTurn
from nexusnode.daemon.chat import MAX_CHATS, Chats
from p2p.errors import ConfigError, ControlError
from p2p.log import quiet_log
from p2p.wire.schema import check

Answer = Callable[[trio.SocketStream, bytes, dict[str, Any]], Awaitable[None]]
QUESTION = ChatStart((ChatTurn("user", "What is it?"),), "", 16, 0.0, 7, False)


class Api:
    """A host's HTTP API on a free port; it answers with what the test says."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[tuple[bytes, dict[str, Any]]] = []
        self._answer = answer

    async def serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (
                int(line[15:])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            0,
        )
        while len(body) < length:
            body += await stream.receive_some(65_536)
        asked = json.loads(body) if body else {}
        self.requests.append((head, asked))
        if head.startswith(b"GET /v1/models"):
            await reply(stream, 200, {"data": [{"id": "the-model"}]})
        else:
            await self._answer(stream, head, asked)


async def reply(stream: trio.SocketStream, status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    await stream.send_all(
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )


async def send_events(stream: trio.SocketStream, *chunks: Any) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n: keep-alive\n\n")
    for chunk in chunks:
        line = chunk if isinstance(chunk, bytes) else b"data: " + json.dumps(chunk).encode()
        await stream.send_all(line + b"\n\n")


@asynccontextmanager
async def chatting(answer: Answer, key: str | None = "nx-1") -> AsyncIterator[tuple[Chats, Api]]:
    api = Api(answer)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(partial(trio.serve_listeners, api.serve, listeners))
        url = f"http://127.0.0.1:{port}/v1/"
        yield Chats(lambda: (url, key), nursery, quiet_log()), api
        nursery.cancel_scope.cancel()


async def ask(chats: Chats, question: ChatStart = QUESTION) -> tuple[list[ChatToken], ChatEnd]:
    events: list[ChatEvent] = []
    done = trio.Event()

    def publish(event: ChatEvent) -> None:
        check(event)
        events.append(event)
        if event.end is not None:
            done.set()

    chats.start("me", question, publish)
    with trio.fail_after(10):
        await done.wait()
    end = events[-1].end
    assert end is not None
    return [token for event in events for token in event.tokens], end


def chunk(*tokens: tuple[str, str | None], finish: str | None = None) -> dict[str, Any]:
    listed = [
        {"text": text, "source": "draft" if node else "target", "node": node}
        for text, node in tokens
    ]
    text = "".join(text for text, _ in tokens)
    choice = {"delta": {"content": text}, "nexus": {"tokens": listed}, "finish_reason": finish}
    return {"choices": [choice]}


REPORT = {
    "choices": [],
    "usage": {"completion_tokens": 3},
    "nexus": {"steps": 2, "drafted": 4, "accepted": 1},
}


async def test_tokens_come_with_their_origin_and_the_end_with_the_sums() -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await send_events(
            stream, chunk(("A", None), ("b", "node1")), chunk(("c", None), finish="length"), REPORT,
            b"data: [DONE]",
        )  # fmt: skip

    async with chatting(answer) as (chats, api):
        tokens, end = await ask(chats)

    assert tokens == [ChatToken("A", ""), ChatToken("b", "node1"), ChatToken("c", "")]
    assert end == ChatEnd("length", "", "", 3, 1, 4, 2)
    head, asked = api.requests[-1]
    assert b"POST /v1/chat/completions" in head
    assert b"Bearer nx-1" in head
    assert asked["model"] == "the-model"
    assert asked["nexus"] == {"origin": True, "draft": False}
    assert (asked["seed"], asked["max_tokens"], asked["stream"]) == (7, 16, True)


async def test_an_api_without_origins_is_shown_as_the_targets_own() -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await send_events(stream, {"choices": [{"delta": {"content": "plain"}}]}, b"data: [DONE]")

    async with chatting(answer, key=None) as (chats, api):
        tokens, end = await ask(chats)

    assert tokens == [ChatToken("plain", "")]
    assert end.reason == "stop"
    assert b"Bearer" not in api.requests[-1][0]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "request.invalid-api-key"),
        (400, "request.invalid"),
        (503, "unavailable"),
        (429, "unavailable"),
    ],
)
async def test_a_refusal_is_passed_on_in_the_hosts_words(status: int, code: str) -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await reply(stream, status, {"error": {"message": "because"}})

    async with chatting(answer) as (chats, _):
        _, end = await ask(chats)

    assert (end.reason, end.code) == ("failed", code)
    assert f"{status}: because" in end.sentence


@pytest.mark.parametrize(
    "line",
    [
        b"data: {nonsense",
        b"data: []",
        b'data: {"choices": 5}',
        b'data: {"choices": [7]}',
        b'data: {"choices": [{"delta": 5, "nexus": {"tokens": [5, {"text": 7}]}}]}',
        b'data: {"choices": [], "usage": {"completion_tokens": -5}, "nexus": {"steps": "x"}}',
        b"event: x",
        b"data: " + b"[" * 50_000,
    ],
)
async def test_what_a_host_should_not_say_does_no_harm(line: bytes) -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await send_events(stream, line, chunk(("fine", None)))

    async with chatting(answer) as (chats, _):
        tokens, end = await ask(chats)

    assert tokens[-1] == ChatToken("fine", "")
    assert (end.tokens, end.steps) == (0, 0)


async def test_an_error_in_the_middle_of_the_stream_fails_the_chat() -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await send_events(stream, chunk(("half", None)), {"error": {"message": "engine restarts"}})

    async with chatting(answer) as (chats, _):
        tokens, end = await ask(chats)

    assert tokens == [ChatToken("half", "")]
    assert (end.reason, end.code) == ("failed", "unavailable")
    assert "engine restarts" in end.sentence


@pytest.mark.slow
async def test_a_line_without_an_end_is_cut_off() -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await send_events(stream)
        try:
            while True:
                await stream.send_all(b"x" * 65_536)
        except trio.BrokenResourceError:
            return

    async with chatting(answer) as (chats, _):
        _, end = await ask(chats)

    assert "a line of more than" in end.sentence


async def test_a_host_that_is_not_there_is_named() -> None:
    async with trio.open_nursery() as nursery:
        chats = Chats(lambda: ("http://127.0.0.1:1/v1", None), nursery, quiet_log())

        _, end = await ask(chats)

    assert (end.reason, end.code) == ("failed", "unavailable")
    assert "127.0.0.1:1" in end.sentence


async def test_an_address_that_is_none_is_named() -> None:
    async with trio.open_nursery() as nursery:
        chats = Chats(lambda: ("nonsense", None), nursery, quiet_log())

        _, end = await ask(chats)

    assert "nonsense" in end.sentence


async def test_without_an_address_the_user_is_told_what_to_set() -> None:
    async with trio.open_nursery() as nursery:
        chats = Chats(lambda: ("", None), nursery, quiet_log())

        with pytest.raises(ConfigError, match=r"chat\.url"):
            chats.start("me", QUESTION, lambda event: None)


async def test_a_chat_is_stopped_by_its_owner_only_or_when_the_owner_leaves() -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await send_events(stream, chunk(("…", None)))
        await trio.sleep_forever()

    ended: list[ChatEvent] = []
    async with chatting(answer) as (chats, _):
        first = chats.start("me", QUESTION, ended.append)
        chats.start("me", QUESTION, ended.append)
        with pytest.raises(ControlError):
            chats.stop("you", first)

        chats.stop("me", first)
        with trio.fail_after(5):
            while not any(event.end for event in ended):
                await trio.sleep(0)
        chats.departed("you")
        chats.departed("me")
        with trio.fail_after(5):
            while sum(event.end is not None for event in ended) < 2:
                await trio.sleep(0)

        with pytest.raises(ControlError):
            chats.stop("me", first)


async def test_only_so_many_chats_run_at_once() -> None:
    async def answer(stream: trio.SocketStream, head: bytes, asked: dict[str, Any]) -> None:
        await trio.sleep_forever()

    async with chatting(answer) as (chats, _):
        for _ in range(MAX_CHATS):
            chats.start("me", QUESTION, lambda event: None)

        with pytest.raises(ControlError, match="stop one"):
            chats.start("me", QUESTION, lambda event: None)
