"""A node that answers from a script: real frames on a real Unix socket, nothing behind them.

The twin of the daemon for the window's tests and pictures. Threads, as nobody else needs one here.
"""

import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from nexusnode.control.dialogue import Request, ServerDialogue
from nexusnode.control.messages import API, Nothing, Welcome
from p2p.errors import ControlError, NexusError, PeerError

Outbox = queue.SimpleQueue[bytes | None]
Answer = Any | NexusError | Callable[[Any], Any]


class ScriptedDaemon:
    """Listens on `path` while inside a `with`.

    Attributes:
        answers: by method: what to say, an error to refuse with, or a function of the params.
            A method without one is refused, as by a node that cannot do it yet.
        refuse_hello: if set, what every greeting is refused with.
        calls: every request but hello, in order.
    """

    def __init__(self, path: Path, version: str = "0.1.0", api: int = API) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.refuse_hello: ControlError | None = None
        self.calls: list[Request] = []
        self._welcome = Welcome(api, version, 1, str(path.parent), (), "user")
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, tuple[ServerDialogue, Outbox]] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "ScriptedDaemon":
        self.path.unlink(missing_ok=True)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End as a killed daemon does. May be called again."""
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self.hang_up()
        for thread in self._threads:
            thread.join(5)

    def publish(self, topic: str, data: Any) -> None:
        """Send an event to every client that has greeted. Never waits for one to read."""
        with self._lock:
            for dialogue, outbox in self._clients.values():
                if dialogue.is_greeted:
                    dialogue.publish(topic, data)
                    outbox.put(dialogue.outgoing())

    def hang_up(self) -> None:
        """Break every connection, as a killed daemon does."""
        with self._lock:
            for client in self._clients:
                with suppress(OSError):  # the other end may have gone first
                    client.shutdown(socket.SHUT_RDWR)

    def params_of(self, method: str) -> list[Any]:
        """Return what was sent with each call of `method`."""
        return [request.params for request in self.calls if request.method == method]

    def _spawn(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            outbox: Outbox = queue.SimpleQueue()
            with self._lock:
                self._clients[client] = ServerDialogue(self._welcome), outbox
            self._spawn(self._serve, client, outbox)
            self._spawn(_write, client, outbox)

    def _serve(self, client: socket.socket, outbox: Outbox) -> None:
        try:
            while data := client.recv(1 << 16):
                with self._lock:
                    self._answer_all(client, data)
        except (OSError, PeerError):
            pass
        finally:
            with self._lock:
                del self._clients[client]
            outbox.put(None)

    def _answer_all(self, client: socket.socket, data: bytes) -> None:
        dialogue, outbox = self._clients[client]
        if self.refuse_hello is not None:
            dialogue.refuse(1, self.refuse_hello)
            outbox.put(dialogue.outgoing())
            return
        for request in dialogue.receive(data):
            self.calls.append(request)
            try:
                dialogue.answer(request.id, self._answer(request))
            except NexusError as error:
                dialogue.refuse(request.id, error)
        outbox.put(dialogue.outgoing())

    def _answer(self, request: Request) -> Any:
        answer = self.answers.get(request.method)
        if answer is None and request.method in ("subscribe", "unsubscribe"):
            return Nothing()
        if answer is None:
            raise ControlError(f"no {request.method} in this script", "control.unknown-method")
        if isinstance(answer, NexusError):
            raise answer
        return answer(request.params) if callable(answer) else answer


def _write(client: socket.socket, outbox: Outbox) -> None:
    with client:
        while (data := outbox.get()) is not None:
            try:
                client.sendall(data)
            except OSError:
                return
