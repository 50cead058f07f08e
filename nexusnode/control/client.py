"""A blocking client of the control API, for the command line: connect, call, listen."""

import socket
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from nexusnode.control.dialogue import ClientDialogue, Notice, Reply
from nexusnode.control.endpoint import connect
from nexusnode.control.messages import Welcome
from p2p.errors import NoDaemon, PeerError

CALL_SECONDS = 10.0
CLIENT = "nexusnode"
_READ_BYTES = 1 << 16


class ControlClient:
    """One connection, greeted. Use it in a `with`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._dialogue = ClientDialogue()
        self._notices: deque[Notice] = deque(maxlen=4096)

    def __enter__(self) -> "ControlClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def greet(self, version: str) -> Welcome:
        welcome: Welcome = self._ask(*self._dialogue.hello(CLIENT, version))
        return welcome

    def call(self, method: str, params: Any = None, seconds: float = CALL_SECONDS) -> Any:
        """Return the result of `method`. Raises `ControlError` if refused, `NoDaemon` if it is gone
        or silent for `seconds`."""
        return self._ask(*self._dialogue.call(method, params), seconds)

    def next_notice(self, timeout_seconds: float | None = None) -> Notice | None:
        """Return the next event, or None when `timeout_seconds` pass first (None = wait for
        ever)."""
        due = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self._notices:
            left = None if due is None else due - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._read(left)
        return self._notices.popleft()

    def _ask(self, call: int, data: bytes, seconds: float = CALL_SECONDS) -> Any:
        due = time.monotonic() + seconds
        try:
            self._connection.settimeout(seconds)
            self._connection.sendall(data)
        except OSError as error:
            raise NoDaemon("the node ended while it was asked") from error
        while (left := due - time.monotonic()) > 0:
            for reply in self._read(left):
                if reply.id == call:
                    if reply.refusal is not None:
                        raise reply.refusal
                    return reply.result
        raise NoDaemon(f"the node did not answer within {seconds:.0f} s; it may be hanging")

    def _read(self, timeout_seconds: float | None) -> list[Reply]:
        """Wait once for bytes; keep the events in them and return the replies."""
        self._connection.settimeout(timeout_seconds)
        try:
            data = self._connection.recv(_READ_BYTES)
        except TimeoutError:
            return []
        except OSError as error:
            raise NoDaemon("the connection to the node broke") from error
        if not data:
            raise NoDaemon("the node has ended")
        try:
            arrived = self._dialogue.receive(data)
        except PeerError as error:
            raise NoDaemon(f"what answers is not a node of this version: {error}") from error
        self._notices.extend(item for item in arrived if isinstance(item, Notice))
        return [item for item in arrived if isinstance(item, Reply)]


def open_client(path: Path, version: str) -> ControlClient:
    """Connect to the socket and say hello."""
    client = ControlClient(connect(path, CALL_SECONDS))
    try:
        client.greet(version)
    except BaseException:
        client.__exit__(None, None, None)
        raise
    return client
