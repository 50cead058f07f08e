"""The HTTP surface over a backend that says what a test wants."""

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from p2p.errors import ContextTooLong, NexusError, Overloaded, Unavailable
from p2p.log import quiet_log
from verifier_host.api.app import MAX_BODY_BYTES, make_app
from verifier_host.api.backend import Alternative, Ask, ModelCard, Piece, Tally, Token
from verifier_host.api.keys import ANYONE, Key, KeyBook, mint
from verifier_host.api.stream import KEEP_ALIVE, KEEP_ALIVE_SECONDS, EventStream

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HELLO = [{"role": "user", "content": "hello"}]


def token(text: str, node: str = "", logprob: float | None = None) -> Token:
    top = () if logprob is None else (Alternative(b"x", -2.0),)
    return Token(text, text.encode(), node, logprob, top)


@dataclass
class Script:
    """A `Running` that yields pieces, pauses, or fails, as listed."""

    steps: list[Piece | NexusError | Exception | float]
    prompt_texts: tuple[str, ...] = ("the prompt",)
    cancelled: int = 0

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        for step in self.steps:
            if isinstance(step, float):
                await trio.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                await trio.lowlevel.checkpoint()
                yield step

    def tally(self) -> Tally:
        return Tally(3, 5, 42, 2, 8, 4)

    def cancel(self) -> None:
        self.cancelled += 1


@dataclass
class ScriptedBackend:
    """Answers each request with the next script, and remembers what was asked."""

    scripts: list[Script | NexusError]
    asks: list[Ask] = field(default_factory=list)
    why: str = ""

    def card(self) -> ModelCard:
        return ModelCard("m", 7, 128, True, "f" * 16, "open")

    def not_ready(self) -> str:
        return self.why

    async def start(self, ask: Ask) -> Script:
        self.asks.append(ask)
        await trio.lowlevel.checkpoint()
        script = self.scripts.pop(0)
        if isinstance(script, NexusError):
            raise script
        return script


def hello_script() -> Script:
    pieces: list[Any] = [
        Piece(0, (token("Hel"), token("lo", node="abc")), None),
        Piece(0, (token("!"),), "stop"),
    ]
    return Script(pieces)


def client(
    backend: ScriptedBackend,
    keys: KeyBook | None = None,
    refused: Callable[[str], None] = lambda _code: None,
    **headers: str,
) -> httpx.AsyncClient:
    app = make_app(backend, keys, quiet_log(), refused)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://host", headers=headers)


async def ask(backend: ScriptedBackend, path: str = CHAT, **body: object) -> httpx.Response:
    body = {"model": "m"} | ({"messages": HELLO} if path == CHAT else {}) | body
    async with client(backend) as http:
        return await http.post(path, json=body)


def events(response: httpx.Response) -> list[Any]:
    lines = [line[6:] for line in response.text.split("\n\n") if line.startswith("data: ")]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


async def test_a_chat_is_answered_whole() -> None:
    backend = ScriptedBackend([hello_script()])

    response = await ask(backend)

    found = response.json()
    assert response.status_code == 200
    assert found["object"] == "chat.completion"
    assert found["system_fingerprint"] == "f" * 16
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert found["usage"]["total_tokens"] == 8
    assert found["usage"]["completion_tokens_details"] == {
        "accepted_prediction_tokens": 4,
        "rejected_prediction_tokens": 4,
    }
    assert found["nexus"] == {"seed": 42, "steps": 2, "drafted": 8, "accepted": 4, "exact": True}


async def test_a_finished_request_lets_the_engine_go() -> None:
    for is_stream in (False, True):
        script = hello_script()
        await ask(ScriptedBackend([script]), stream=is_stream)

        assert script.cancelled == 1


async def test_a_stream_begins_with_the_role_and_ends_with_done() -> None:
    response = await ask(ScriptedBackend([hello_script()]), stream=True)

    first, *middle, last, done = events(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert middle[0]["choices"][0]["delta"] == {"content": "Hello"}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["nexus"]["seed"] == 42
    assert done == "[DONE]"
    assert len({event["id"] for event in (first, *middle, last)}) == 1


async def test_usage_comes_in_a_chunk_of_its_own_when_asked_for() -> None:
    response = await ask(
        ScriptedBackend([hello_script()]), stream=True, stream_options={"include_usage": True}
    )

    *chunks, usage, _ = events(response)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert usage["nexus"]["steps"] == 2


async def test_origin_names_the_node_of_every_token() -> None:
    whole = await ask(ScriptedBackend([hello_script()]), nexus={"origin": True})
    stream = await ask(ScriptedBackend([hello_script()]), nexus={"origin": True}, stream=True)

    expected = [
        {"text": "Hel", "source": "target", "node": None},
        {"text": "lo", "source": "draft", "node": "abc"},
        {"text": "!", "source": "target", "node": None},
    ]
    assert whole.json()["choices"][0]["nexus"]["tokens"] == expected
    found = [
        token for event in events(stream)[1:-1] for token in event["choices"][0]["nexus"]["tokens"]
    ]
    assert found == expected


async def test_several_choices_are_kept_apart() -> None:
    pieces: list[Any] = [
        Piece(1, (token("b"),), None),
        Piece(0, (token("a"),), "length"),
        Piece(1, (token("c"),), "stop"),
    ]
    whole = await ask(ScriptedBackend([Script(list(pieces))]), n=2)
    stream = await ask(ScriptedBackend([Script(list(pieces))]), n=2, stream=True)

    texts = [choice["message"]["content"] for choice in whole.json()["choices"]]
    assert texts == ["a", "bc"]
    chunks = events(stream)[:-1]
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1, 1, 0, 1]
    assert ["nexus" in chunk for chunk in chunks] == [False, False, False, False, True]


async def test_logprobs_are_per_token_and_name_the_bytes() -> None:
    script = Script([Piece(0, (token("a", logprob=-0.5), token("", logprob=-1.0)), "stop")])

    response = await ask(ScriptedBackend([script]), logprobs=True, top_logprobs=1)

    content = response.json()["choices"][0]["logprobs"]["content"]
    assert content[0] == {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "x", "logprob": -2.0, "bytes": [120]}],
    }
    assert len(content) == 2


async def test_a_completion_has_its_own_shape() -> None:
    script = Script([Piece(0, (token("ab", logprob=-0.5), token("c", logprob=-1.0)), "length")])

    response = await ask(ScriptedBackend([script]), COMPLETIONS, prompt="x", logprobs=1)

    found = response.json()
    assert found["object"] == "text_completion"
    assert found["choices"][0]["text"] == "abc"
    assert found["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"x": -2.0}, {"x": -2.0}],
        "text_offset": [0, 2],
    }


async def test_echo_repeats_the_prompt_in_front() -> None:
    scripts = [Script([Piece(0, (token("!"),), "stop")]) for _ in range(2)]

    whole = await ask(ScriptedBackend([scripts[0]]), COMPLETIONS, prompt="x", echo=True)
    stream = await ask(
        ScriptedBackend([scripts[1]]), COMPLETIONS, prompt="x", echo=True, stream=True
    )

    assert whole.json()["choices"][0]["text"] == "the prompt!"
    texts = [event["choices"][0]["text"] for event in events(stream)[:-1]]
    assert texts == ["the prompt", "!"]


async def test_several_prompts_make_several_choices() -> None:
    pieces: list[Any] = [Piece(place, (token(str(place)),), "stop") for place in range(4)]
    backend = ScriptedBackend([Script(pieces, ("p", "q"))])

    response = await ask(backend, COMPLETIONS, prompt=["p", "q"], n=2, echo=True)

    texts = [choice["text"] for choice in response.json()["choices"]]
    assert texts == ["p0", "p1", "q2", "q3"]
    assert backend.asks[0].prompts == ("p", "q")


async def test_what_was_asked_reaches_the_backend() -> None:
    backend = ScriptedBackend([hello_script()])

    await ask(backend, seed=5, stop="x", max_tokens=9, n=1, nexus={"draft": False, "exact": True})

    asked = backend.asks[0]
    assert (asked.seed, asked.stop, asked.max_tokens) == (5, ("x",), 9)
    assert not asked.draft
    assert asked.exact


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextTooLong("too long", "messages"), 400, "context_length_exceeded"),
        (Overloaded("later", 12.3), 429, "overloaded"),
        (Unavailable("restarting", 5.0), 503, "engine_restarting"),
    ],
)
async def test_a_refusal_of_the_backend_is_told_in_openai_s_form(
    error: NexusError, status: int, code: str
) -> None:
    for is_stream in (False, True):
        response = await ask(ScriptedBackend([error]), stream=is_stream)

        assert response.status_code == status
        assert response.json()["error"]["code"] == code
        assert response.json()["error"]["message"] == str(error)
        assert ("retry-after" in response.headers) == (status in (429, 503))


async def test_when_to_come_again_is_told_in_seconds_and_milliseconds() -> None:
    response = await ask(ScriptedBackend([Overloaded("later", 12.3)]))

    assert response.headers["retry-after"] == "13"
    assert response.headers["retry-after-ms"] == "12300"


async def test_a_failure_in_the_middle_of_a_stream_is_its_last_event() -> None:
    script = Script([Piece(0, (token("a"),), None), Unavailable("the engine is gone")])

    response = await ask(ScriptedBackend([script]), stream=True)

    *_, last = events(response)
    assert last["error"]["code"] == "engine_restarting"
    assert script.cancelled == 1


async def test_a_failure_of_a_whole_answer_has_its_status() -> None:
    script = Script([Piece(0, (token("a"),), None), Unavailable("the engine is gone")])

    assert (await ask(ScriptedBackend([script]))).status_code == 503


async def test_a_bug_is_a_500_with_an_id_and_no_detail() -> None:
    response = await ask(ScriptedBackend([Script([RuntimeError("secret detail")])]))

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m"}, "messages"),
        ({"messages": HELLO}, "model"),
        ({"model": 3, "messages": HELLO}, "model"),
        ({"model": "m", "messages": HELLO, "n": 0}, "n"),
        ({"model": "m", "messages": HELLO, "n": 9}, "n"),
        ({"model": "m", "messages": HELLO, "stream": "yes"}, "stream"),
        ({"model": "m", "messages": HELLO, "stream_options": []}, "stream_options"),
        ({"model": "m", "messages": HELLO, "nexus": True}, "nexus"),
        ({"model": "m", "messages": HELLO, "nexus": {"draft": 1}}, "draft"),
    ],
)
async def test_bad_input_names_the_field(body: dict[str, object], param: str) -> None:
    async with client(ScriptedBackend([])) as http:
        response = await http.post(CHAT, json=body)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_that_is_not_json_says_where() -> None:
    async with client(ScriptedBackend([])) as http:
        response = await http.post(
            CHAT, content=b'{"model":\n!}', headers={"content-type": "application/json"}
        )

    assert response.status_code == 400
    assert "line 2 column 1" in response.json()["error"]["message"]


async def test_another_content_type_is_refused() -> None:
    async with client(ScriptedBackend([])) as http:
        response = await http.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})

    assert response.status_code == 415


async def test_a_body_may_have_four_mebibytes_and_no_more() -> None:
    kind = {"content-type": "application/json"}
    async with client(ScriptedBackend([])) as http:
        fits = await http.post(CHAT, content=b" " * MAX_BODY_BYTES, headers=kind)
        too_large = await http.post(CHAT, content=b" " * (MAX_BODY_BYTES + 1), headers=kind)

    assert fits.status_code == 400
    assert too_large.status_code == 413
    assert too_large.json()["error"]["code"] == "body_too_large"


async def test_an_unknown_model_is_named_with_the_one_that_is_served() -> None:
    response = await ask(ScriptedBackend([]), model="gpt-5")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "m" in response.json()["error"]["message"]


async def test_unknown_paths_and_methods_are_refused_in_the_same_form() -> None:
    async with client(ScriptedBackend([])) as http:
        path = await http.get("/v1/embeddings")
        method = await http.get(CHAT)

    assert (path.status_code, path.json()["error"]["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_allowed")
    assert method.headers["allow"] == "POST"


async def test_every_refusal_is_counted_by_its_code() -> None:
    codes: list[str] = []
    async with client(ScriptedBackend([]), refused=codes.append) as http:
        await http.get("/nowhere")
        await http.post(CHAT, json={})
        await http.post(CHAT, json={"model": "m", "messages": HELLO, "tools": [1]})

    assert codes == ["not_found", "invalid_value", "unsupported_parameter"]


async def test_models_are_listed_and_described() -> None:
    async with client(ScriptedBackend([])) as http:
        listed = await http.get("/v1/models")
        one = await http.get("/v1/models/m")
        other = await http.get("/v1/models/org/other")

    assert [card["id"] for card in listed.json()["data"]] == ["m"]
    assert one.json()["nexus"] == {"exact": True, "fingerprint": "f" * 16, "drafting": "open"}
    assert one.json()["max_model_len"] == 128
    assert other.status_code == 404


async def test_ready_says_why_not() -> None:
    backend = ScriptedBackend([], why="loading")
    async with client(backend) as http:
        before = await http.get("/ready")
        health = await http.get("/health")
        backend.why = ""
        after = await http.get("/ready")

    assert (before.status_code, before.json()["status"]) == (503, "loading")
    assert health.status_code == 200
    assert after.status_code == 200


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    return KeyBook(tmp_path / "keys")


def add_key(book: KeyBook, template: Key = ANYONE) -> dict[str, str]:
    secret, key = mint("a key", 0, template)
    book.add(key)
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic x", "Bearer nx-wrong", "nx-"])
async def test_no_key_or_a_wrong_one_is_refused(book: KeyBook, header: str) -> None:
    add_key(book)
    async with client(ScriptedBackend([]), book, authorization=header) as http:
        response = await http.get("/v1/models")

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


async def test_a_key_opens_and_parts_the_cache(book: KeyBook) -> None:
    backend = ScriptedBackend([hello_script(), hello_script()])
    for _ in range(2):
        async with client(backend, book, **add_key(book)) as http:
            await http.post(CHAT, json={"model": "m", "messages": HELLO})

    first, second = backend.asks
    assert len(first.namespace) == 32
    assert first.namespace != second.namespace


async def test_a_key_for_other_models_is_refused(book: KeyBook) -> None:
    headers = add_key(book, replace(ANYONE, models=("other",)))
    async with client(ScriptedBackend([]), book, **headers) as http:
        response = await http.post(CHAT, json={"model": "m", "messages": HELLO})
        listed = await http.get("/v1/models")

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "model_not_allowed"
    assert listed.json()["data"] == []


async def test_a_key_without_drafting_overrules_the_request(book: KeyBook) -> None:
    backend = ScriptedBackend([hello_script()])
    headers = add_key(book, replace(ANYONE, draft=False))
    async with client(backend, book, **headers) as http:
        body = {"model": "m", "messages": HELLO, "nexus": {"draft": True}}
        await http.post(CHAT, json=body)

    assert not backend.asks[0].draft


async def test_a_key_at_its_limit_waits_and_is_let_in_again(book: KeyBook) -> None:
    backend = ScriptedBackend([hello_script(), Unavailable("no"), hello_script()])
    headers = add_key(book, replace(ANYONE, concurrent=1, tokens_per_minute=9))
    async with client(backend, book, **headers) as http:
        body = {"model": "m", "messages": HELLO}
        answers = [await http.post(CHAT, json=body) for _ in range(4)]

    # 8 tokens, none, 8 more: then the minute's 9 are overdrawn.
    assert [answer.status_code for answer in answers] == [200, 503, 200, 429]
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_silent_stream_is_kept_alive_by_comments(autojump_clock: MockClock) -> None:
    sent: list[bytes] = []

    async def slow() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        await trio.sleep(KEEP_ALIVE_SECONDS * 2.5)
        yield b"data: 2\n\n"

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message.get("body"):
            sent.append(message["body"])

    await EventStream(slow(), lambda: None)({}, trio.sleep_forever, send)

    assert sent == [b"data: 1\n\n", KEEP_ALIVE, KEEP_ALIVE, b"data: 2\n\n"]


async def test_a_client_that_leaves_ends_its_stream() -> None:
    ended: list[str] = []
    gone = trio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            await trio.sleep_forever()
        finally:
            ended.append("events")

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message.get("body"):
            gone.set()

    await EventStream(endless(), lambda: ended.append("request"))({}, receive, send)

    assert ended == ["events", "request"]


async def test_a_client_that_leaves_cancels_its_whole_answer() -> None:
    script = Script([1e9])
    app = make_app(ScriptedBackend([script]), None, quiet_log())
    body = json.dumps({"model": "m", "messages": HELLO}).encode()
    arrivals: list[dict[str, object]] = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        return arrivals.pop(0)

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await app(scope, receive, send)

    assert sent[0]["status"] == 499
    assert script.cancelled == 1


async def test_a_body_that_does_not_arrive_is_given_up(autojump_clock: MockClock) -> None:
    app = make_app(ScriptedBackend([]), None, quiet_log())
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await app(scope, trio.sleep_forever, send)

    assert sent[0]["status"] == 400
    assert b"30 s" in sent[1]["body"]
