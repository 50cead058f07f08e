"""What listening on every interface means for others: this machine's own addresses."""

import ipaddress
from collections.abc import Iterable, Sequence

import psutil

MAX_TOLD = 8  # as many as a host's record holds (p2p/wire/record.py)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def own_addresses() -> list[str]:
    """Return the IP addresses of all interfaces that are up, now."""
    stats = psutil.net_if_stats()
    return [
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        if name in stats and stats[name].isup
        for address in addresses
    ]


def spell_out(listened: Iterable[str], own: Sequence[str]) -> list[str]:
    """Return the multiaddrs with each that means "every interface" replaced by `own` ones.

    Those the whole world can dial come first. Link-local and loopback ones stand in only where
    there is nothing better. IPv6 ones of one link never do: they mean nothing without its name.
    """
    told: list[str] = []
    for address in listened:
        start, unspecified, rest = _parts(address)
        if unspecified is None:
            told.append(address)
            continue
        own_ips = [ip for ip in map(_ip, own) if ip is not None]
        usable = [ip for ip in own_ips if ip.version == unspecified.version]
        told += [f"/{start}/{ip}/{rest}" for ip in _best(usable)]
    return list(dict.fromkeys(told))[:MAX_TOLD]


def _best(usable: Sequence[_Address]) -> list[_Address]:
    remote = [ip for ip in usable if not ip.is_loopback and not ip.is_link_local]
    linked = [ip for ip in usable if ip.is_link_local and ip.version == 4]
    looped = [ip for ip in usable if ip.is_loopback]
    return sorted(remote or linked or looped, key=lambda ip: not ip.is_global)


def _parts(address: str) -> tuple[str, _Address | None, str]:
    """Return a multiaddr's protocol, unspecified IP address if it has one, and the rest."""
    _, start, text, rest = (*address.split("/", 3), "", "", "")[:4]
    ip = _ip(text)
    return start, ip if ip is not None and ip.is_unspecified else None, rest


def _ip(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None  # a name, or the address of a network card
