"""Who waits, and who gives way."""

from dataclasses import replace

import pytest

from verifier_host.messages import Sampling, Start
from verifier_host.scheduling.pacing import Pace
from verifier_host.scheduling.preempt import next_in, victim
from verifier_host.scheduling.sessions import Session


def session(order: int, prompt: tuple[int, ...] = (1, 2), name: bytes = b"") -> Session:
    start = Start(order, prompt, (), b"12345678", Sampling(), 10, name)
    return Session(start, order, 100, 100, Pace())


def test_the_youngest_gives_way() -> None:
    sessions = [session(2), session(7), session(1)]

    assert victim(sessions) is sessions[1]


def test_who_has_most_inside_gives_way_with_its_youngest() -> None:
    sessions = [session(1, name=b"a"), session(2, name=b"a"), session(7, name=b"b")]

    assert victim(sessions) is sessions[1]
    assert victim(sessions[1:]) is sessions[2]
    assert victim(sessions[:1]) is sessions[0]


def test_the_oldest_comes_in_first() -> None:
    waiting = [session(5), session(3), session(4)]

    assert next_in(waiting, [], {}) is waiting[1]


def test_nobody_waits_so_nobody_comes_in() -> None:
    assert next_in([], [session(1)], {}) is None


@pytest.mark.parametrize(
    ("prompt", "name", "waits"),
    [((1, 2), b"", True), ((1, 2), b"a", False), ((1, 3), b"", False)],
)
def test_a_prompt_that_is_just_being_computed_is_waited_for(
    prompt: tuple[int, ...], name: bytes, waits: bool
) -> None:
    waiting = session(2, prompt, name)

    assert (next_in([waiting], [session(1)], {}) is None) == waits


def test_once_it_is_computed_the_next_choice_comes_in() -> None:
    running, waiting = session(1), session(2)
    running.cached = 1

    assert next_in([waiting], [running], {}) is waiting


def test_the_owner_with_the_fewest_inside_comes_in_first() -> None:
    inside = [session(1, name=b"a"), session(2, name=b"a"), session(3, name=b"b")]
    for running in inside:
        running.cached = 1
    waiting = [session(4, name=b"a"), session(6, name=b"b"), session(5, name=b"b")]

    assert next_in(waiting, inside, {b"a": 9, b"b": 10}) is waiting[2]


def test_owners_with_as_many_inside_take_turns() -> None:
    waiting = [session(4, name=b"a"), session(5, name=b"b"), session(6, name=b"c")]

    assert next_in(waiting, [], {b"a": 1, b"b": 2}) is waiting[2]
    assert next_in(waiting, [], {b"a": 1, b"b": 2, b"c": 3}) is waiting[0]


def test_who_waits_for_a_prompt_of_its_own_lets_another_owner_pass() -> None:
    waiting = [session(2, name=b"a"), session(3, name=b"b")]

    assert next_in(waiting, [session(1, name=b"a")], {}) is waiting[1]
    waiting[1].start = replace(waiting[1].start, namespace=b"a", prompt=(8, 9))
    assert next_in(waiting, [session(1, name=b"a")], {}) is None
