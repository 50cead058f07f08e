"""The control API on a Unix socket: one task pair per client, the daemon behind a `Handler`.

A client that does not read is cut off, never waited for; a client of another user is not answered.
"""

import os
import socket
from functools import partial
from typing import Any, Protocol

import trio

from nexusnode.control.dialogue import Request, ServerDialogue
from nexusnode.control.endpoint import peer_uid
from nexusnode.control.messages import TOPICS, Nothing, Snapshot, Topics, Welcome
from p2p.errors import ControlError, NexusError, PeerError
from p2p.log import Log
from p2p.process.guard import guard

HELLO_SECONDS = 10.0
WRITE_SECONDS = 5.0
FLUSH_SECONDS = 0.5
MAX_CLIENTS = 32
MAX_PENDING_BYTES = 4 << 20
_READ_BYTES = 1 << 16


class Client:
    """One connected client, as the handler sees it."""

    def __init__(self, dialogue: ServerDialogue) -> None:
        self.topics: set[str] = set()
        self.cancel_scope = trio.CancelScope()
        self._dialogue = dialogue
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._snapshot: Snapshot | None = None

    def publish(self, topic: str, data: Any) -> None:
        """Send an event if this client wants the topic. Of the state only the latest is kept."""
        if topic not in self.topics:
            return
        if isinstance(data, Snapshot):
            self._snapshot = data
        else:
            self._dialogue.publish(topic, data)
        self.wake()
        if self._dialogue.pending_bytes > MAX_PENDING_BYTES:
            self.cancel_scope.cancel()

    def answer(self, call: int, result: Any) -> None:
        self._dialogue.answer(call, result)
        self.wake()

    def refuse(self, call: int, error: NexusError) -> None:
        self._dialogue.refuse(call, error)
        self.wake()

    def wake(self) -> None:
        """Have the writer look whether there is something to write."""
        self._wake.set()
        if self._idle.is_set():
            self._idle = trio.Event()

    async def flushed(self) -> None:
        """Wait until the client has taken everything; the caller sets the deadline."""
        await self._idle.wait()

    async def next_bytes(self) -> bytes:
        """Wait until there is something to write."""
        while True:
            if self._snapshot is not None:
                self._dialogue.publish("state", self._snapshot)
                self._snapshot = None
            if self._dialogue.pending_bytes:
                return self._dialogue.outgoing()
            self._idle.set()
            self._wake = trio.Event()
            await self._wake.wait()


class Handler(Protocol):
    """What stands behind the API. Each returns the result; a `NexusError` becomes a refusal."""

    async def handle(self, client: Client, request: Request) -> Any: ...

    def departed(self, client: Client) -> None: ...


class ControlServer:
    """Answers on a listening socket until it is cancelled."""

    def __init__(self, welcome: Welcome, handler: Handler, log: Log) -> None:
        self._welcome = welcome
        self._handler = handler
        self._log = log
        self._clients: set[Client] = set()

    @property
    def has_watchers(self) -> bool:
        """Whether any client wants to know the state: nothing need be counted up otherwise."""
        return self.is_watched("state")

    def is_watched(self, topic: str) -> bool:
        return any(topic in client.topics for client in self._clients)

    def publish(self, topic: str, data: Any) -> None:
        """Send an event to all who subscribed to the topic."""
        for client in self._clients:
            client.publish(topic, data)

    async def flush(self) -> None:
        """Let the last answers go out, within `FLUSH_SECONDS`: the daemon is about to end."""
        with trio.move_on_after(FLUSH_SECONDS):
            for client in tuple(self._clients):
                await client.flushed()

    async def run(self, listener: socket.socket) -> None:
        """Serve for ever. The caller opened `listener` and closes it."""
        sock = trio.socket.from_stdlib_socket(listener)
        await trio.serve_listeners(self._accept, [trio.SocketListener(sock)])

    async def _accept(self, stream: trio.SocketStream) -> None:
        if len(self._clients) >= MAX_CLIENTS or not _is_ours(stream):
            self._log.warning("control.denied", clients=len(self._clients))
            await stream.aclose()
        else:
            await guard(self._log, "control.client", partial(self._serve, stream))

    async def _serve(self, stream: trio.SocketStream) -> None:
        client = Client(dialogue := ServerDialogue(self._welcome))
        self._clients.add(client)
        try:
            async with stream, trio.open_nursery() as nursery:
                with client.cancel_scope:
                    nursery.start_soon(self._write, stream, client)
                    nursery.start_soon(self._expect_hello, dialogue, client)
                    await self._read(stream, dialogue, client, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._clients.discard(client)
            self._handler.departed(client)

    async def _read(
        self,
        stream: trio.SocketStream,
        dialogue: ServerDialogue,
        client: Client,
        nursery: trio.Nursery,
    ) -> None:
        while True:
            try:
                data = await stream.receive_some(_READ_BYTES)
                requests = dialogue.receive(data)
            except (trio.BrokenResourceError, PeerError) as error:
                self._log.warning("control.broken", reason=str(error))
                return
            if not data:
                return
            client.wake()
            for request in requests:
                nursery.start_soon(self._answer, client, request)

    async def _answer(self, client: Client, request: Request) -> None:
        try:
            client.answer(request.id, await self._result(client, request))
        except NexusError as error:
            client.refuse(request.id, error)

    async def _result(self, client: Client, request: Request) -> Any:
        if isinstance(request.params, Topics):
            return self._set_topics(client, request)
        return await self._handler.handle(client, request)

    def _set_topics(self, client: Client, request: Request) -> Nothing:
        topics = set(request.params.topics)
        if unknown := topics - set(TOPICS):
            raise ControlError(
                f"there is no topic {sorted(unknown)[0]!r}; there are {', '.join(TOPICS)}"
            )
        if request.method == "subscribe":
            client.topics |= topics
        else:
            client.topics -= topics
        return Nothing()

    async def _write(self, stream: trio.SocketStream, client: Client) -> None:
        while True:
            data = await client.next_bytes()
            with trio.move_on_after(WRITE_SECONDS) as scope:
                try:
                    await stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    client.cancel_scope.cancel()
                    return
            if scope.cancelled_caught:
                self._log.warning("control.slow-client")
                client.cancel_scope.cancel()
                return

    async def _expect_hello(self, dialogue: ServerDialogue, client: Client) -> None:
        await trio.sleep(HELLO_SECONDS)
        if not dialogue.is_greeted:
            client.cancel_scope.cancel()


def _is_ours(stream: trio.SocketStream) -> bool:
    uid = peer_uid(stream.socket.getsockopt)
    return uid is None or uid == os.getuid()
