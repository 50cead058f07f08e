from string import Formatter

import pytest

from nexusnode.states import WORDS, Missing, Reason, describe


@pytest.mark.parametrize("what", [*Reason, *Missing])
def test_every_reason_and_every_missing_thing_has_words(what: Reason | Missing) -> None:
    words = WORDS[what]

    assert words.title
    assert words.sentence.endswith(".")
    assert words.icon.isidentifier()


def test_a_sentence_has_no_gap_but_the_time_it_ends() -> None:
    gaps = {
        name
        for words in WORDS.values()
        for _, name, _, _ in Formatter().parse(words.sentence)
        if name is not None
    }

    assert gaps == {"until"}


def test_a_pause_is_titled_as_one_and_says_when_it_ends() -> None:
    words = describe(Reason.SNOOZE, (Missing.HOST,), "at 18:30")

    assert words.title == "Paused: for a while"
    assert words.sentence == "It goes on by itself at 18:30."


def test_a_pause_without_a_known_end_says_soon() -> None:
    assert "soon" in describe(Reason.NO_MEMORY, (), None).sentence


def test_a_running_node_says_the_first_thing_that_is_missing() -> None:
    assert describe(Reason.OK, (Missing.WORKER, Missing.HOST), None) == WORDS[Missing.WORKER]
    assert describe(Reason.OK, (), None) == WORDS[Reason.OK]


def test_all_pauses_are_called_paused() -> None:
    others = {Reason.OK, Reason.QUIT}

    assert all(WORDS[reason].title.startswith("Paused: ") for reason in set(Reason) - others)
