"""The `Directory` over the DHT: how this peer joins its servers, publishes and looks up.

A DHT is slow and lossy (`tests/p2p/test_traps.py`, 14-21): every call here has a deadline and
runs in the caller's own task, never on the way of a request.
"""

import random
from collections.abc import Sequence

import trio
from libp2p.host.basic_host import BasicHost
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from p2p.errors import ConfigError
from p2p.network import fixes, kad
from p2p.wire.identity import PeerId
from p2p.wire.record import Signed, record_key

PUBLISH_SECONDS = 20.0
CONNECT_SECONDS = 5.0
JOIN_SECONDS = 10.0
LOOK_SECONDS = 1.0  # how often a lost bootstrap peer is noticed
EAGER_SECONDS = 60.0  # of a bootstrap peer's absence: retried every EAGER_RETRY_SECONDS
EAGER_RETRY_SECONDS = 1.0
RETRY_SECONDS = 15.0
KEYS_AT_ONCE = 8  # 21: a server takes 10 ADD_PROVIDER per peer and 10 s
KEYS_PAUSE_SECONDS = 11.0


def parse_bootstrap(address: str) -> tuple[PeerId, str]:
    """Return peer and multiaddr of `/ip4/…/tcp/…/p2p/ID`. `ConfigError` says what is missing."""
    plain, found, name = address.partition("/p2p/")
    try:
        if not found:
            raise ValueError("it does not end in /p2p/ and a peer id")
        peer = PeerId.parse(name)
        Multiaddr(plain).value_for_protocol("tcp")
    except fixes.LIBRARY_ERRORS as error:
        raise ConfigError(
            f"bootstrap address {address!r}: {error}; expected /ip4/1.2.3.4/tcp/4001/p2p/12D3KooW…"
        ) from error
    return peer, plain


class KadDirectory:
    """The directory as one libp2p host sees it; a `Directory`."""

    def __init__(self, host: BasicHost, dht: kad.NexusDht, me: PeerId) -> None:
        self._host = host
        self._dht = dht
        self._me = me
        self._changed = trio.Event()

    @property
    def servers(self) -> int:
        return self._dht.get_routing_table_size()

    async def changed(self) -> None:
        await self._changed.wait()

    async def publish(self, record: bytes, keys: Sequence[str]) -> int:
        with trio.move_on_after(PUBLISH_SECONDS):
            taken = await kad.store(self._dht, record_key(self._me), record)
            if taken:
                await self._provide(keys)
            return taken
        return 0

    async def find(self, key: str, timeout: float) -> list[tuple[PeerId, list[str]]]:
        with trio.move_on_after(timeout):
            return list((await kad.fresh_providers(self._dht, key)).items())
        return []

    async def record(self, peer: PeerId, timeout: float) -> Signed | None:
        with trio.move_on_after(timeout):
            return await kad.fresh_record(self._dht, peer)
        return None

    async def stay_joined(self, bootstrap: Sequence[tuple[PeerId, str]]) -> None:
        """Hold a connection to each bootstrap peer, for ever; one may come up late, or again."""
        async with trio.open_nursery() as nursery:
            for peer, address in bootstrap:
                if peer != self._me:
                    nursery.start_soon(self._keep_reaching, peer, address)

    async def _provide(self, keys: Sequence[str]) -> None:
        for number, key in enumerate(keys):
            if number and number % KEYS_AT_ONCE == 0:
                await trio.sleep(KEYS_PAUSE_SECONDS)
            await self._dht.provide(key)

    async def _keep_reaching(self, peer: PeerId, address: str) -> None:
        absent_since = trio.current_time()
        while True:
            if fixes.is_connected(self._host, peer):
                absent_since = trio.current_time()
                await trio.sleep(LOOK_SECONDS)
            elif not await self._join(peer, address):
                is_eager = trio.current_time() - absent_since < EAGER_SECONDS
                pause = EAGER_RETRY_SECONDS if is_eager else RETRY_SECONDS
                await trio.sleep(pause * random.uniform(0.7, 1.0))

    async def _join(self, peer: PeerId, address: str) -> bool:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                await fixes.connect(self._host, peer, address)
        except fixes.LIBRARY_ERRORS:
            return False
        info = PeerInfo(fixes.library_id(peer), [Multiaddr(address)])
        await self._dht.routing_table.add_peer(info)
        self._changed.set()
        self._changed = trio.Event()
        with trio.move_on_after(JOIN_SECONDS):
            await self._dht.refresh_routing_table()
        return True
