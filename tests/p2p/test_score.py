"""How long a peer that misbehaved stays away: docs/protocol.md, 6, line by line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import errors
from p2p.network.score import (
    BAN_SECONDS,
    START_SCORE,
    Offence,
    Scores,
    Standing,
    household,
    judge,
    offence_of,
    subnet,
)
from p2p.wire.identity import Identity, PeerId


def peer(number: int) -> PeerId:
    return Identity(number.to_bytes(32, "big")).peer


def offend(times: int, offence: Offence, every: float = 0.0) -> tuple[Scores, float, float]:
    """Return the scores, the last answer, and when that was, after some offences."""
    scores, answer, now = Scores(), 0.0, 0.0
    for number in range(times):
        now = number * every
        answer = scores.offend(peer(1), offence, now)
    return scores, answer, now


def test_a_peer_without_offences_may_come() -> None:
    assert Scores().stay_away_seconds(peer(1), 0.0, "1.2.3.4") == 0.0


@pytest.mark.parametrize(("times", "seconds"), [(1, 60.0), (2, 60.0), (3, BAN_SECONDS)])
def test_forged_bytes_cost_a_minute_and_the_third_time_an_hour(times: int, seconds: float) -> None:
    assert offend(times, Offence.FORGED, every=60.0)[1] == seconds


def test_the_third_forgery_after_ten_minutes_is_a_first_again() -> None:
    assert offend(3, Offence.FORGED, every=299.9)[1] == BAN_SECONDS
    assert offend(3, Offence.FORGED, every=300.0)[1] == 60.0


@pytest.mark.parametrize(
    ("times", "seconds"), [(1, 10.0), (2, 20.0), (3, 40.0), (6, 320.0), (7, 600.0), (40, 600.0)]
)
def test_bad_format_costs_ten_seconds_doubling_to_ten_minutes(times: int, seconds: float) -> None:
    assert offend(times, Offence.FORMAT, every=1000.0)[1] == seconds


def test_the_doubling_starts_anew_after_good_service() -> None:
    scores, _, now = offend(5, Offence.FORMAT, every=1000.0)

    scores.forgive_format(peer(1))
    scores.forgive_format(peer(2))

    assert scores.offend(peer(1), Offence.FORMAT, now + 1000) == 10.0


@pytest.mark.parametrize(
    ("offence", "seconds"), [(Offence.SLOW, 30.0), (Offence.FLOOD, 60.0), (Offence.NONE, 0.0)]
)
def test_slow_readers_and_floods_stay_away_for_a_while(offence: Offence, seconds: float) -> None:
    assert offend(1, offence)[1] == seconds


def test_the_eleventh_bad_guess_is_a_ban() -> None:
    assert offend(10, Offence.GUESS)[1] == 0.0
    assert offend(11, Offence.GUESS)[1] == BAN_SECONDS


def test_the_hundred_and_first_stray_frame_is_a_ban() -> None:
    assert offend(100, Offence.STALE)[1] == 0.0
    assert offend(101, Offence.STALE)[1] == BAN_SECONDS


def test_a_score_regains_a_point_a_minute_up_to_its_start() -> None:
    assert Standing(10.0, 0.0).now_score(60.0) == pytest.approx(11.0)
    assert Standing(10.0, 0.0).now_score(1e9) == START_SCORE
    assert offend(100, Offence.GUESS, every=600.0)[1] == 0.0


def test_a_shorter_answer_never_ends_a_longer_one() -> None:
    scores, _, now = offend(3, Offence.FORGED)

    scores.offend(peer(1), Offence.SLOW, now + 1)

    assert scores.stay_away_seconds(peer(1), now + 1) == pytest.approx(BAN_SECONDS - 1)


def test_a_ban_ends_after_an_hour() -> None:
    scores, _, now = offend(3, Offence.FORGED)

    assert scores.stay_away_seconds(peer(1), now + BAN_SECONDS - 0.1) > 0
    assert scores.stay_away_seconds(peer(1), now + BAN_SECONDS) == 0


def test_the_third_banned_peer_shuts_its_subnet_until_the_first_is_free() -> None:
    scores = Scores()
    for number in range(1, 4):
        assert scores.stay_away_seconds(peer(9), 0.0, "10.0.0.99") == 0.0
        for _ in range(3):
            scores.offend(peer(number), Offence.FORGED, float(number), f"10.0.0.{number}")

    assert scores.stay_away_seconds(peer(9), 4.0, "10.0.0.99") == BAN_SECONDS + 1 - 4
    assert scores.stay_away_seconds(peer(9), 4.0, "10.0.1.99") == 0.0
    assert scores.stay_away_seconds(peer(9), BAN_SECONDS + 1, "10.0.0.99") == 0.0


def test_a_ban_shuts_its_subnet_whatever_the_clock_says() -> None:
    now = 14632.32283796745  # one of those for which floats make (now + 3600) - now less
    assert (now + BAN_SECONDS) - now < BAN_SECONDS
    scores = Scores()
    for number in range(1, 4):
        for _ in range(3):
            scores.offend(peer(number), Offence.FORGED, now, f"10.0.0.{number}")

    assert scores.stay_away_seconds(peer(9), now, "10.0.0.99") > 0


def test_old_subnet_bans_are_forgotten() -> None:
    scores = Scores()
    for number in range(1, 5):
        for _ in range(3):
            now = number * 2 * BAN_SECONDS
            scores.offend(peer(number), Offence.FORGED, now, f"10.{number}.0.1")

    assert list(scores._banned_in) == ["10.4.0.0/24"]


def test_this_machine_is_no_subnet() -> None:
    assert subnet("127.0.0.1") is None
    assert subnet("::1") is None
    assert subnet(None) is None
    assert subnet("10.1.2.3") == "10.1.2.0/24"
    assert subnet("2001:db8:1:2::3") == "2001:db8:1::/48"


def test_an_address_is_one_of_four_parts_or_what_one_user_has_of_six() -> None:
    assert household("127.0.0.1") is None
    assert household(None) is None
    assert household("10.1.2.3") == "10.1.2.3/32"
    assert household("2001:db8:1:2::3") == "2001:db8:1:2::/64"


def test_an_address_that_a_socket_for_both_kinds_shows_is_the_same() -> None:
    assert household("::ffff:10.1.2.3") == household("10.1.2.3")
    assert subnet("::ffff:10.1.2.3") == subnet("10.1.2.3")
    assert household("::ffff:127.0.0.1") is subnet("::ffff:127.0.0.1") is None


def test_the_peer_least_recently_at_fault_is_forgotten_first() -> None:
    scores = Scores(max_peers=2)
    for number in (1, 2, 1, 3):
        scores.offend(peer(number), Offence.SLOW, 0.0)

    assert scores.stay_away_seconds(peer(2), 1.0) == 0.0
    assert scores.stay_away_seconds(peer(1), 1.0) > 0
    assert scores.stay_away_seconds(peer(3), 1.0) > 0


@pytest.mark.parametrize(
    ("error", "offence"),
    [
        (errors.BadLength(), Offence.FORGED),
        (errors.BadSignature(), Offence.FORGED),
        (errors.MalformedFrame(), Offence.FORMAT),
        (errors.UnknownFrame(), Offence.FORMAT),
        (errors.UnexpectedFrame(), Offence.FORMAT),
        (errors.BadGuessId(), Offence.GUESS),
        (errors.BadPosition(), Offence.GUESS),
        (errors.BadToken(), Offence.GUESS),
        (errors.Desync(), Offence.GUESS),
        (errors.OverBudget(), Offence.NONE),
        (errors.Flood(), Offence.FLOOD),
        (errors.SlowPeer(), Offence.SLOW),
        (errors.Incompatible(), Offence.NONE),
        (errors.NotInvited(), Offence.NONE),
        (errors.PeerBusy(), Offence.NONE),
    ],
)
def test_each_error_of_a_peer_is_one_kind_of_offence(
    error: errors.PeerError, offence: Offence
) -> None:
    assert offence_of(error) is offence


@given(st.lists(st.tuples(st.sampled_from(Offence), st.floats(0, 5000)), max_size=40))
def test_a_standing_is_never_better_than_at_the_start_and_its_term_never_shrinks(
    offences: list[tuple[Offence, float]],
) -> None:
    standing, now = Standing(START_SCORE, 0.0), 0.0
    for offence, wait in offences:
        now += wait
        after = judge(standing, offence, now)

        assert after.score <= START_SCORE
        assert after.until >= standing.until
        assert after.until - now <= BAN_SECONDS + 1e-6  # (now + x) - now is not x in floats
        standing = after
