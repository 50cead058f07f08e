"""What both ends share: heartbeat, flood control, pending bounds, stale sessions, last words."""

import pytest

from p2p.drafting.conversation import (
    FLOOD_SECONDS,
    FRAMES_BURST,
    FRAMES_PER_SECOND,
    HANDSHAKE_SECONDS,
    HEARTBEAT_SECONDS,
    MAX_PENDING_BYTES,
    PAUSE_SECONDS,
    STALE_SECONDS,
    Conversation,
    Measured,
    refusal,
)
from p2p.errors import BadLength, BadToken, Flood, MalformedFrame, PeerGone, SlowPeer
from p2p.wire.chain import Direction
from p2p.wire.identity import Identity
from p2p.wire.messages import Bye, Close, Closing, Error, Ping, Pong

NODE = Identity(b"n" * 32)
HOST = Identity(b"h" * 32)


def pair(now: float = 0.0) -> tuple[Conversation, Conversation]:
    """Both ends of a stream behind its handshake."""
    node = Conversation(NODE, Direction.NODE, HOST.public, now)
    host = Conversation(HOST, Direction.HOST, NODE.public, now)
    for end in (node, host):
        end.restart(b"hello", b"welcome", HEARTBEAT_SECONDS)
    return node, host


def messages(end: Conversation, data: bytes, now: float = 0.0) -> list[object]:
    return [message for message, _ in end.hear(data, now)]


def test_the_first_ping_goes_at_once_and_the_next_after_a_heartbeat() -> None:
    node, host = pair()
    node.beat(0.0)
    first = messages(host, node.take())
    node.beat(HEARTBEAT_SECONDS - 0.01)
    between = node.take()
    node.beat(HEARTBEAT_SECONDS)

    assert first == []  # answered, not passed on
    assert between == b""
    assert node.take() != b""


def test_a_ping_is_answered_with_its_own_number_and_time() -> None:
    node, host = pair()
    node.say(Ping(7, 123))
    messages(host, node.take())
    host.beat(0.0)

    assert messages(node, host.take()) == []  # PONG 7 answers no ping of ours
    assert node.counters["stale"] == 1


def test_a_round_trip_is_measured_from_ping_to_pong() -> None:
    node, host = pair()
    node.beat(1.0)
    messages(host, node.take(), 1.04)
    host.beat(1.05)

    assert messages(node, host.take(), 1.08) == [Measured(pytest.approx(0.08))]
    assert node.rtt_seconds == pytest.approx(0.08)


def test_a_pong_that_answers_no_ping_is_counted_and_measures_nothing() -> None:
    node, host = pair()
    host.say(Pong(99, 0))

    assert messages(node, host.take()) == []
    assert node.rtt_seconds is None
    assert node.counters["stale"] == 1


def test_only_the_last_four_pings_can_still_be_answered() -> None:
    node, host = pair()
    for beat in range(5):
        node.beat(beat * HEARTBEAT_SECONDS)
        messages(host, node.take(), beat * HEARTBEAT_SECONDS)
    host.say(Pong(1, 0), Pong(2, 0))

    assert messages(node, host.take(), 25.0) == [Measured(pytest.approx(20.0))]


@pytest.mark.parametrize("end", [0, 1])
def test_a_handshake_that_takes_five_seconds_is_given_up(end: int) -> None:
    node = Conversation(NODE, Direction.NODE, HOST.public, 10.0)
    host = Conversation(HOST, Direction.HOST, NODE.public, 10.0)
    waiting, awaited = ((node, "WELCOME"), (host, "HELLO"))[end]

    assert waiting.due() == 10.0 + HANDSHAKE_SECONDS
    waiting.tick(10.0 + HANDSHAKE_SECONDS - 0.01)
    with pytest.raises(PeerGone, match=awaited):
        waiting.tick(10.0 + HANDSHAKE_SECONDS)


def test_three_silent_heartbeats_are_the_end() -> None:
    node, _ = pair()
    node.tick(3 * HEARTBEAT_SECONDS - 0.01)

    with pytest.raises(PeerGone, match="15 s"):
        node.tick(3 * HEARTBEAT_SECONDS)


def test_any_byte_of_the_peer_ends_the_silence() -> None:
    node, host = pair()
    host.beat(0.0)
    messages(node, host.take()[:1], 14.0)

    node.tick(28.9)
    with pytest.raises(PeerGone):
        node.tick(29.0)


def test_the_timer_rests_while_a_ping_waits_for_a_busy_writer() -> None:
    node, _ = pair()
    node.beat(0.0)
    node.tick(HEARTBEAT_SECONDS)

    assert node.due() > HEARTBEAT_SECONDS
    node.take()
    node.beat(HEARTBEAT_SECONDS + 1)
    assert node.take() != b""


def test_frames_up_to_the_burst_and_then_the_rate_are_read_without_a_pause() -> None:
    node, host = pair()
    for _ in range(FRAMES_BURST):
        node.say(Bye(0, 0))
    messages(host, node.take(), 0.0)

    assert host.pause(0.0) == 0.0
    node.say(Bye(0, 0))
    messages(host, node.take(), 0.0)
    assert host.pause(0.0) == PAUSE_SECONDS
    assert host.pause(0.01) == 0.0


def test_two_seconds_above_the_rate_are_a_flood() -> None:
    node, host = pair()
    now = 0.0
    for _ in range(FRAMES_BURST):
        node.say(Bye(0, 0))
    messages(host, node.take(), now)

    with pytest.raises(Flood):  # noqa: PT012
        while now < FLOOD_SECONDS + 1:
            now += 0.05
            for _ in range(FRAMES_PER_SECOND // 10):
                node.say(Bye(0, 0))
            messages(host, node.take(), now)
    assert now == pytest.approx(FLOOD_SECONDS + 0.1, abs=0.051)


def test_a_burst_after_a_stall_is_forgiven() -> None:
    node, host = pair()
    for _ in range(3 * FRAMES_BURST):
        node.say(Bye(0, 0))
    messages(host, node.take(), 0.0)
    for step in range(1, 400):
        node.say(Bye(0, 0))
        messages(host, node.take(), step / 50)

    assert host.failed is None
    assert host.pause(8.0) == 0.0


def test_bursts_with_rest_between_them_are_no_flood() -> None:
    node, host = pair()
    for now in (0.0, 4.0, 8.0):
        node.say(*[Bye(0, 0)] * (FRAMES_BURST + 50))
        messages(host, node.take(), now)

    assert host.failed is None


def test_a_peer_is_given_up_past_one_mebibyte_that_waits() -> None:
    node, _ = pair()
    node.check_pending(MAX_PENDING_BYTES)
    node.tick(1.0)

    node.check_pending(MAX_PENDING_BYTES + 1)
    assert node.due() <= 1.0
    with pytest.raises(SlowPeer):
        node.tick(1.0)
    assert node.take() == b""
    assert node.counters == {"peer.slow": 1}


def test_a_frame_for_a_session_closed_just_now_is_stale_and_no_offence() -> None:
    node, _ = pair()
    node.retire(4)
    node.clock = STALE_SECONDS - 0.01

    assert node.stray(4) == []
    assert node.counters["stale"] == 1


def test_a_frame_for_a_session_closed_long_ago_or_never_opened_costs_a_point() -> None:
    node, _ = pair()
    node.retire(4)
    node.clock = STALE_SECONDS

    assert [offence.weight for offence in node.stray(4) + node.stray(5)] == [1, 1]


def test_closed_sessions_are_forgotten_after_their_time() -> None:
    node, _ = pair()
    for sid in range(1, 1000):
        node.clock = float(sid)
        node.retire(sid)

    assert len(node._closed) <= STALE_SECONDS


def test_the_peer_is_told_once_why_the_stream_ends() -> None:
    node, host = pair()
    node.fail(MalformedFrame("first"))
    node.fail(MalformedFrame("second"))

    assert messages(host, node.take()) == [Error(3, 0, 0, 0, "first")]
    assert node.counters == {"frame.malformed": 1}
    assert node.due() == float("inf")
    node.tick(1000.0)


def test_nothing_is_told_where_nothing_can_be_found_any_more() -> None:
    node, _ = pair()
    node.fail(BadLength("a frame says 9 bytes"))

    assert node.take() == b""


def test_a_failed_end_hears_nothing_more() -> None:
    node, host = pair()
    node.fail(BadLength("a frame says 9 bytes"))
    host.say(Bye(0, 0))

    assert messages(node, host.take()) == []


def test_a_refusal_is_cut_to_the_wires_bound_between_letters() -> None:
    error = refusal(BadToken("é" * 100 + "x"), 3)

    assert error == Error(8, 3, 0, 0, "é" * 64)
    assert refusal(BadToken("x" + "é" * 100), 3).text == "x" + "é" * 63


def test_a_list_goes_in_frames_of_the_most_allowed() -> None:
    node, host = pair()
    closings = [Closing(sid, 0) for sid in range(1, 66)]
    node.say_list(Close, closings)
    node.say_list(Close, [])

    heard = messages(host, node.take())
    assert heard == [Close(tuple(closings[:64])), Close(tuple(closings[64:]))]
