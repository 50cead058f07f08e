"""How hosts make themselves found and nodes find them, over any `Directory`: docs/protocol.md, 9.

A host publishes its signed record and names itself under keys that follow from its targets and
tokenizers; a node looks under those of its drafts. Both loops run for ever, in tasks of their own.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import trio

from p2p.network.transport import Directory
from p2p.wire.identity import Identity, PeerId
from p2p.wire.messages import NOISE_SPEC
from p2p.wire.messages import VERSION as PROTOCOL_VERSION
from p2p.wire.record import (
    LIFE_SECONDS,
    SHARDS,
    VERSION,
    HostRecord,
    Service,
    advertisable,
    next_seq,
    provider_key,
    shard_of,
    sign_record,
)

PUBLISH_SECONDS = 300.0
PUBLISH_RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # nobody took the record: again after
FIRST_PAUSES_SECONDS = (0.5, 1.0)  # all start at once: the host may be up a moment later
EAGER_SECONDS = 60.0  # without a host, then every EAGER_PAUSE_SECONDS
EAGER_PAUSE_SECONDS = 2.0
SMALL_NETWORK = 8  # servers; a look costs a few streams to each of them
SMALL_PAUSE_SECONDS = 4.0  # without a host, in a small network
PAUSE_SECONDS = 15.0  # without a host, in a large one
CONTENT_PAUSE_SECONDS = 120.0  # with a host
JITTER = 0.2
NOTICE_SECONDS = 0.5  # in which the loss of the last host is noticed
FIND_SECONDS = 10.0  # for the providers of one key
RECORD_SECONDS = 10.0
LOOKUPS_AT_ONCE = 4  # a server resets what is over 12 streams at once, of all who ask
MAX_HOSTS = 64  # looked at in one round: who floods the provider keys may not flood us


@dataclass(frozen=True, slots=True)
class Found:
    """A host with a record valid now. Its addresses are those that it signed."""

    peer: PeerId
    addresses: tuple[str, ...]
    record: HostRecord
    value: bytes  # the record as it signed it


@dataclass(frozen=True, slots=True)
class Description:
    """What a host says of itself in its next record."""

    addresses: tuple[str, ...]
    services: tuple[Service, ...]


async def publish(
    directory: Directory,
    identity: Identity,
    describe: Callable[[], Description],
    *,
    unix: Callable[[], float] = time.time,
    published: Callable[[int], None] = lambda servers: None,
) -> NoReturn:
    """Keep this host's record in the directory, for ever.

    Args:
        describe: asked before each publication, so that demand and addresses are of now.
        published: told how many servers took each record.
    """
    seq, failures = 0, 0
    while True:
        now = unix()
        seq = next_seq(seq, int(now * 1000))
        about = describe()
        record = sign_record(_record(identity, about, seq, int(now)), identity)
        servers = await directory.publish(record, provider_keys(identity.peer, about.services))
        published(servers)
        failures = 0 if servers else failures + 1
        pause = PUBLISH_SECONDS if servers else _retry_seconds(failures)
        with trio.move_on_after(pause * random.uniform(1 - JITTER, 1.0)):
            await directory.changed()


async def discover(
    directory: Directory,
    tok_fps: Sequence[bytes],
    report: Callable[[Found], Awaitable[None] | None],
    *,
    has_host: Callable[[], bool] = lambda: False,
) -> NoReturn:
    """Look for hosts that serve a tokenizer of `tok_fps`, for ever; report what each look finds.

    A host that is still there is reported by every look, with its newest record: what to do about
    that is for `report`.

    Args:
        has_host: whether there is a host to work for now; without one looks are more frequent, and
            at once after it was lost.
    """
    without_since = trio.current_time()
    looks = 0
    while True:
        if has_host():
            without_since, looks = trio.current_time(), 0
        for found in await look(directory, tok_fps):
            answer = report(found)
            if answer is not None:
                await answer
        looks += 1
        absent_seconds = None if has_host() else trio.current_time() - without_since
        pause = pause_seconds(looks, absent_seconds, directory.servers)
        await _wait(directory, pause * random.uniform(1 - JITTER, 1 + JITTER), has_host)


def pause_seconds(looks: int, absent_seconds: float | None, servers: int) -> float:
    """Return how long to wait before the next look.

    Args:
        looks: done since the last host was lost.
        absent_seconds: since the last host was lost, or the start; None if there is one.
        servers: of the directory, that this end knows.
    """
    if absent_seconds is None:
        return CONTENT_PAUSE_SECONDS
    if looks <= len(FIRST_PAUSES_SECONDS):
        return FIRST_PAUSES_SECONDS[looks - 1]
    if absent_seconds < EAGER_SECONDS:
        return EAGER_PAUSE_SECONDS
    return SMALL_PAUSE_SECONDS if servers <= SMALL_NETWORK else PAUSE_SECONDS


async def look(directory: Directory, tok_fps: Sequence[bytes]) -> list[Found]:
    """Return the hosts that serve one of `tok_fps` and whose records are valid now."""
    limit = trio.CapacityLimiter(LOOKUPS_AT_ONCE)
    peers: dict[PeerId, None] = {}
    hosts: list[Found] = []

    async def find(key: str) -> None:
        async with limit:
            for peer, _ in await directory.find(key, FIND_SECONDS):
                peers.setdefault(peer)

    async def read(peer: PeerId) -> None:
        async with limit:
            signed = await directory.record(peer, RECORD_SECONDS)
        if signed is not None and any(one.tok_fp in tok_fps for one in signed.record.serves):
            hosts.append(Found(peer, signed.record.addrs, signed.record, signed.value))

    async with trio.open_nursery() as nursery:
        for fingerprint in tok_fps:
            for shard in range(SHARDS):
                nursery.start_soon(find, provider_key(fingerprint, shard))
    async with trio.open_nursery() as nursery:
        for peer in list(peers)[:MAX_HOSTS]:
            nursery.start_soon(read, peer)
    return hosts


def provider_keys(peer: PeerId, services: Sequence[Service]) -> list[str]:
    """Return the keys under which a host names itself: in its shard, each fingerprint once."""
    fingerprints = dict.fromkeys(
        fingerprint for service in services for fingerprint in (service.tok_fp, service.model_fp)
    )
    return [provider_key(fingerprint, shard_of(peer)) for fingerprint in fingerprints]


def _record(identity: Identity, about: Description, seq: int, now: int) -> HostRecord:
    return HostRecord(
        v=VERSION,
        pub=identity.public,
        seq=seq,
        iat=now,
        exp=now + LIFE_SECONDS,
        addrs=advertisable(about.addresses),
        protos=(PROTOCOL_VERSION,),
        noise_specs=(NOISE_SPEC,),
        serves=about.services,
        relays=(),
    )


def _retry_seconds(failures: int) -> float:
    return PUBLISH_RETRY_SECONDS[min(failures, len(PUBLISH_RETRY_SECONDS)) - 1]


async def _wait(directory: Directory, seconds: float, has_host: Callable[[], bool]) -> None:
    """Wait for `seconds`, less if a server of the directory is reached or the last host is lost."""
    until = trio.current_time() + seconds
    had_host = has_host()
    while trio.current_time() < until and (has_host() or not had_host):
        slice_seconds = NOTICE_SECONDS if had_host else seconds
        with trio.move_on_at(min(until, trio.current_time() + slice_seconds)) as scope:
            await directory.changed()
        if not scope.cancelled_caught:
            return
