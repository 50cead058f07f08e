"""Keys and the names that follow from them. Where a key is kept is for the process that owns it.

A peer's id is libp2p's: the identity multihash of its Ed25519 public key in protobuf, base58btc in
text.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2p.errors import BadSignature

SEED_BYTES = 32
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
# Multihash `identity`, 36 bytes | protobuf: key type 1 = Ed25519, key of 32 bytes.
_PREFIX = bytes.fromhex("002408011220")
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {letter: value for value, letter in enumerate(_ALPHABET)}
_TEXT_LENGTH = 52  # every Ed25519 id starts with "12D3KooW" and has this length


@dataclass(frozen=True, slots=True)
class PeerId:
    """A peer, by its Ed25519 public key of 32 bytes. `str()` gives the text form, `12D3KooW…`."""

    public: bytes

    def __post_init__(self) -> None:
        if len(self.public) != PUBLIC_BYTES:
            raise ValueError(f"a public key of {len(self.public)} bytes; expected {PUBLIC_BYTES}")

    def __bytes__(self) -> bytes:
        return _PREFIX + self.public

    def __str__(self) -> str:
        return base58(bytes(self))

    @property
    def short(self) -> str:
        """The last eight letters, for logs and tables: all ids begin alike."""
        return str(self)[-8:]

    @classmethod
    def from_bytes(cls, raw: bytes) -> "PeerId":
        """Return the peer of libp2p's 38 binary bytes; `ValueError` for any other kind of key."""
        if len(raw) != len(_PREFIX) + PUBLIC_BYTES or not raw.startswith(_PREFIX):
            raise ValueError(f"{len(raw)} bytes are not the peer id of an Ed25519 key")
        return cls(raw[len(_PREFIX) :])

    @classmethod
    def parse(cls, text: str) -> "PeerId":
        """Return the peer named `text`; `ValueError` says what a peer id looks like."""
        if len(text) != _TEXT_LENGTH:
            raise ValueError(
                f"a peer id has {_TEXT_LENGTH} letters and starts with 12D3KooW, found {len(text)}"
            )
        return cls.from_bytes(unbase58(text))


class Identity:
    """A key pair from its 32-byte seed, and what it signs."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed of {len(seed)} bytes; expected {SEED_BYTES}")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.peer = PeerId(self._private.public_key().public_bytes_raw())

    @property
    def public(self) -> bytes:
        return self.peer.public

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; `message` starts with the domain of its use."""
        return self._private.sign(message)


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Raise `BadSignature` unless the owner of `public` signed exactly `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"peer {PeerId(public).short} did not sign these bytes") from error


def base58(raw: bytes) -> str:
    """Return `raw` in the Bitcoin alphabet: a leading zero byte is a leading 1."""
    number = int.from_bytes(raw, "big")
    letters = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


def unbase58(text: str) -> bytes:
    """Undo `base58`. `ValueError` names the first letter that is none of its 58."""
    number = 0
    for place, letter in enumerate(text):
        if letter not in _DIGITS:
            raise ValueError(f"letter {place + 1} of a base58 text is {letter!r}")
        number = number * 58 + _DIGITS[letter]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
