"""How long a peer that misbehaved has to stay away (docs/protocol.md, 6). Pure.

A standing starts at 100 and regains a point a minute; below 0 the peer is banned. Everything here
is told the time, in monotonic seconds.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum

from p2p.errors import (
    BadLength,
    BadSignature,
    Flood,
    Incompatible,
    MalformedFrame,
    NotInvited,
    OverBudget,
    PeerBusy,
    PeerError,
    SlowPeer,
    UnexpectedFrame,
    UnknownFrame,
)
from p2p.wire.identity import PeerId

START_SCORE = 100.0
SCORE_PER_SECOND = 1 / 60
BAN_SECONDS = 3600.0
FORGED_BACK_OFF_SECONDS = 60.0
FORGED_LIMIT = 3  # within FORGED_WINDOW_SECONDS: a ban
FORGED_WINDOW_SECONDS = 600.0
FORMAT_BACK_OFF_SECONDS = 10.0  # doubling
MAX_BACK_OFF_SECONDS = 600.0
SLOW_BACK_OFF_SECONDS = 30.0
GUESS_POINTS = 10.0
STALE_POINTS = 1.0
BANNED_PEERS_PER_SUBNET = 3
MAX_PEERS = 4096  # remembered; the one least recently at fault is forgotten first


class Offence(Enum):
    """What a peer did, by how it is answered."""

    FORGED = "forged"  # length, signature, chain, foreign key
    FORMAT = "format"  # malformed, unknown or out of state
    GUESS = "guess"  # ids, positions, tokens: the session is closed, the stream goes on
    STALE = "stale"  # a session closed more than 30 s ago
    SLOW = "slow"
    FLOOD = "flood"
    NONE = "none"  # incompatible, not invited, busy, over budget: dropped or refused, no fault


def offence_of(error: PeerError) -> Offence:
    """Return which kind of offence `error` is."""
    match error:
        case BadLength() | BadSignature():
            return Offence.FORGED
        case MalformedFrame() | UnknownFrame() | UnexpectedFrame():
            return Offence.FORMAT
        case Flood():
            return Offence.FLOOD
        case SlowPeer():
            return Offence.SLOW
        case Incompatible() | NotInvited() | PeerBusy() | OverBudget():
            return Offence.NONE
    return Offence.GUESS


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of one peer. `score` holds at time `at`."""

    score: float
    at: float
    forged: tuple[float, ...] = ()
    format_strikes: int = 0
    until: float = 0.0

    def now_score(self, now: float) -> float:
        return min(START_SCORE, self.score + (now - self.at) * SCORE_PER_SECOND)


def judge(standing: Standing, offence: Offence, now: float) -> Standing:
    """Return the standing after `offence` at `now`; `until` never moves back."""
    score = standing.now_score(now)
    forged = tuple(at for at in standing.forged if now - at < FORGED_WINDOW_SECONDS)
    strikes = standing.format_strikes
    stay_away = 0.0
    match offence:
        case Offence.FORGED:
            forged = (*forged, now)
            is_ban = len(forged) >= FORGED_LIMIT
            stay_away = BAN_SECONDS if is_ban else FORGED_BACK_OFF_SECONDS
        case Offence.FORMAT:
            stay_away = min(FORMAT_BACK_OFF_SECONDS * 2**strikes, MAX_BACK_OFF_SECONDS)
            strikes = min(strikes + 1, 16)
        case Offence.FLOOD:
            stay_away = FORGED_BACK_OFF_SECONDS
        case Offence.SLOW:
            stay_away = SLOW_BACK_OFF_SECONDS
        case Offence.GUESS:
            score -= GUESS_POINTS
        case Offence.STALE:
            score -= STALE_POINTS
        case Offence.NONE:
            pass
    if score < 0:
        stay_away = BAN_SECONDS
    until = max(standing.until, now + stay_away) if stay_away else standing.until
    return Standing(score, now, forged, strikes, until)


class Scores:
    """The standings of all peers, and which subnets are shut for what their peers did."""

    def __init__(self, max_peers: int = MAX_PEERS) -> None:
        self._max_peers = max_peers
        self._standings: OrderedDict[PeerId, Standing] = OrderedDict()
        self._banned_in: dict[str, dict[PeerId, float]] = {}

    def offend(
        self, peer: PeerId, offence: Offence, now: float, address: str | None = None
    ) -> float:
        """Count an offence of `peer`; return for how many seconds it has to stay away now."""
        before = self._standings.pop(peer, None) or Standing(START_SCORE, now)
        after = judge(before, offence, now)
        self._standings[peer] = after
        if len(self._standings) > self._max_peers:
            self._standings.popitem(last=False)
        net = subnet(address)
        # Longer than any back-off: a ban. Not compared with its length, as floats may miss it.
        if after.until - now > MAX_BACK_OFF_SECONDS and net is not None:
            self._ban_in(net, peer, now, after.until)
        return max(0.0, after.until - now)

    def stay_away_seconds(self, peer: PeerId, now: float, address: str | None = None) -> float:
        """Return how long `peer`, coming from `address`, is still refused; 0 if it may come."""
        standing = self._standings.get(peer)
        until = standing.until if standing is not None else 0.0
        net = subnet(address)
        if net is not None:
            banned = self._banned_in.get(net, {})
            ends = sorted((end for end in banned.values() if end > now), reverse=True)
            if len(ends) >= BANNED_PEERS_PER_SUBNET:
                until = max(until, ends[BANNED_PEERS_PER_SUBNET - 1])
        return max(0.0, until - now)

    def forgive_format(self, peer: PeerId) -> None:
        """Start the doubling of `FORMAT` back-offs anew, after a minute of good service."""
        standing = self._standings.get(peer)
        if standing is not None:
            self._standings[peer] = replace(standing, format_strikes=0)

    def _ban_in(self, net: str, peer: PeerId, now: float, until: float) -> None:
        for name in [name for name, ends in self._banned_in.items() if max(ends.values()) <= now]:
            del self._banned_in[name]
        ends = self._banned_in.setdefault(net, {})
        if peer in ends or len(ends) < self._max_peers:
            ends[peer] = until


def subnet(address: str | None) -> str | None:
    """Return the /24 (IPv4) or /48 (IPv6) of an IP address; None for this machine's own."""
    return _network(address, 24, 48)


def household(address: str | None) -> str | None:
    """Return what one user has for an address: it (IPv4) or its /64 (IPv6); None as above."""
    return _network(address, 32, 64)


def _network(address: str | None, bits: int, bits_of_six: int) -> str | None:
    if address is None:
        return None
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # as a socket for both kinds shows IPv4
    if ip.is_loopback:
        return None
    return str(ipaddress.ip_network((ip, bits if ip.version == 4 else bits_of_six), strict=False))
