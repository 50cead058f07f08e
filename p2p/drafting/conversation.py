"""What both ends of a stream share: frames in and out, heartbeat, flood control, counted refusals.

Bytes and `now` (monotonic seconds) go in, messages and bytes come out. What the messages mean is
for `node_end.py` and `host_end.py`; limits are those of docs/protocol.md, 6.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from p2p.errors import (
    BadLength,
    BadSignature,
    Flood,
    PeerError,
    PeerGone,
    SlowPeer,
    UnexpectedFrame,
    answer,
)
from p2p.wire.chain import Direction, Signer, Verifier
from p2p.wire.frame import MAX_PEER_BYTES, MIN_PEER_BYTES, FrameDecoder, frame
from p2p.wire.identity import Identity
from p2p.wire.messages import MAX_BLOCKS, PEER_CODEC, Bye, Error, Ping, Pong

T = TypeVar("T")

HANDSHAKE_SECONDS = 5.0
HEARTBEAT_SECONDS = 5.0  # between two PINGs
BEATS_TO_SILENCE = 3  # nothing received for so many heartbeats: gone
FRAMES_PER_SECOND = 200
FRAMES_BURST = 400
FLOOD_SECONDS = 2.0
PAUSE_SECONDS = 0.1
SAID_PER_SECOND = 180  # our own frames stay below what a peer takes; what waits is coalesced
SAID_BURST = 200
STALE_SECONDS = 30.0  # frames may cross a CLOSE for so long
MAX_PENDING_BYTES = 1 << 20
TEXT_BYTES = 128

# Off a peer's score (docs/protocol.md, 6.2 and 6.3): an offence against a session, a frame for one
# that never was.
SESSION_OFFENCE = 10
STRAY_OFFENCE = 1


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer refuses something: the stream's handshake, or with `error.sid` one session."""

    error: Error


@dataclass(frozen=True, slots=True)
class Parted:
    """The peer says goodbye: no new sessions, and the owner resets the stream."""

    bye: Bye


@dataclass(frozen=True, slots=True)
class Offended:
    """The peer broke a rule of one session, which is over; `weight` is what it costs its score."""

    sid: int
    error: PeerError
    weight: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One round trip by PING and PONG, the time in the peer's queue included."""

    rtt_seconds: float


class Conversation:
    """One stream as both ends see it, from the peers' keys on. Not usable after `failed` is set."""

    def __init__(self, identity: Identity, direction: Direction, peer: bytes, now: float) -> None:
        other = Direction.HOST if direction is Direction.NODE else Direction.NODE
        self._signer = Signer(identity, direction, peer)
        self._verifier = Verifier(other, peer, identity.public)
        self._decoder = FrameDecoder(MAX_PEER_BYTES, MIN_PEER_BYTES)
        self._awaited = "HELLO" if direction is Direction.HOST else "WELCOME"
        self._sealed = bytearray()
        self._closed: dict[int, float] = {}  # sid -> when, oldest first
        self._allowance = float(FRAMES_BURST)
        self._over_since: float | None = None
        self._credit = float(SAID_BURST)
        self._credited_at = now
        self._heartbeat = HEARTBEAT_SECONDS
        self._started = self._heard_at = self._counted_at = now
        self._ping_at = float("inf")
        self._ping_due = False
        self._ping_count = 0
        self._pings: dict[int, float] = {}  # n -> when sent; the last few
        self._pong: Pong | None = None
        self.clock = now  # the latest `now` told
        self.is_open = False  # both chains run from HELLO and WELCOME
        self.failed: PeerError | None = None
        self.rtt_seconds: float | None = None
        self.counters: Counter[str] = Counter()

    def hear(self, data: bytes, now: float) -> Iterator[tuple[Any, bytes]]:
        """Yield each message that `data` completes, with its payload; round trips as `Measured`.

        The caller handles one before it takes the next, as WELCOME changes how that is verified,
        and passes a `PeerError` to `fail`.
        """
        if self.failed is not None:
            return
        self.clock = self._heard_at = now
        for body in self._decoder.feed(data):
            self._count_frame(now)
            payload = self._verifier.verify(body)
            message = PEER_CODEC.unpack(payload)
            if self.is_open and isinstance(message, Ping):
                self._pong = Pong(message.n, message.micros)
            elif self.is_open and isinstance(message, Pong):
                sent_at = self._pings.pop(message.n, None)
                if sent_at is None:
                    self.counters["stale"] += 1
                else:
                    self.rtt_seconds = now - sent_at
                    yield Measured(self.rtt_seconds), payload
            else:
                yield message, payload

    def say(self, *messages: object) -> bytes:
        """Sign each message as the next frame of this direction; return the last one's payload."""
        payload = b""
        for message in messages:
            self._credit -= 1
            payload = PEER_CODEC.pack(message)
            self._sealed += frame(self._signer.sign(payload), MAX_PEER_BYTES)
        return payload

    def restart(self, hello: bytes, welcome: bytes, heartbeat_seconds: float) -> None:
        """Begin both chains anew from the handshake's payloads, and the heartbeat, 1 to 5 s."""
        self._signer.restart(hello, welcome)
        self._verifier.restart(hello, welcome)
        self._heartbeat = min(max(1.0, heartbeat_seconds), HEARTBEAT_SECONDS)
        self._ping_at = self.clock  # at once: the first round trip is worth knowing early
        self.is_open = True

    def beat(self, now: float) -> None:
        """Say the PONG that is owed and the PING that is due."""
        if self._pong is not None:
            self.say(self._pong)
            self._pong = None
        if self._ping_due or now >= self._ping_at:
            self._ping_due = False
            self._ping_at = now + self._heartbeat
            self._ping_count += 1
            self._pings[self._ping_count] = now
            self._pings.pop(self._ping_count - 4, None)
            self.say(Ping(self._ping_count, int(now * 1e6)))

    def say_list(
        self, kind: Callable[[tuple[T, ...]], object], items: Sequence[T], most: int = MAX_BLOCKS
    ) -> None:
        """Say `items` in frames of up to `most`."""
        for start in range(0, len(items), most):
            self.say(kind(tuple(items[start : start + most])))

    def may_say(self, now: float) -> bool:
        """Say whether the heartbeat and what waits may be said: behind the handshake, at our rate.

        Over it, `due` says when: the peer would count more frames as a flood.
        """
        self.clock = now
        earned = (now - self._credited_at) * SAID_PER_SECOND
        self._credit = min(float(SAID_BURST), self._credit + earned)
        self._credited_at = now
        return self.is_open and self.failed is None and self._credit >= 0

    def take(self) -> bytes:
        """Return everything said since the last time."""
        sealed = bytes(self._sealed)
        self._sealed.clear()
        return sealed

    def fail(
        self, error: PeerError, count: int = 0, retry_after: int = 0, more: tuple[object, ...] = ()
    ) -> None:
        """Count the first error that ends the stream and tell the peer why, then `more`.

        Nothing is told where the peer could not verify or find a frame of ours in turn.
        """
        if self.failed is not None:
            return
        self.failed = error
        self.counters[error.code] += 1
        if not isinstance(error, BadLength | BadSignature | SlowPeer):
            self.say(refusal(error, 0, count, retry_after), *more)

    def check_pending(self, pending_bytes: int) -> None:
        """Give the peer up (at the next `tick`) when it does not take what waits for it."""
        if pending_bytes > MAX_PENDING_BYTES:
            self.fail(SlowPeer(f"{pending_bytes} bytes wait for a peer that does not take them"))

    def retire(self, sid: int) -> None:
        """Remember a closed session, as frames of the peer may still cross the CLOSE."""
        self._closed[sid] = self.clock
        while self._closed[oldest := next(iter(self._closed))] <= self.clock - STALE_SECONDS:
            del self._closed[oldest]

    def stray(self, sid: int) -> list[Offended]:
        """Count a frame for a session that is not open; an offence unless it closed just now."""
        self.counters["stale"] += 1
        if self._closed.get(sid, float("-inf")) > self.clock - STALE_SECONDS:
            return []
        error = UnexpectedFrame(f"session {sid} is not open")
        return [Offended(sid, error, STRAY_OFFENCE)]

    def pause(self, now: float) -> float:
        """Seconds the reader waits before it reads on: 0 unless the peer sends too many frames."""
        return PAUSE_SECONDS if self._allowed(now) < 0 else 0.0

    def due(self) -> float:
        """Return when `tick` is to be called at the latest."""
        if isinstance(self.failed, SlowPeer):
            return self.clock
        if self.failed is not None:
            return float("inf")
        if not self.is_open:
            return self._started + HANDSHAKE_SECONDS
        silent_at = self._heard_at + BEATS_TO_SILENCE * self._heartbeat
        credit_at = self._credited_at - self._credit / SAID_PER_SECOND
        return min(self._ping_at, silent_at, credit_at if credit_at > self.clock else silent_at)

    def tick(self, now: float) -> None:
        """Let time pass; then what has become ready is in `outgoing`.

        Raises:
            PeerGone: the handshake took too long, or the peer is silent.
            SlowPeer: the peer does not take what waits for it.
        """
        self.clock = now
        if isinstance(self.failed, SlowPeer):
            raise self.failed
        if self.failed is not None:
            return
        if not self.is_open:
            if now >= self._started + HANDSHAKE_SECONDS:
                raise PeerGone(f"no {self._awaited} within {HANDSHAKE_SECONDS:g} s")
            return
        silence = BEATS_TO_SILENCE * self._heartbeat
        if now >= self._heard_at + silence:
            raise PeerGone(f"nothing heard for {silence:g} s")
        if now >= self._ping_at:
            # Set forward here too, so that a writer that is busy does not make the timer spin.
            self._ping_due = True
            self._ping_at = now + self._heartbeat

    def _allowed(self, now: float) -> float:
        """Frames of the token bucket at `now`; below 0 the peer is over its rate."""
        return min(
            float(FRAMES_BURST), self._allowance + (now - self._counted_at) * FRAMES_PER_SECOND
        )

    def _count_frame(self, now: float) -> None:
        allowed = self._allowed(now)
        # At most one second of debt: an honest burst after a stall is forgiven within the two.
        self._allowance = max(allowed - 1, -float(FRAMES_PER_SECOND))
        self._counted_at = now
        if self._allowance >= 0:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now
        elif now - self._over_since > FLOOD_SECONDS:
            raise Flood(f"more than {FRAMES_PER_SECOND} frames/s for {FLOOD_SECONDS:g} s")


def refusal(error: PeerError, sid: int, count: int = 0, retry_after: int = 0) -> Error:
    """Return the ERROR frame that tells a peer of `error`; its text is cut to the wire's bound."""
    text = str(error).encode()[:TEXT_BYTES].decode(errors="ignore")
    return Error(answer(error).wire, sid, count, retry_after, text)
