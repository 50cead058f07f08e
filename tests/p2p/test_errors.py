"""p2p/errors.py: one table answers every code at every door."""

from collections.abc import Iterator

from p2p.errors import ANSWERS, BadLength, NexusError, PeerError, RequestError, answer

UNANSWERED = {"internal", "peer", "record.malformed", "child"}


def every(kind: type[NexusError]) -> Iterator[type[NexusError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from every(below)


def test_every_error_class_has_an_answer() -> None:
    codes = {kind.code for kind in every(NexusError) if kind.__module__ == "p2p.errors"}

    assert codes - UNANSWERED == set(ANSWERS)


def test_a_peers_fault_has_a_wire_code_and_a_clients_a_4xx() -> None:
    for kind in every(NexusError):
        if issubclass(kind, PeerError) and kind.code not in UNANSWERED:
            assert ANSWERS[kind.code].wire != 16
        if issubclass(kind, RequestError) and kind.__module__ == "p2p.errors":
            assert 400 <= ANSWERS[kind.code].http < 500


def test_a_bug_is_answered_as_a_bug() -> None:
    assert answer(BadLength("9 bytes")).wire == 1
    assert (answer(ValueError()).http, answer(ValueError()).exit) == (500, 1)
