"""Both ends of one control connection without I/O: bytes in, calls and answers out.

    call    [0, id, method, params]              answer  [1, id, result]
    refusal [2, id, code, sentence, detail]      event   [3, topic, seq, data]

A connection starts with `hello`. What breaks the framing raises `PeerError` and ends the
connection; what breaks a single call is refused and harms nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from nexusnode.control.messages import API, API_MIN, METHODS, TOPICS, Hello, Nothing, Welcome
from p2p.errors import ControlError, MalformedFrame, NexusError
from p2p.wire.frame import FrameDecoder, frame
from p2p.wire.schema import dump, load, packb, unpackb

MAX_IN_FLIGHT = 32
MAX_SENTENCE = 1024


class Kind(IntEnum):
    CALL = 0
    ANSWER = 1
    REFUSAL = 2
    EVENT = 3


@dataclass(frozen=True, slots=True)
class Request:
    """A checked call: `params` is the dataclass of the method."""

    id: int
    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to call `id`: `result`, or the `refusal` to raise."""

    id: int
    result: Any = None
    refusal: ControlError | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """An event: `seq` rises by one per topic, a gap says that events were left out."""

    topic: str
    seq: int
    data: Any


class ServerDialogue:
    """The daemon's end. `outgoing()` holds what must be written; greeting is done in here."""

    def __init__(self, welcome: Welcome) -> None:
        self._welcome = welcome
        self._decoder = FrameDecoder()
        self._out = bytearray()
        self._open_calls: set[int] = set()
        self._sequence = dict.fromkeys(TOPICS, 0)
        self.is_greeted = False

    def receive(self, data: bytes) -> list[Request]:
        """Return the calls in `data`. Raises `PeerError` for what is no call at all."""
        requests = []
        for body in self._decoder.feed(data):
            request = self._read_call(unpackb(body))
            if request is not None:
                requests.append(request)
        return requests

    def answer(self, call: int, result: Any) -> None:
        self._finish(call, [Kind.ANSWER, call, dump(result)])

    def refuse(self, call: int, error: NexusError) -> None:
        """Answer with the error's code and sentence."""
        code = error.refusal if isinstance(error, ControlError) else error.code
        self._finish(call, [Kind.REFUSAL, call, code, _cut(str(error)), []])

    def publish(self, topic: str, data: Any) -> None:
        self._sequence[topic] += 1
        self._write([Kind.EVENT, topic, self._sequence[topic], dump(data)])

    def outgoing(self) -> bytes:
        """Return what to write and forget it."""
        data = bytes(self._out)
        self._out.clear()
        return data

    @property
    def pending_bytes(self) -> int:
        return len(self._out)

    def _read_call(self, items: list[Any]) -> Request | None:
        match items:
            case [int(kind), int(call), str(method), list(params)] if (
                kind == Kind.CALL and 0 <= call < 2**32
            ):
                pass
            case _:
                raise MalformedFrame("a client sends calls [0, id, method, params] only")
        if call in self._open_calls:
            raise MalformedFrame(f"call {call} is still open; every call has an id of its own")
        self._open_calls.add(call)
        try:
            return self._check(call, method, params)
        except ControlError as error:
            self.refuse(call, error)
            return None

    def _check(self, call: int, method: str, params: list[Any]) -> Request | None:
        known = METHODS.get(method)
        if known is None:
            names = ", ".join(METHODS)
            raise ControlError(f"there is no method {method[:64]!r}; there are {names}",
                               "control.unknown-method")  # fmt: skip
        try:
            checked = load(known.params, params)
        except MalformedFrame as error:
            raise ControlError(f"{method}: {error}") from error
        if isinstance(checked, Hello):
            self.answer(call, self._greet(checked))
            return None
        if not self.is_greeted:
            raise ControlError("the first call must be hello")
        if len(self._open_calls) > MAX_IN_FLIGHT:
            raise ControlError(
                f"{MAX_IN_FLIGHT} calls of this client are unanswered; wait for one of them",
                "control.busy",
            )
        return Request(call, method, checked)

    def _greet(self, hello: Hello) -> Welcome:
        if hello.api_min > API or hello.api_max < API_MIN:
            raise ControlError(
                f"the client speaks api {hello.api_min} to {hello.api_max}, this node {API_MIN} to"
                f" {API}; restart the node so that both are of one version",
                "control.api-mismatch",
            )
        self.is_greeted = True
        return self._welcome

    def _finish(self, call: int, items: list[Any]) -> None:
        self._open_calls.discard(call)
        self._write(items)

    def _write(self, items: list[Any]) -> None:
        self._out += frame(packb(items))


class ClientDialogue:
    """A client's end: it numbers calls and knows what result belongs to which."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._waiting: dict[int, str] = {}
        self._last = 0

    def call(self, method: str, params: Any = None) -> tuple[int, bytes]:
        """Return the call's id and the bytes to write."""
        self._last += 1
        self._waiting[self._last] = method
        body = dump(params if params is not None else Nothing())
        return self._last, frame(packb([int(Kind.CALL), self._last, method, body]))

    def hello(self, client: str, version: str) -> tuple[int, bytes]:
        return self.call("hello", Hello(client, version, API_MIN, API))

    def receive(self, data: bytes) -> list[Reply | Notice]:
        """Return what the daemon said. Raises `PeerError` for what a daemon does not say."""
        return [self._read(unpackb(body)) for body in self._decoder.feed(data)]

    def _read(self, items: Sequence[Any]) -> Reply | Notice:
        match items:
            case [Kind.ANSWER, int(call), list(result)] if call in self._waiting:
                return Reply(call, load(METHODS[self._waiting.pop(call)].result, result))
            case [Kind.REFUSAL, int(call), str(code), str(sentence), list(_)] if (
                call in self._waiting
            ):
                del self._waiting[call]
                return Reply(call, refusal=ControlError(sentence, code))
            case [Kind.EVENT, str(topic), int(seq), list(data)] if topic in TOPICS:
                return Notice(topic, seq, load(TOPICS[topic], data))
            case _:
                raise MalformedFrame("the node said what no call of this client asked for")


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 1] + "…"
