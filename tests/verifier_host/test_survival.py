"""Survival: claims are believed until counted, and a liar no more than a poor drafter."""

import pytest

from p2p.drafting.tree import Guess, Name
from verifier_host.scheduling.survival import HALVED_EVERY, Survival


def guess(token: int = 1, **scores: int) -> Guess:
    made = Guess(token, 5, None, 1)
    for name, score in scores.items():
        drafter = int(name.removeprefix("d"))
        made.names[drafter] = Name(1, score, 1)
    return made


def test_a_new_drafter_is_believed() -> None:
    survival = Survival()

    assert survival.chance(guess(d1=255), 1) == pytest.approx(0.945, abs=0.001)
    assert survival.chance(guess(d1=0), 1) < 0.01


def test_a_liar_is_believed_less_with_every_miss() -> None:
    survival = Survival()
    liar = guess(token=1, d1=255)

    chances = []
    for _ in range(100):
        survival.record([liar], 1, token=2)
        chances.append(survival.chance(liar, 1))

    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < 0.05


def test_a_modest_drafter_that_is_right_comes_to_be_believed() -> None:
    survival = Survival()
    modest = guess(token=1, d1=20)

    for _ in range(100):
        survival.record([modest], 3, token=1)

    assert survival.chance(modest, 4) > 0.9  # 3 and 4 are one bucket
    assert survival.chance(modest, 1) < 0.1


@pytest.mark.parametrize(("near", "far"), [(1, 2), (2, 3), (4, 5), (8, 9)])
def test_depths_are_counted_by_bucket(near: int, far: int) -> None:
    survival = Survival()
    for _ in range(50):
        survival.record([guess(d1=255)], near, token=2)

    assert survival.chance(guess(d1=255), near) < 0.1
    assert survival.chance(guess(d1=255), far) > 0.9
    assert survival.chance(guess(d1=255), 64) > 0.9


def test_a_second_drafter_adds_half_of_what_it_would_alone() -> None:
    survival = Survival()
    one = survival.chance(guess(d1=200), 1)
    low = survival.chance(guess(d2=100), 1)

    both = survival.chance(guess(d1=200, d2=100), 1)

    assert both == pytest.approx(1 - (1 - one) * (1 - low / 2))
    assert survival.chance(guess(d2=100, d1=200), 1) == both


def test_a_guess_that_nobody_has_any_more_has_no_chance() -> None:
    assert Survival().chance(guess(), 1) == 0.0


def test_the_past_fades() -> None:
    survival = Survival()
    for _ in range(HALVED_EVERY):
        survival.record([guess(d1=255)], 1, token=2)
    for _ in range(HALVED_EVERY // 2):
        survival.record([guess(d1=255)], 1, token=1)

    assert survival.chance(guess(d1=255), 1) == pytest.approx(0.5, abs=0.01)


def test_a_drafter_that_left_is_forgotten() -> None:
    survival = Survival()
    for _ in range(50):
        survival.record([guess(d1=255)], 1, token=2)

    survival.forget(1)
    survival.forget(9)

    assert survival.chance(guess(d1=255), 1) > 0.9
