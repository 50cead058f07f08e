"""p2p/wire/chain.py: only the next frame of this very stream verifies (docs/protocol.md, 2)."""

from collections.abc import Callable, Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import BadSignature
from p2p.wire.chain import Direction, Signer, Verifier
from p2p.wire.identity import Identity, verify

NODE, HOST, OTHER = (Identity(bytes((number,)) * 32) for number in (1, 2, 3))
HELLO, WELCOME = b"hello and its nonce", b"welcome and its nonce"
payloads = st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6)


def ends(direction: Direction = Direction.NODE) -> tuple[Signer, Verifier]:
    sender, receiver = (NODE, HOST) if direction is Direction.NODE else (HOST, NODE)
    signer = Signer(sender, direction, receiver.public)
    return signer, Verifier(direction, sender.public, receiver.public)


def streaming_ends() -> tuple[Signer, Verifier]:
    signer, verifier = ends()
    signer.restart(HELLO, WELCOME)
    verifier.restart(HELLO, WELCOME)
    return signer, verifier


def refuses(verifier: Verifier, body: bytes) -> bool:
    try:
        verifier.verify(body)
    except BadSignature:
        return True
    return False


@given(payloads, payloads, st.sampled_from(Direction))
def test_frames_in_order_verify_before_and_after_the_handshake(
    before: Sequence[bytes], after: Sequence[bytes], direction: Direction
) -> None:
    signer, verifier = ends(direction)

    assert [verifier.verify(signer.sign(payload)) for payload in before] == before
    signer.restart(HELLO, WELCOME)
    verifier.restart(HELLO, WELCOME)
    assert [verifier.verify(signer.sign(payload)) for payload in after] == after


def test_the_first_two_signatures_cover_what_the_document_says() -> None:
    """Rules 2.1 to 2.3, written out."""
    signer, _ = ends(Direction.HOST)
    start = sha256(b"nexus/hello/1\0H" + HOST.public + NODE.public).digest()
    first = sha256(start + WELCOME).digest()
    verify(HOST.public, signer.sign(WELCOME)[:64], b"nexus/draft/1\0" + first)

    signer.restart(HELLO, WELCOME)
    start = sha256(b"nexus/chain/1\0H" + HELLO + WELCOME).digest()
    second = sha256(sha256(start + b"a").digest() + b"b").digest()
    signer.sign(b"a")
    assert signer.sign(b"b")[64:] == b"b"
    signer.restart(HELLO, WELCOME)
    signer.sign(b"a")
    verify(HOST.public, signer.sign(b"b")[:64], b"nexus/draft/1\0" + second)


@given(st.binary(min_size=1, max_size=20), st.data())
def test_a_changed_bit_anywhere_is_refused(payload: bytes, data: st.DataObject) -> None:
    signer, verifier = streaming_ends()
    body = bytearray(signer.sign(payload))
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    body[bit // 8] ^= 1 << bit % 8

    assert refuses(verifier, bytes(body))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda a, b, c: (a, a),
        lambda a, b, c: (a, b, a),
        lambda a, b, c: (b,),
        lambda a, b, c: (a, c),
        lambda a, b, c: (a, b, b),
    ],
    ids=["repeated", "repeated later", "swapped", "dropped", "repeated at the end"],
)
def test_a_frame_out_of_its_place_is_refused(
    arrange: Callable[[bytes, bytes, bytes], Sequence[bytes]],
) -> None:
    """Rule 2.4."""
    signer, verifier = streaming_ends()
    *before, last = arrange(*(signer.sign(payload) for payload in (b"same", b"same", b"same")))
    for body in before:
        verifier.verify(body)

    assert refuses(verifier, last)


def test_a_frame_of_another_stream_direction_or_peer_is_refused() -> None:
    _, verifier = streaming_ends()
    another_hello, another_welcome = (Signer(NODE, Direction.NODE, HOST.public) for _ in range(2))
    another_hello.restart(HELLO + b"!", WELCOME)
    another_welcome.restart(HELLO, WELCOME + b"!")
    backwards = Signer(NODE, Direction.HOST, HOST.public)
    backwards.restart(HELLO, WELCOME)
    impostor = Signer(OTHER, Direction.NODE, HOST.public)
    impostor.restart(HELLO, WELCOME)

    for signer in (another_hello, another_welcome, backwards, impostor):
        assert refuses(streaming_ends()[1], signer.sign(b"payload"))
    assert refuses(verifier, ends()[0].sign(b"payload")), "a frame from before the handshake"


def test_a_hello_is_for_one_host_and_one_direction() -> None:
    _, verifier = ends()
    assert refuses(verifier, Signer(NODE, Direction.NODE, OTHER.public).sign(HELLO))
    assert refuses(ends()[1], Signer(NODE, Direction.HOST, HOST.public).sign(HELLO))
    assert refuses(ends()[1], Signer(OTHER, Direction.NODE, HOST.public).sign(HELLO))
    assert not refuses(ends()[1], ends()[0].sign(HELLO))


def test_after_a_refused_frame_nothing_verifies() -> None:
    signer, verifier = streaming_ends()
    body = signer.sign(b"payload")

    assert refuses(verifier, body[:-1] + b"!")
    assert refuses(verifier, body)
    assert refuses(verifier, signer.sign(b"next"))


@pytest.mark.parametrize("body", [b"", b"short", bytes(63), bytes(64), bytes(65)])
def test_a_body_without_a_whole_signature_is_refused(body: bytes) -> None:
    assert refuses(streaming_ends()[1], body)
