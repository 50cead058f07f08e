"""py-libp2p 0.8.1's Kademlia DHT, held to our rules: one namespace, signed records, servers only.

Numbers are those of the traps in `tests/p2p/test_traps.py`, which holds their canaries.
"""

import time
from collections.abc import Sequence

import trio
from libp2p.host.basic_host import BasicHost
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.provider_store import ProviderRecord
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.records.validator import NamespacedValidator, Validator

from p2p.errors import BadRecord
from p2p.network.fixes import KAD_PROTOCOL
from p2p.wire.identity import PeerId
from p2p.wire.record import Signed, newest, open_record, record_key

NAMESPACE = "nh"
_ALL = 1000  # 16: `count` counts the copies that each server returns


class HostRecordValidator(Validator):
    """18: raises nothing but `ValueError`, and chooses among stored values that have expired."""

    def validate(self, key: str, value: bytes) -> None:
        try:
            open_record(value, key, int(time.time()))
        except BadRecord as error:
            raise ValueError(str(error)) from error

    def select(self, key: str, values: list[bytes]) -> int:
        try:
            return newest(values)
        except BadRecord as error:
            raise ValueError(str(error)) from error


class NexusDht(KadDHT):
    """19: the library's puts every peer that asks into its routing table, clients too."""

    async def add_peer(self, peer_id: ID, *, skip_server_mode_check: bool = False) -> bool:
        try:
            spoken = self.host.get_peerstore().get_protocols(peer_id)
        except PeerStoreError:
            return False
        return str(KAD_PROTOCOL) in spoken and await self.routing_table.add_peer(peer_id)


def make_dht(host: BasicHost, is_server: bool) -> NexusDht:
    """Return the DHT end of `host`; a client asks, a server answers and keeps too."""
    validator = NamespacedValidator({NAMESPACE: HostRecordValidator()}, strict_validation=True)
    return NexusDht(
        host,
        DHTMode.SERVER if is_server else DHTMode.CLIENT,
        validator=validator,
        validator_changed=True,
        strict_validation=True,
        max_peers_per_subnet_table=3,
    )


async def store(dht: NexusDht, key: str, value: bytes) -> int:
    """Store `value` here and at the servers nearest to `key`; return how many of those took it.

    `KadDHT.put_value` does the same, but keeps the number to itself. 18: equal bytes are refused.
    """
    raw = key.encode()
    dht.value_store.put(raw, value)
    taken = 0

    async def store_at(peer: ID) -> None:
        nonlocal taken
        taken += await dht.value_store._store_at_peer(peer, raw, value)

    async with trio.open_nursery() as nursery:
        for peer in await dht.peer_routing.find_closest_peers_network(raw):
            if peer != dht.local_peer_id:
                nursery.start_soon(store_at, peer)
    return taken


async def fresh_providers(dht: NexusDht, key: str) -> dict[PeerId, list[str]]:
    """Return who provides `key` now. 17: a local hit would end the lookup, for 48 h."""
    raw = bytes.fromhex(key)
    kept = dht.provider_store.providers.pop(raw, {})
    try:
        found = await dht.find_providers(key, count=_ALL)
    finally:
        if dht.mode == DHTMode.SERVER:  # others rely on what this server was told
            _put_back(dht, raw, kept)
    providers: dict[PeerId, list[str]] = {}
    for info in found:
        peer = _ed25519(info.peer_id)
        if peer is not None and info.peer_id != dht.local_peer_id:
            providers.setdefault(peer, [str(address) for address in info.addrs])
    return providers


async def fresh_record(dht: NexusDht, peer: PeerId) -> Signed | None:
    """Return the valid record of `peer` that servers hold now.

    17: what was fetched once would be returned for 24 h, expired or not.
    """
    key = record_key(peer)
    kept = dht.value_store.store.pop(key.encode(), None)
    try:
        value = await dht.get_value(key)
    finally:
        if kept is not None and dht.mode == DHTMode.SERVER:
            dht.value_store.store.setdefault(key.encode(), kept)
    if value is None:
        return None
    try:
        return Signed(open_record(value, key, int(time.time())), value)
    except BadRecord:
        return None


def _put_back(dht: NexusDht, key: bytes, kept: dict[str, ProviderRecord]) -> None:
    providers = dht.provider_store.providers.setdefault(key, {})
    for name, record in kept.items():
        providers.setdefault(name, record)


def _ed25519(peer: ID) -> PeerId | None:
    """Return our name for a peer; None for one with another kind of key, which is no host."""
    try:
        return PeerId.from_bytes(peer.to_bytes())
    except ValueError:
        return None


def reached_servers(dht: NexusDht) -> Sequence[ID]:
    """Return the servers in the routing table."""
    return [info.peer_id for info in dht.routing_table.get_peer_infos()]
