"""Who waits, and who gives way."""

import pytest

from verifier_host.messages import Sampling, Start
from verifier_host.scheduling.preempt import next_in, victim
from verifier_host.scheduling.sessions import Session


def session(order: int, prompt: tuple[int, ...] = (1, 2), name: bytes = b"") -> Session:
    start = Start(order, prompt, (), b"12345678", Sampling(), 10, name)
    return Session(start, order, 100, 100)


def test_the_youngest_gives_way() -> None:
    sessions = [session(2), session(7), session(1)]

    assert victim(sessions) is sessions[1]


def test_the_oldest_comes_in_first() -> None:
    waiting = [session(5), session(3), session(4)]

    assert next_in(waiting, []) is waiting[1]


def test_nobody_waits_so_nobody_comes_in() -> None:
    assert next_in([], [session(1)]) is None


@pytest.mark.parametrize(
    ("prompt", "name", "waits"),
    [((1, 2), b"", True), ((1, 2), b"a", False), ((1, 3), b"", False)],
)
def test_a_prompt_that_is_just_being_computed_is_waited_for(
    prompt: tuple[int, ...], name: bytes, waits: bool
) -> None:
    waiting = session(2, prompt, name)

    assert (next_in([waiting], [session(1)]) is None) == waits


def test_once_it_is_computed_the_next_choice_comes_in() -> None:
    running, waiting = session(1), session(2)
    running.cached = 1

    assert next_in([waiting], [running]) is waiting
