"""p2p/wire/identity.py: keys, signatures and names of peers (docs/protocol.md, 1.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import BadSignature
from p2p.wire.identity import Identity, PeerId, base58, unbase58, verify

NODE = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"
publics = st.binary(min_size=32, max_size=32)


def test_a_seed_gives_the_key_and_id_of_the_document() -> None:
    identity = Identity(b"\1" * 32)

    assert identity.public.hex().startswith("8a88e3dd7409f195")
    assert str(identity.peer) == NODE
    assert identity.peer.short == "yKSUKPH5"


def test_a_key_follows_rfc_8032() -> None:
    """Test 2 of section 7.1."""
    seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
    identity = Identity(bytes.fromhex(seed))

    assert identity.public.hex() == (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    )
    assert identity.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540")


@given(publics)
def test_a_peer_is_found_again_from_its_text_and_its_bytes(public: bytes) -> None:
    peer = PeerId(public)

    assert PeerId.parse(str(peer)) == PeerId.from_bytes(bytes(peer)) == peer
    assert len(str(peer)) == 52
    assert str(peer).startswith("12D3KooW")
    assert str(peer).endswith(peer.short)
    assert bytes(peer) == bytes.fromhex("002408011220") + public


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "52 letters and starts with 12D3KooW, found 0"),
        (NODE[:-1], "found 51"),
        (NODE + "1", "found 53"),
        ("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPRQ1", "found 46"),
        ("0" + NODE[1:], "letter 1 of a base58 text is '0'"),
        (NODE[:20] + "é" + NODE[21:], "letter 21"),
        ("2" + NODE[1:], "are not the peer id of an Ed25519 key"),
        ("1" * 52, "52 bytes are not the peer id"),
        (NODE[:2] + "E" + NODE[3:], "are not the peer id"),
    ],
)
def test_a_text_that_is_no_peer_id_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PeerId.parse(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_and_seeds_have_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"public key of {size} bytes; expected 32"):
        PeerId(bytes(size))
    with pytest.raises(ValueError, match=f"seed of {size} bytes; expected 32"):
        Identity(bytes(size))
    with pytest.raises(ValueError, match="not the peer id"):
        PeerId.from_bytes(bytes.fromhex("002408011220") + bytes(size))


def test_the_id_of_another_kind_of_key_is_refused() -> None:
    secp256k1 = bytes.fromhex("002408021220") + bytes(32)
    with pytest.raises(ValueError, match="38 bytes are not the peer id of an Ed25519 key"):
        PeerId.from_bytes(secp256k1)


@given(st.binary(max_size=64))
def test_a_signature_holds_for_its_signer_and_message_only(message: bytes) -> None:
    signer, other = Identity(b"\1" * 32), Identity(b"\2" * 32)
    signature = signer.sign(message)

    assert len(signature) == 64
    verify(signer.public, signature, message)
    for public, changed, said in [
        (other.public, signature, message),
        (signer.public, bytes(64), message),
        (signer.public, signature[:-1], message),
        (signer.public, b"", message),
        (signer.public, signature, message + b"\0"),
    ]:
        with pytest.raises(BadSignature, match="did not sign these bytes"):
            verify(public, changed, said)


def test_a_key_that_is_no_point_verifies_nothing() -> None:
    with pytest.raises(BadSignature):
        verify(b"\xff" * 32, bytes(64), b"")


@given(st.binary(max_size=50))
def test_base58_is_undone(raw: bytes) -> None:
    assert unbase58(base58(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"\0\0", "11"),
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
    ],
)
def test_base58_is_that_of_its_draft_standard(raw: bytes, text: str) -> None:
    assert base58(raw) == text


@pytest.mark.parametrize("letter", "0OIl -é")
def test_letters_that_look_alike_are_not_of_base58(letter: str) -> None:
    with pytest.raises(ValueError, match="letter 2 of"):
        unbase58("1" + letter)


def test_a_private_key_is_not_shown() -> None:
    identity = Identity(b"s" * 32)

    assert "s" * 8 not in repr(identity) + str(vars(identity))
    assert (b"s" * 32).hex() not in repr(identity) + str(vars(identity))
