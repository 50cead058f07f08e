"""A small fleet of real Nexus processes on loopback: bootstrap peer, verifier host, draft nodes.

For the demo, the benchmarks and the system tests. Every process is started by the commands a person
would use, in its own process group, and is gone when the `with` block ends.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx
import psutil

from nexusnode.draft.launch import NICE_VARIABLE
from p2p.errors import ChildError, Unavailable

POLL_SECONDS = 0.1
END_SECONDS = 5.0
# Host and nodes share this machine's cores: at the lowest priority, which is right where somebody
# else uses the machine, drafts would come too late. Measured: speed-up 1.2 at 19, 1.4 at 0.
DRAFT_NICE = "0"
KV_TOKENS = 16_384  # 0.7 GB of fp32 keys and values for the bundled target
BIN = Path(sys.executable).parent


class Member:
    """One process of the fleet, with its folder and its log."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self._sink: IO[bytes] | None = None

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start `command` with its output in the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sink = self.log.open("ab")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )

    def check(self) -> None:
        """Raise `ChildError` with the log's end if the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-8:]
            raise ChildError(
                f"{self.name} ended with status {self.process.returncode}; {self.log} ends:\n  "
                + "\n  ".join(tail)
            )

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def child(self, module: str) -> psutil.Process:
        """Return the child process that runs `module`."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if module in child.cmdline():
                return child
        raise ChildError(f"{self.name} has no child that runs {module}")

    def end(self) -> None:
        """Ask it to leave, then kill its whole process group."""
        if self.process is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._sink is not None:
            self._sink.close()
        self.process = None


class Fleet:
    """`with Fleet(folder, nodes=2) as fleet: fleet.start(); fleet.wait_ready(60)`."""

    def __init__(
        self,
        folder: Path,
        nodes: int,
        *,
        dtype: str = "fp32",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.dtype = dtype
        self.environment = dict(environment or {})
        self.bootstrap = Member("bootstrap", self.folder / "bootstrap")
        self.host = Member("host", self.folder / "host")
        self.nodes = [Member(f"node-{n + 1}", self.folder / f"node-{n + 1}") for n in range(nodes)]
        self.model = ""
        self.url = ""
        self.metrics_url = ""
        self.headers: dict[str, str] = {}
        self.bootstrap_address = ""

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        # SIGTERM must clean up as Ctrl-C does.
        self._old_handler = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A second Ctrl-C must not stop the cleaning up.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for member in (*self.nodes, self.host, self.bootstrap):
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM)
        for member in (*self.nodes, self.host, self.bootstrap):
            member.end()
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, self._old_handler)

    def start(self) -> None:
        """Start bootstrap peer, host and nodes; the host's allowlist names exactly these nodes."""
        self.start_bootstrap()
        ids = [self.node_id(node) for node in self.nodes]
        self.start_host(ids)
        for node in self.nodes:
            self.start_node(node)

    def start_bootstrap(self) -> None:
        address_file = self.bootstrap.folder / "address"
        self.bootstrap.start(
            str(BIN / "nexusnode"), "bootstrap", "--data", str(self.bootstrap.folder),
            "--listen", "/ip4/127.0.0.1/tcp/0", "--address-file", str(address_file),
        )  # fmt: skip
        self.bootstrap_address = _when_written(address_file, self.bootstrap)

    def node_id(self, node: Member) -> str:
        """Return a node's peer id; `nexusnode id` makes its identity if there is none."""
        done = subprocess.run(
            [str(BIN / "nexusnode"), "id", "--data", str(node.folder)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise ChildError(f"{node.name}: no peer id: {done.stderr.strip()}")
        return done.stdout.strip()

    def start_host(self, allowed: list[str]) -> None:
        """Write a configuration as `nexus-verifier init` does, then serve. Ports are free ones."""
        if not (self.host.folder / "verifier.toml").exists():
            made = subprocess.run(
                [
                    str(BIN / "nexus-verifier"), "init", "--data", str(self.host.folder),
                    "--model", "bundled", "--key-only",
                ],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            if made.returncode != 0:
                raise ChildError(f"host: init failed: {made.stderr.strip()}")
            self.headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        address_file = self.host.folder / "addresses.json"
        address_file.unlink(missing_ok=True)
        self.host.start(
            str(BIN / "nexus-verifier"), "serve", "--data", str(self.host.folder),
            "--address-file", str(address_file),
            environment={
                "NEXUS_API_LISTEN": "127.0.0.1:0",
                "NEXUS_METRICS_LISTEN": "127.0.0.1:0",
                "NEXUS_NETWORK_LISTEN": "/ip4/127.0.0.1/tcp/0",
                "NEXUS_NETWORK_BOOTSTRAP": self.bootstrap_address,
                "NEXUS_NETWORK_ALLOW_NODES": ",".join(allowed),
                "NEXUS_MODEL_DTYPE": self.dtype,
                "NEXUS_MODEL_KV_TOKENS": str(KV_TOKENS),
                **self.environment,
            },
        )  # fmt: skip
        addresses = json.loads(_when_written(address_file, self.host))
        self.url = addresses["api"]
        self.metrics_url = addresses["metrics"]
        self.model = addresses["model"]

    def start_node(self, node: Member) -> None:
        node.start(
            str(BIN / "nexusnode"), "run", "--always", "--data", str(node.folder),
            "--bootstrap", self.bootstrap_address,
            environment={NICE_VARIABLE: DRAFT_NICE, **self.environment},
        )  # fmt: skip

    def pids(self) -> list[int]:
        """Return the process ids of all members; their children are not among them."""
        members = (self.bootstrap, self.host, *self.nodes)
        return [member.process.pid for member in members if member.process is not None]

    def connected(self) -> int:
        """Return how many nodes the host has."""
        return int(self.metric("nexus_nodes"))

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples on the host."""
        text = httpx.get(f"{self.metrics_url}/metrics", timeout=5).text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    def status(self, node: Member) -> dict[str, object]:
        """Return what `nexusnode status --json` says of a node."""
        done = subprocess.run(
            [str(BIN / "nexusnode"), "status", "--json", "--data", str(node.folder)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise Unavailable(f"{node.name}: {done.stderr.strip()}")
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def wait_ready(
        self, seconds: float, progress: Callable[[str], None] = lambda _text: None
    ) -> None:
        """Wait until the engine is loaded and every node has found the host through the DHT."""
        start = time.monotonic()
        self.wait_engine(seconds, progress)
        self.wait_connected(len(self.nodes), seconds, progress)
        progress(f"ready after {time.monotonic() - start:.1f} s")

    def wait_engine(
        self, seconds: float, progress: Callable[[str], None] = lambda _text: None
    ) -> None:
        self._wait(
            lambda: httpx.get(f"{self.url}/ready", timeout=5).status_code == 200,
            seconds, "the target is loading", progress,
        )  # fmt: skip

    def wait_connected(
        self, count: int, seconds: float, progress: Callable[[str], None] = lambda _text: None
    ) -> None:
        self._wait(
            lambda: self.connected() >= count,
            seconds, f"{count} nodes look for the host in the DHT", progress,
        )  # fmt: skip

    def _wait(
        self,
        is_done: Callable[[], bool],
        seconds: float,
        what: str,
        progress: Callable[[str], None],
    ) -> None:
        progress(what)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for member in (self.bootstrap, self.host, *self.nodes):
                member.check()
            with contextlib.suppress(httpx.TransportError):
                if is_done():
                    return
            time.sleep(POLL_SECONDS)
        raise Unavailable(f"{what}: not done after {seconds:.0f} s; logs are in {self.folder}")

    def how_to_use(self) -> str:
        """Return a curl line and an openai snippet that work against this fleet."""
        key = self.headers["Authorization"].removeprefix("Bearer ")
        messages = '[{"role": "user", "content": "Hello!"}]'
        return f"""
Running until Ctrl-C. Try:

  curl -N {self.url}/v1/chat/completions -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "{self.model}", "stream": true, "messages": {messages}}}'

  from openai import OpenAI
  client = OpenAI(base_url="{self.url}/v1", api_key="{key}")
  answer = client.chat.completions.create(model="{self.model}", messages={messages})
  print(answer.choices[0].message.content)
"""

    def wait_for_end(self) -> None:
        """Block until Ctrl-C, or until a member ends by itself."""
        while True:
            for member in (self.bootstrap, self.host, *self.nodes):
                member.check()
            time.sleep(1.0)


def _when_written(path: Path, member: Member, seconds: float = 60.0) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        member.check()
        if path.exists():
            return path.read_text().strip()
        time.sleep(POLL_SECONDS)
    raise Unavailable(f"{member.name} did not say its address within {seconds:.0f} s: {member.log}")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
