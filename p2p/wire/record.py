"""The record by which a host is found: signed, sequenced, expiring (docs/protocol.md, 9).

It is the value of `/nh/…` in the DHT and travels in `Welcome.others`. Its body is the one map of
the protocol, so that later versions can add fields: unknown ones are ignored, and kept, as a record
is only ever passed on as the bytes its host signed.
"""

import ipaddress
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from hashlib import sha256
from typing import Annotated, Any

import msgpack

from p2p.errors import BadRecord, BadSignature, MalformedFrame
from p2p.wire.identity import Identity, PeerId, verify
from p2p.wire.schema import U8, U16, U64, Digest, Size, dump, load, packb, unpackb

VERSION = 1
MAX_RECORD_BYTES = 4096  # of the whole value, as Welcome.others carries it
LIFE_SECONDS = 900  # chosen: three publications of 300 s may fail
MAX_LIFE_SECONDS = 3600
SKEW_SECONDS = 120
SHARDS = 4  # a libp2p server keeps 20 providers of a key
_SIGNED = b"nexus/host-record/1\0"
_WANT = b"nexus/want/1\0"
_MAX_FIELDS = 32

Address = Annotated[str, Size(1, 128)]  # a multiaddr


class Policy(IntEnum):
    """Whose drafts a host takes."""

    OPEN = 0
    INVITED = 1


@dataclass(frozen=True, slots=True)
class Service:
    """One target a host serves; `demand` is how many rows of drafts it could use now."""

    tok_fp: Digest
    model_fp: Digest
    name: Annotated[str, Size(0, 64)]
    policy: Policy
    demand: U16


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What a host says of itself. `iat` (issued) and `exp` (expires) are unix seconds."""

    v: U8
    pub: Digest
    seq: U64
    iat: U64
    exp: U64
    addrs: Annotated[tuple[Address, ...], Size(0, 8)]
    protos: Annotated[tuple[U8, ...], Size(1, 4)]
    noise_specs: Annotated[tuple[U8, ...], Size(1, 4)]
    serves: Annotated[tuple[Service, ...], Size(0, 16)]
    relays: Annotated[tuple[Address, ...], Size(0, 4)]

    @property
    def peer(self) -> PeerId:
        return PeerId(self.pub)


@dataclass(frozen=True, slots=True)
class Signed:
    """A record that was read, and its value: the bytes by which it is passed on and kept."""

    record: HostRecord
    value: bytes


def sign_record(record: HostRecord, identity: Identity) -> bytes:
    """Return the record's value. `BadRecord` if it breaks its own bounds or is not `identity`'s."""
    body = packb(dict(zip(_names(), dump(record), strict=True)))
    value = packb([body, identity.sign(_SIGNED + body)])
    read_record(value)
    return value


def read_record(value: bytes) -> HostRecord:
    """Return the record in `value` if its bounds and signature hold, however old it is.

    Raises:
        BadRecord: it says which bound does not hold, or that the signature does not.
    """
    body, signature = _envelope(value)
    record = _fields(body)
    if record.v != VERSION:
        raise BadRecord(f"a record of version {record.v}; this program reads version {VERSION}")
    if not record.iat < record.exp <= record.iat + MAX_LIFE_SECONDS:
        raise BadRecord(
            f"a record valid for {record.exp - record.iat} s; expected 1 to {MAX_LIFE_SECONDS}"
        )
    if advertisable(record.addrs) != record.addrs:
        raise BadRecord("a record with an address that others cannot dial")
    try:
        verify(record.pub, signature, _SIGNED + body)
    except BadSignature as error:
        raise BadRecord("a record that its host did not sign") from error
    return record


def open_record(value: bytes, key: str, now: int) -> HostRecord:
    """Return the record in `value` if it belongs under `key` and is valid at unix second `now`."""
    record = read_record(value)
    if record_key(record.peer) != key:
        raise BadRecord(f"the record of {record.peer.short} lies under another host's key")
    check_time(record, now)
    return record


def check_time(record: HostRecord, now: int) -> None:
    """Raise `BadRecord` unless the record is valid at `now`, give or take `SKEW_SECONDS`."""
    if record.exp < now - SKEW_SECONDS:
        raise BadRecord(f"the record of {record.peer.short} expired {now - record.exp} s ago")
    if record.iat > now + SKEW_SECONDS:
        raise BadRecord(
            f"the record of {record.peer.short} is {record.iat - now} s from the future: "
            "this machine's clock or the host's is wrong"
        )


def newest(values: Sequence[bytes]) -> int:
    """Return the index of the record with the highest `seq`, the first of equals.

    Values that are no records are passed over; expired ones are not, as what a server has stored
    may have expired since. `BadRecord` if none is a record.
    """
    best, best_seq = -1, -1
    for index, value in enumerate(values):
        try:
            seq = read_record(value).seq
        except BadRecord:
            continue
        if seq > best_seq:
            best, best_seq = index, seq
    if best < 0:
        raise BadRecord(f"none of {len(values)} values is a host record")
    return best


def next_seq(last: int, unix_milliseconds: int) -> int:
    """Return the next publication's `seq`; it rises although the last one be forgotten."""
    return max(last + 1, unix_milliseconds)


def record_key(peer: PeerId) -> str:
    """Return the DHT key of a host's record: 36 characters.

    py-libp2p 0.8.1 refuses FIND_NODE for keys over 50 bytes that are no multihash, so a longer key
    would be found in the local table only.
    """
    return "/nh/" + urlsafe_b64encode(sha256(bytes(peer)).digest()[:24]).decode()


def provider_key(fingerprint: bytes, shard: int) -> str:
    """Return the key, a multihash in hex, under which hosts announce a tokenizer or target.

    Args:
        fingerprint: a `tok_fp` or `model_fp`.
        shard: 0 to `SHARDS` - 1; a host uses its own, a node looks at all.
    """
    return "1220" + sha256(_WANT + fingerprint + bytes((shard,))).hexdigest()


def shard_of(peer: PeerId) -> int:
    """Return the shard under which a host announces itself."""
    return sha256(bytes(peer)).digest()[0] % SHARDS


def advertisable(addrs: Sequence[str]) -> tuple[str, ...]:
    """Return the multiaddrs that may stand in a record.

    None that means "every interface"; loopback only if there is nothing else, as in a test on one
    machine.
    """
    dialable = [address for address in addrs if _is_dialable(address)]
    remote = [address for address in dialable if not _is_loopback(address)]
    return tuple(remote or dialable)


def _envelope(value: bytes) -> tuple[bytes, bytes]:
    if len(value) > MAX_RECORD_BYTES:
        raise BadRecord(f"a record of {len(value)} bytes; {MAX_RECORD_BYTES} are allowed")
    try:
        items = unpackb(value, max_items=2, max_bytes=MAX_RECORD_BYTES)
        envelope: _Envelope = load(_Envelope, items)
    except MalformedFrame as error:
        raise BadRecord(f"not a record: {error}") from error
    return envelope.body, envelope.signature


@dataclass(frozen=True, slots=True)
class _Envelope:
    body: Annotated[bytes, Size(1, MAX_RECORD_BYTES)]
    signature: Annotated[bytes, Size(64, 64)]


def _fields(body: bytes) -> HostRecord:
    try:
        known = msgpack.unpackb(
            body,
            object_pairs_hook=_unique,
            max_map_len=_MAX_FIELDS,
            max_array_len=_MAX_FIELDS,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BadRecord("the body of a record is not msgpack within the limits") from error
    if type(known) is not dict:
        raise BadRecord(f"the body of a record is a map, found {type(known).__name__}")
    try:
        record: HostRecord = load(HostRecord, [known.get(name) for name in _names()])
    except MalformedFrame as error:
        raise BadRecord(str(error)) from error
    return record


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Refuse a key that comes twice: two readers could each believe another value."""
    fields_by_name = dict(pairs)
    if len(fields_by_name) != len(pairs):
        raise ValueError("a key comes twice")
    return fields_by_name


def _names() -> tuple[str, ...]:
    return tuple(field.name for field in fields(HostRecord))


def _is_dialable(address: str) -> bool:
    ip = _ip(address)
    is_plain = address.startswith("/") and address.isascii() and address.isprintable()
    return is_plain and not (ip is not None and ip.is_unspecified)


def _is_loopback(address: str) -> bool:
    ip = _ip(address)
    return ip is not None and ip.is_loopback


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    parts = address.split("/")
    try:
        return ipaddress.ip_address(parts[2]) if len(parts) > 2 else None
    except ValueError:
        return None
