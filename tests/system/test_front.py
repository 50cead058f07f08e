"""A real server process on the fake engine, asked by openai's own client and by raw sockets."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from openai import OpenAI

from p2p.drafting.coupling import coupling_key
from verifier_host.engine.fake import continuation
from verifier_host.messages import Sampling

pytestmark = [pytest.mark.system, pytest.mark.slow]

MODEL = "SmolLM2-135M-Instruct"
START_SECONDS = 90.0
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
# What `nexus-verifier serve` does, with another engine.
SERVE = """
import sys, trio
from functools import partial
from pathlib import Path
from p2p.log import open_log
from p2p.paths import folders
from verifier_host.config import FILE, load_config
from verifier_host.front.main import serve, serve_until_signal
data = Path(sys.argv[1])
place, log = folders("host", data), open_log("host")
host = partial(
    serve, load_config(place.config / FILE), place, log, address_file=data / "addresses.json",
    engine_module="verifier_host.engine.fake", engine_path=sys.argv[2],
)
trio.run(serve_until_signal, host, log)
"""


@dataclass
class Server:
    """A host process and what it takes to talk to it."""

    process: subprocess.Popen[bytes]
    folder: Path
    key: str
    url: str
    metrics_url: str

    def client(self, **settings: Any) -> OpenAI:
        values: dict[str, Any] = {"max_retries": 0, "timeout": 60} | settings
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, **values)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.metrics_url}/metrics", timeout=10).text
        values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, values))

    def aborted(self) -> float:
        """Choices that were ended before their text was."""
        text = httpx.get(f"{self.metrics_url}/metrics", timeout=10).text
        lines = re.findall(r'^vllm:request_success_total{.*"abort".*} (\S+)$', text, re.MULTILINE)
        return sum(map(float, lines))

    def engine(self) -> psutil.Process:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(c for c in children if "verifier_host.engine.fake" in c.cmdline())

    def log(self) -> str:
        return (self.folder / "log").read_text()


def wait_for(is_true: Callable[[], object], seconds: float = 20.0, pause: float = 0.05) -> float:
    """Poll, as a client would; return how long it took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        with contextlib.suppress(httpx.TransportError, StopIteration, psutil.NoSuchProcess):
            if is_true():
                return time.monotonic() - start
        time.sleep(pause)
    raise AssertionError(f"not so after {seconds} s")


@contextlib.contextmanager
def serving(folder: Path, engine: str, **environment: str) -> Iterator[Server]:
    made = subprocess.run(
        [sys.executable, "-m", "verifier_host.cli.main", "init", "--data", str(folder),
         "--model", "bundled", "--key-only"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    variables = {
        "NEXUS_API_LISTEN": "127.0.0.1:0",
        "NEXUS_METRICS_LISTEN": "127.0.0.1:0",
        "NEXUS_NETWORK_DRAFTING": "off",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(folder), engine],
            stderr=log,
            env={**os.environ, **variables, **environment},
        )
    try:
        file = folder / "addresses.json"
        wait_for(lambda: file.exists() or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, (folder / "log").read_text()
        found = json.loads(file.read_text())
        server = Server(process, folder, made.stdout.strip(), found["api"], found["metrics"])
        wait_for(lambda: httpx.get(f"{server.url}/ready").status_code == 200, START_SECONDS)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A host whose engine takes 5 ms a step and ends no text by itself."""
    with serving(tmp_path_factory.mktemp("host"), "fake?step=0.005&slots=8192") as server:
        yield server


def truth(prompt: list[int], seed: int, count: int, choice: int = 0) -> list[int]:
    key = coupling_key(seed, choice, prompt)
    return continuation(prompt, key, Sampling(temperature=1.0), count)


def test_the_client_gets_a_chat_whole_and_streamed_alike(server: Server) -> None:
    client = server.client()
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=30, seed=3)
    stream = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=30,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert whole.choices[0].finish_reason == "length"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 30
    assert chunks[-1].usage == whole.usage
    assert whole.system_fingerprint == "fake000000000000"
    assert whole.model_extra is not None
    assert whole.model_extra["nexus"]["seed"] == 3


def test_several_choices_differ_and_repeat_with_their_seed(server: Server) -> None:
    client = server.client()

    def ask() -> list[str | None]:
        found = client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=12, seed=3, n=2
        )
        return [choice.message.content for choice in found.choices]

    first = ask()
    assert first == ask()
    assert len(set(first)) == 2


def test_a_completion_of_token_ids_is_the_target_s(server: Server) -> None:
    prompt = [100, 200, 300]
    found = server.client().completions.create(
        model=MODEL, prompt=prompt, max_tokens=10, seed=8, logprobs=1
    )

    again = server.client().completions.create(
        model=MODEL, prompt=[*prompt, *truth(prompt, 8, 9)], max_tokens=1, seed=8
    )
    logprobs = found.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == found.choices[0].text
    assert len(logprobs.tokens) == 10
    assert again.usage is not None
    assert again.usage.prompt_tokens == 12


def test_echo_and_several_prompts(server: Server) -> None:
    found = server.client().completions.create(
        model=MODEL, prompt=["one", "two"], max_tokens=2, echo=True
    )

    assert [choice.text[:3] for choice in found.choices] == ["one", "two"]


def test_logprobs_of_a_chat_join_to_its_text(server: Server) -> None:
    found = server.client().chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=9, logprobs=True, top_logprobs=3
    )

    logprobs = found.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    joined = b"".join(bytes(token.bytes or ()) for token in logprobs.content)
    assert joined.decode() == found.choices[0].message.content
    assert [len(token.top_logprobs) for token in logprobs.content] == [3] * 9


def test_a_stop_string_cuts_both_ways_alike(server: Server) -> None:
    client = server.client()
    free = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=40, seed=4)
    text = free.choices[0].message.content or ""
    stop = text[20:26]

    whole = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=40, seed=4, stop=[stop]
    )
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=40, seed=4, stop=stop, stream=True
    )

    assert whole.choices[0].message.content == text.split(stop)[0]
    assert whole.choices[0].finish_reason == "stop"
    assert "".join(c.choices[0].delta.content or "" for c in stream) == text.split(stop)[0]


def test_the_client_raises_its_own_errors(server: Server) -> None:
    client = server.client()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as hot:
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=3)
    with pytest.raises(openai.BadRequestError) as tools:
        client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            tools=[{"type": "function", "function": {"name": "f"}}],
        )
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}]
        )
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{server.url}/v1", api_key="nx-wrong", max_retries=0).models.list()

    assert unknown.value.code == "model_not_found"
    assert hot.value.param == "temperature"
    assert tools.value.code == "unsupported_parameter"
    assert long.value.code == "context_length_exceeded"


def test_models_are_listed(server: Server) -> None:
    client = server.client()

    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_a_client_that_leaves_frees_its_session(server: Server) -> None:
    before = server.metric("vllm:request_success_total")
    for is_stream in (True, False):
        client = httpx.Client(headers={"Authorization": f"Bearer {server.key}"}, timeout=0.5)
        body = {"model": MODEL, "messages": HELLO, "max_tokens": 4000, "stream": is_stream}
        with (
            contextlib.suppress(httpx.ReadTimeout),
            client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as reply,
        ):
            next(reply.iter_lines())
        client.close()

    wait_for(lambda: server.metric("vllm:request_success_total") == before + 2, seconds=3)
    wait_for(lambda: server.metric("vllm:num_requests_running") == 0, seconds=3)


def test_an_engine_that_is_killed_costs_time_and_no_token(server: Server) -> None:
    client = server.client()
    settings: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 300, "seed": 6}
    whole = client.chat.completions.create(**settings).choices[0].message.content
    chunks: list[str] = []
    killed = 0.0
    stream = client.chat.completions.create(**settings, stream=True)
    for chunk in stream:
        chunks.append(chunk.choices[0].delta.content or "")
        if len(chunks) == 20:
            os.kill(server.engine().pid, signal.SIGKILL)
            killed = time.monotonic()

    assert "".join(chunks) == whole
    assert time.monotonic() - killed < 15


def test_an_engine_that_hangs_is_killed_and_replaced(server: Server) -> None:
    client = server.client()
    settings: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 300, "seed": 6}
    whole = client.chat.completions.create(**settings).choices[0].message.content
    hung = server.engine()
    chunks: list[str] = []
    for chunk in client.chat.completions.create(**settings, stream=True):
        chunks.append(chunk.choices[0].delta.content or "")
        if len(chunks) == 20:
            hung.suspend()

    assert "".join(chunks) == whole
    assert not hung.is_running()


def test_without_an_engine_new_requests_are_told_when_to_come_again(server: Server) -> None:
    os.kill(server.engine().pid, signal.SIGKILL)
    seen: list[int] = []

    def ask() -> bool:
        body = {"model": MODEL, "messages": HELLO, "max_tokens": 1}
        reply = httpx.post(
            f"{server.url}/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {server.key}"},
            timeout=30,
        )
        seen.append(reply.status_code)
        if reply.status_code == 503:
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "engine_restarting"
        return 503 in seen and reply.status_code == 200

    assert wait_for(ask, seconds=20) < 15
    assert set(seen) <= {200, 503}
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_slow_reader_is_let_go_and_harms_nobody(server: Server) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 7000, "stream": True,
            "logprobs": True, "top_logprobs": 20}  # fmt: skip
    before = server.aborted()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(server.address)
        _post(slow, server.key, body)
        wait_for(lambda: server.metric("vllm:num_requests_running") >= 1)
        other = server.client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=20)
        assert other.usage is not None
        wait_for(lambda: server.aborted() == before + 1, seconds=60)
    wait_for(lambda: server.metric("vllm:num_requests_running") == 0, seconds=5)


def test_half_a_header_is_not_waited_for(server: Server) -> None:
    with socket.socket() as stuck:
        stuck.connect(server.address)
        stuck.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
        stuck.settimeout(15)

        start = time.monotonic()
        assert stuck.recv(1000) == b"" or True
        assert time.monotonic() - start < 14


def test_many_at_once_are_all_answered(server: Server) -> None:
    texts: dict[int, str | None] = {}

    def ask(seed: int) -> None:
        found = server.client().chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=20, seed=seed
        )
        texts[seed] = found.choices[0].message.content

    threads = [threading.Thread(target=ask, args=(seed % 4,)) for seed in range(16)]
    alone = {}
    for seed in range(4):
        ask(seed)
        alone[seed] = texts[seed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert texts == alone


def test_metrics_go_by_vllm_s_names(server: Server) -> None:
    text = httpx.get(f"{server.metrics_url}/metrics").text

    for name in (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:request_success_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
        "vllm:request_queue_time_seconds_bucket",
        "vllm:num_preemptions_total",
        "vllm:spec_decode_num_drafts_total",
        "vllm:spec_decode_num_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_per_pos_total",
        "nexus_step_seconds",
        "nexus_rows_total",
        "nexus_hold_seconds_total",
        "nexus_nodes",
        "nexus_refused_total",
        "nexus_exact",
    ):
        assert f"# TYPE {name.removesuffix('_bucket')}" in text or f"\n{name}" in text, name
    assert server.key not in text


def test_no_log_holds_a_prompt_or_a_key(server: Server) -> None:
    marker = "xyzzyprompt"
    server.client().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": marker}], max_tokens=2
    )

    assert marker not in server.log()
    assert server.key not in server.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, "fake?step=0.01") as server:
        engine = server.engine()
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(server.address)
        _post(stuck, server.key, {"model": MODEL, "messages": HELLO, "stream": True})
        wait_for(lambda: server.metric("vllm:num_requests_running") == 1)

        server.process.send_signal(number)

        assert server.process.wait(8) == 0
        assert not engine.is_running()
        assert "Traceback" not in server.log()
        stuck.close()


def test_a_target_that_cannot_be_loaded_ends_the_host_with_its_reason(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "verifier_host.cli.main", "init", "--data", str(tmp_path),
         "--model", "bundled", "--key-only"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path), "fake?fail=model"],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        env={
            **os.environ,
            "NEXUS_API_LISTEN": "127.0.0.1:0",
            "NEXUS_METRICS_LISTEN": "127.0.0.1:0",
            "NEXUS_NETWORK_DRAFTING": "off",
        },
        check=False,
    )

    assert done.returncode != 0
    assert "told to fail" in done.stderr


@pytest.mark.parametrize("variable", ["NEXUS_API_LISTEN", "NEXUS_METRICS_LISTEN"])
def test_a_port_that_is_taken_is_named_and_no_bug(variable: str, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "verifier_host.cli.main", "init", "--data", str(tmp_path),
         "--model", "bundled", "--key-only"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    free = dict.fromkeys(("NEXUS_API_LISTEN", "NEXUS_METRICS_LISTEN"), "127.0.0.1:0")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "verifier_host.cli.main", "serve", "--data", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            env={**os.environ, "NEXUS_NETWORK_DRAFTING": "off", **free, variable: taken},
            check=False,
        )

    last = done.stderr.splitlines()[-1]
    assert done.returncode == 7
    assert last == f"nexus-verifier: {taken}: cannot be listened on (Address already in use)"
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


def _post(connection: socket.socket, key: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
