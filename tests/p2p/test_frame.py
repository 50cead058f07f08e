"""p2p/wire/frame.py: a length and a body, cut anywhere (docs/protocol.md, 1.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import BadLength
from p2p.wire.frame import (
    MAX_LOCAL_BYTES,
    MAX_PEER_BYTES,
    MIN_PEER_BYTES,
    FrameDecoder,
    frame,
)


def peer_decoder() -> FrameDecoder:
    return FrameDecoder(MAX_PEER_BYTES, MIN_PEER_BYTES)


def test_a_frame_is_its_length_and_its_body() -> None:
    assert frame(b"ab") == b"\0\0\0\2ab"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
def test_frames_come_back_however_their_bytes_are_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(map(frame, bodies))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10).map(sorted))
    decoder = FrameDecoder()

    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])

    assert got == bodies
    assert decoder.pending_bytes == 0


@given(st.binary(min_size=1, max_size=40))
def test_a_frame_that_is_cut_short_is_waited_for(body: bytes) -> None:
    whole = frame(body)
    for length in range(len(whole)):
        decoder = FrameDecoder()
        assert decoder.feed(whole[:length]) == []
        assert decoder.pending_bytes == length
        assert decoder.feed(whole[length:]) == [body]


@pytest.mark.parametrize("size", [MIN_PEER_BYTES, MAX_PEER_BYTES])
def test_a_peers_frame_of_either_bound_is_read(size: int) -> None:
    assert peer_decoder().feed(frame(bytes(size), MAX_PEER_BYTES)) == [bytes(size)]


@pytest.mark.parametrize("size", [0, MIN_PEER_BYTES - 1, MAX_PEER_BYTES + 1, 2**32 - 1])
def test_another_length_ends_the_stream_before_any_byte_of_the_body(size: int) -> None:
    with pytest.raises(BadLength, match=f"says {size} bytes; 65 to 65536"):
        peer_decoder().feed(size.to_bytes(4, "big"))


@pytest.mark.parametrize("body", [b"", bytes(MAX_LOCAL_BYTES + 1)])
def test_a_body_that_no_peer_would_read_is_not_framed(body: bytes) -> None:
    with pytest.raises(ValueError, match="are possible"):
        frame(body)


def test_the_longest_local_frame_is_read() -> None:
    assert FrameDecoder().feed(frame(bytes(MAX_LOCAL_BYTES))) == [bytes(MAX_LOCAL_BYTES)]
