"""Drafts by repetition: what is found, what is proposed, when it gives up."""

from hypothesis import given
from hypothesis import strategies as st

from p2p.drafting.ngram import KEY_TOKENS, LONGEST_MATCH, MAX_PROPOSAL, WINDOW, NgramDrafter


def brute_force(text: list[int], ahead: list[int]) -> list[int]:
    """The last two places where the last three tokens stood, the one with the longer match."""
    whole = text + ahead
    key = whole[-KEY_TOKENS:]
    ends = [e for e in range(KEY_TOKENS, len(text)) if text[e - KEY_TOKENS : e] == key][-2:]
    if len(key) < KEY_TOKENS or not ends:
        return []

    def match(end: int) -> int:
        length = 0
        while length < min(LONGEST_MATCH, end) and text[end - 1 - length] == whole[-1 - length]:
            length += 1
        return length

    end = max(ends, key=lambda e: (match(e), e))
    found = text[end : end + MAX_PROPOSAL]
    if ahead:
        return found
    period = len(text) - end
    return [text[end + step % period] for step in range(MAX_PROPOSAL)]


def test_what_followed_last_time_is_proposed() -> None:
    drafter = NgramDrafter([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99, 1, 2, 3])

    assert drafter.propose() == [4, 5, 6, 7, 8, 9, 10, 11]


def test_nothing_is_proposed_for_text_that_does_not_repeat() -> None:
    assert NgramDrafter(list(range(50))).propose() == []


def test_two_common_tokens_are_no_match() -> None:
    assert NgramDrafter([1, 2, 3, 4, 2, 3]).propose() == []


def test_fewer_than_three_tokens_propose_nothing() -> None:
    assert NgramDrafter([1, 1]).propose() == []


def test_the_longer_match_wins_over_the_later() -> None:
    drafter = NgramDrafter([7, 1, 2, 3, 40, 0, 1, 2, 3, 50, 7, 1, 2, 3])

    assert drafter.propose()[0] == 40


def test_of_equal_matches_the_later_wins() -> None:
    drafter = NgramDrafter([7, 1, 2, 3, 40, 8, 1, 2, 3, 50, 9, 1, 2, 3])

    assert drafter.propose()[0] == 50


def test_a_text_that_goes_round_is_continued_round() -> None:
    assert NgramDrafter([1, 2, 1, 2, 1, 2]).propose() == [1, 2, 1, 2, 1, 2, 1, 2]


def test_guesses_ahead_of_the_text_are_part_of_the_match() -> None:
    drafter = NgramDrafter([1, 2, 3, 4, 5, 6, 9, 1, 2])

    assert drafter.propose() == []
    assert drafter.propose(ahead=[3]) == [4, 5, 6, 9, 1, 2]


@given(
    text=st.lists(st.integers(0, 3), max_size=60),
    ahead=st.lists(st.integers(0, 3), max_size=5),
    cut=st.integers(0, 60),
)
def test_proposals_are_those_of_a_search_through_the_whole_text(
    text: list[int], ahead: list[int], cut: int
) -> None:
    drafter = NgramDrafter(text[:cut])
    drafter.append(text[cut:])

    assert drafter.propose(ahead) == brute_force(text, ahead)


def judged(hits: int, misses: int) -> NgramDrafter:
    """A drafter with so many right and wrong proposals behind it, right ones first."""
    drafter = NgramDrafter([1] * 8)
    for _ in range(hits):
        assert drafter.propose()
        drafter.append([1])
    for step in range(misses):
        drafter.append([1] * 4)  # not judged: nothing was proposed
        assert drafter.propose()
        drafter.append([100 + step])
    return drafter


def test_a_drafter_below_three_in_ten_over_its_window_is_switched_off() -> None:
    drafter = judged(hits=9, misses=WINDOW - 9)
    drafter.append([1] * 8)

    assert not drafter.is_on
    assert drafter.propose() == []


def test_a_drafter_at_three_in_ten_goes_on() -> None:
    assert judged(hits=10, misses=WINDOW - 10).is_on


def test_a_drafter_is_not_judged_before_its_window_is_full() -> None:
    assert judged(hits=0, misses=WINDOW - 1).is_on


def test_a_proposal_asked_for_twice_is_judged_once() -> None:
    drafter = NgramDrafter([1] * 8)
    for _ in range(WINDOW):
        drafter.propose()
    drafter.append([5])

    assert drafter.is_on


def test_appending_nothing_judges_nothing() -> None:
    drafter = judged(hits=0, misses=WINDOW - 1)
    drafter.append([1] * 4)
    drafter.propose()
    drafter.append([])

    assert drafter.is_on
