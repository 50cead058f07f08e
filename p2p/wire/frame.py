"""The one frame of the house: u32 big-endian length, then that many bytes.

Peer stream, worker pipe and control socket all carry it. What is inside a frame is for
`messages.py` (peers) or the two ends of a pipe to say.
"""

from p2p.errors import BadLength

MAX_PEER_BYTES = 65_536  # docs/protocol.md, 1.3: signature and payload
MIN_PEER_BYTES = 65  # a 64-byte signature and at least one byte
MAX_LOCAL_BYTES = 1 << 20  # pipes and control socket


def frame(body: bytes, max_bytes: int = MAX_LOCAL_BYTES) -> bytes:
    """Return `body` with its length in front. `ValueError` past `max_bytes`: the caller's bug."""
    if not 1 <= len(body) <= max_bytes:
        raise ValueError(f"a frame of {len(body)} bytes; 1 to {max_bytes} are possible")
    return len(body).to_bytes(4, "big") + body


class FrameDecoder:
    """Cuts a byte stream, in whatever pieces it comes, into frame bodies."""

    def __init__(self, max_bytes: int = MAX_LOCAL_BYTES, min_bytes: int = 1) -> None:
        self._max_bytes = max_bytes
        self._min_bytes = min_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that `data` completes, oldest first.

        Raises:
            BadLength: outside the bounds; the stream is lost, as no later frame can be found.
        """
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= 4:
            length = int.from_bytes(self._buffer[start : start + 4], "big")
            if not self._min_bytes <= length <= self._max_bytes:
                raise BadLength(
                    f"a frame says {length} bytes; {self._min_bytes} to {self._max_bytes} may be"
                )
            if len(self._buffer) - start - 4 < length:
                break
            bodies.append(bytes(self._buffer[start + 4 : start + 4 + length]))
            start += 4 + length
        del self._buffer[:start]
        return bodies

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)
