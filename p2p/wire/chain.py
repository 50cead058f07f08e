"""Sequence and signature of one direction of one stream (docs/protocol.md, 2).

Each payload is hashed onto those before it and the hash is signed, so a frame that was changed,
replayed, reordered, dropped or made for another stream, direction or peer never verifies. One
object per direction: the sender holds a `Signer`, the receiver a `Verifier`.
"""

from enum import Enum
from hashlib import sha256

from p2p.wire.identity import SIGNATURE_BYTES, Identity, verify

_SIGNED = b"nexus/draft/1\0"
_HELLO = b"nexus/hello/1\0"
_CHAIN = b"nexus/chain/1\0"


class Direction(Enum):
    """Who sends."""

    NODE = b"N"
    HOST = b"H"


class Signer:
    """Signs what this peer sends in `direction` to the owner of `receiver`."""

    def __init__(self, identity: Identity, direction: Direction, receiver: bytes) -> None:
        self._identity = identity
        self._direction = direction
        self._link = _hello_start(direction, identity.public, receiver)

    def sign(self, payload: bytes) -> bytes:
        """Return the frame's body: signature and payload. They must be sent in this order."""
        self._link = _next(self._link, payload)
        return self._identity.sign(_SIGNED + self._link) + payload

    def restart(self, hello: bytes, welcome: bytes) -> None:
        """Begin the chain anew after the handshake, from its two payloads."""
        self._link = _stream_start(self._direction, hello, welcome)


class Verifier:
    """Checks what the owner of `sender` sends in `direction` to the owner of `receiver`."""

    def __init__(self, direction: Direction, sender: bytes, receiver: bytes) -> None:
        self._direction = direction
        self._sender = sender
        self._link = _hello_start(direction, sender, receiver)

    def verify(self, body: bytes) -> bytes:
        """Return the payload of a frame's body.

        Raises:
            BadSignature: not this peer's next frame on this stream; nothing after it can verify.
        """
        payload = body[SIGNATURE_BYTES:]
        self._link = _next(self._link, payload)
        verify(self._sender, body[:SIGNATURE_BYTES], _SIGNED + self._link)
        return payload

    def restart(self, hello: bytes, welcome: bytes) -> None:
        """Begin the chain anew after the handshake, from its two payloads."""
        self._link = _stream_start(self._direction, hello, welcome)


def _hello_start(direction: Direction, sender: bytes, receiver: bytes) -> bytes:
    return sha256(_HELLO + direction.value + sender + receiver).digest()


def _stream_start(direction: Direction, hello: bytes, welcome: bytes) -> bytes:
    return sha256(_CHAIN + direction.value + hello + welcome).digest()


def _next(link: bytes, payload: bytes) -> bytes:
    return sha256(link + payload).digest()
