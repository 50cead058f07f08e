import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusnode.control.dialogue import (
    MAX_IN_FLIGHT,
    MAX_SENTENCE,
    ClientDialogue,
    Notice,
    Reply,
    ServerDialogue,
)
from nexusnode.control.messages import (
    API,
    METHODS,
    TOPICS,
    Hello,
    Nothing,
    Pause,
    Settings,
    Topics,
    Welcome,
)
from p2p.errors import BadLength, ControlError, MalformedFrame, ModelError, PeerError
from p2p.wire.frame import frame
from p2p.wire.schema import load, packb

WELCOME = Welcome(API, "1.0", 42, "/data", ("pause",), "test")


def greeted() -> tuple[ServerDialogue, ClientDialogue]:
    server, client = ServerDialogue(WELCOME), ClientDialogue()
    _, data = client.hello("test", "1.0")
    assert server.receive(data) == []
    (reply,) = client.receive(server.outgoing())
    assert isinstance(reply, Reply)
    assert reply.result == WELCOME
    return server, client


def raw(*items: Any) -> bytes:
    return frame(packb(list(items)))


def refusal_of(client: ClientDialogue, server: ServerDialogue) -> ControlError:
    (reply,) = client.receive(server.outgoing())
    assert isinstance(reply, Reply)
    assert reply.refusal is not None
    return reply.refusal


def test_a_call_arrives_checked_and_its_answer_comes_back_typed() -> None:
    server, client = greeted()

    call, data = client.call("pause", Pause(7200.0, None))
    (request,) = server.receive(data)
    server.answer(request.id, Settings(3, (), ()))

    assert (request.id, request.method, request.params) == (call, "pause", Pause(7200.0, None))
    with pytest.raises(MalformedFrame):  # Settings is no Snapshot: what `pause` gives
        client.receive(server.outgoing())


def test_bytes_may_come_in_any_pieces() -> None:
    server, client = greeted()
    _, first = client.call("state.snapshot")
    _, second = client.call("resume")

    found = [request for byte in first + second for request in server.receive(bytes([byte]))]

    assert [request.method for request in found] == ["state.snapshot", "resume"]


def test_answers_may_come_in_another_order_than_calls() -> None:
    server, client = greeted()
    one, data = client.call("settings.get")
    two, more = client.call("quit")
    server.receive(data + more)

    server.answer(two, Nothing())
    server.answer(one, Settings(1, (), ()))

    assert client.receive(server.outgoing()) == [
        Reply(two, Nothing()),
        Reply(one, Settings(1, (), ())),
    ]


def test_the_first_call_must_be_hello() -> None:
    server, client = ServerDialogue(WELCOME), ClientDialogue()
    _, data = client.call("quit")

    assert server.receive(data) == []

    refusal = refusal_of(client, server)
    assert refusal.refusal == "control.bad-request"
    assert "hello" in str(refusal)


@pytest.mark.parametrize(("low", "high"), [(API + 1, API + 5), (0, 0)])
def test_versions_without_a_common_one_are_refused_with_what_to_do(low: int, high: int) -> None:
    server, client = ServerDialogue(WELCOME), ClientDialogue()
    _, data = client.call("hello", Hello("new", "9.0", low, high))

    server.receive(data)

    refusal = refusal_of(client, server)
    assert refusal.refusal == "control.api-mismatch"
    assert "restart the node" in str(refusal)
    assert not server.is_greeted


def test_a_newer_client_that_still_speaks_ours_is_welcome() -> None:
    server, client = ServerDialogue(WELCOME), ClientDialogue()
    _, data = client.call("hello", Hello("new", "9.0", API, API + 3))

    server.receive(data)

    assert server.is_greeted


def test_an_unknown_method_is_refused_and_harms_no_other_call() -> None:
    server, client = greeted()
    client._waiting[99] = "quit"
    _, data = client.call("quit")

    (request,) = server.receive(raw(0, 99, "make.coffee", []) + data)

    assert request.method == "quit"
    assert refusal_of(client, server).refusal == "control.unknown-method"


@pytest.mark.parametrize(
    "params",
    [[], [1.0], [1.0, None, None], ["soon", None], [-1.0, None], [float("nan"), None], [1e9, None]],
)
def test_params_of_another_shape_are_refused_by_name(params: list[Any]) -> None:
    server, client = greeted()
    client._waiting[7] = "pause"

    assert server.receive(raw(0, 7, "pause", params)) == []

    refusal = refusal_of(client, server)
    assert refusal.refusal == "control.bad-request"
    assert "pause" in str(refusal)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [0],
        [1, 1, "quit", []],
        [0, -1, "quit", []],
        [0, 2**32, "quit", []],
        [0, 1, 7, []],
        [0, 1, "quit", "x"],
        [0, 1, "quit", [], 5],
        [True, 1, "quit", [], 5],
    ],
)
def test_what_is_no_call_ends_the_connection(items: list[Any]) -> None:
    server, _ = greeted()

    with pytest.raises(MalformedFrame):
        server.receive(raw(*items))


def test_a_frame_past_a_mebibyte_ends_the_connection() -> None:
    server, _ = greeted()

    with pytest.raises(BadLength):
        server.receive((2**20 + 1).to_bytes(4, "big"))


def test_an_id_may_not_be_used_again_while_its_call_is_open() -> None:
    server, _ = greeted()
    server.receive(raw(0, 5, "quit", []))

    with pytest.raises(MalformedFrame, match="still open"):
        server.receive(raw(0, 5, "quit", []))


def test_a_client_may_have_32_calls_in_flight_and_no_more() -> None:
    server, client = greeted()
    calls = [client.call("quit") for _ in range(MAX_IN_FLIGHT + 1)]
    within = b"".join(data for _, data in calls[:MAX_IN_FLIGHT])

    assert len(server.receive(within)) == MAX_IN_FLIGHT
    assert server.receive(calls[-1][1]) == []
    assert refusal_of(client, server).refusal == "control.busy"

    server.answer(calls[0][0], Nothing())
    _, data = client.call("quit")
    assert len(server.receive(data)) == 1


def test_an_error_of_the_house_is_refused_with_its_own_code_and_a_bounded_sentence() -> None:
    server, client = greeted()
    call, data = client.call("quit")
    server.receive(data)

    server.refuse(call, ModelError("x" * 5000))

    refusal = refusal_of(client, server)
    assert refusal.refusal == "model"
    assert len(str(refusal)) == MAX_SENTENCE


def test_events_are_numbered_per_topic() -> None:
    server, client = greeted()
    snapshot = example(TOPICS["state"])
    piece = example(TOPICS["chat"])

    for topic, data in (("state", snapshot), ("chat", piece), ("state", snapshot)):
        server.publish(topic, data)

    assert client.receive(server.outgoing()) == [
        Notice("state", 1, snapshot),
        Notice("chat", 1, piece),
        Notice("state", 2, snapshot),
    ]


@pytest.mark.parametrize(
    "items", [[1, 77, []], [2, 77, "x", "y", []], [3, "weather", 1, []], [0, 1, "quit", []], [4]]
)
def test_a_client_takes_nothing_it_did_not_ask_for(items: list[Any]) -> None:
    with pytest.raises(MalformedFrame):
        ClientDialogue().receive(raw(*items))


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_type_or_wait_for_more(data: bytes) -> None:
    server, _ = greeted()

    try:
        server.receive(data)
    except PeerError:
        return
    assert server.pending_bytes >= 0


@pytest.mark.parametrize("kind", {m.params for m in METHODS.values()} | {Topics, *TOPICS.values()})
def test_every_message_of_the_api_has_bounds_that_can_be_read(kind: type) -> None:
    with pytest.raises(MalformedFrame):
        load(kind, "no array")


def example(kind: type) -> Any:
    """The smallest message of a kind that its own bounds allow."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        text = str(field.type)
        if "None" in text:
            values[field.name] = None
        elif dataclasses.is_dataclass(field.type):
            assert isinstance(field.type, type)
            values[field.name] = example(field.type)
        else:
            empty = {"tuple": (), "str": "", "bool": False}
            values[field.name] = next((it for name, it in empty.items() if name in text), 0)
    return kind(**values)
