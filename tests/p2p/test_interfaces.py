"""What is told of a peer that listens on every interface."""

import ipaddress

import pytest
import trio

from p2p.network.interfaces import MAX_TOLD, own_addresses, spell_out
from p2p.network.peer import Libp2pTransport

MANY = [f"192.0.2.{number}" for number in range(1, MAX_TOLD + 2)]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (["127.0.0.1", "192.168.0.9"], ["192.168.0.9"]),
        (["192.168.0.9", "8.8.8.8"], ["8.8.8.8", "192.168.0.9"]),
        (["127.0.0.1", "169.254.3.4", "10.0.0.2"], ["10.0.0.2"]),
        (["127.0.0.1", "169.254.3.4"], ["169.254.3.4"]),
        (["127.0.0.1"], ["127.0.0.1"]),
        (["10.0.0.2", "10.0.0.2"], ["10.0.0.2"]),
        (["02:fc:00:00:00:01", "fd00::2", "10.0.0.2"], ["10.0.0.2"]),
        ([], []),
        (MANY[:-1], MANY[:-1]),
        (MANY, MANY[:-1]),
    ],
)
def test_every_interface_is_spelt_out_best_first(own: list[str], told: list[str]) -> None:
    assert spell_out(["/ip4/0.0.0.0/tcp/4001"], own) == [f"/ip4/{ip}/tcp/4001" for ip in told]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (["10.0.0.2", "::1", "fe80::fc:1%eth0", "fd00::2"], ["fd00::2"]),
        (["10.0.0.2", "::1", "fe80::fc:1%eth0"], ["::1"]),
        (["10.0.0.2", "fe80::fc:1%eth0"], []),
    ],
)
def test_an_ipv6_address_of_one_link_is_told_to_nobody(own: list[str], told: list[str]) -> None:
    assert spell_out(["/ip6/::/tcp/4001"], own) == [f"/ip6/{ip}/tcp/4001" for ip in told]


@pytest.mark.parametrize(
    "address", ["/ip4/127.0.0.1/tcp/1", "/dns4/example.org/tcp/1", "/memory/x", "/x", "", "x"]
)
def test_what_names_an_address_stays_as_it_is(address: str) -> None:
    assert spell_out([address], ["10.0.0.2"]) == [address]


@pytest.mark.slow
async def test_a_peer_that_listens_everywhere_tells_addresses_that_can_be_dialled() -> None:
    host = Libp2pTransport(b"h" * 32, listen=["/ip4/0.0.0.0/tcp/0"])
    node = Libp2pTransport(b"n" * 32)
    host.serve(lambda _: trio.sleep_forever())
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        await nursery.start(node.run)

        told = host.addresses()
        link = await node.dial(host.me, told, 5)

        assert {address.split("/")[2] for address in told} <= set(own_addresses())
        assert not any(ipaddress.ip_address(one.split("/")[2]).is_unspecified for one in told)
        assert link.peer == host.me
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_what_is_announced_is_told_alone() -> None:
    announced = "/ip4/192.0.2.7/tcp/4001"
    host = Libp2pTransport(b"h" * 32, listen=["/ip4/0.0.0.0/tcp/0"], announce=[announced])
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)

        assert host.addresses() == [announced]
        nursery.cancel_scope.cancel()
