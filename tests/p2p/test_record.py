"""p2p/wire/record.py: what a host says of itself, and who believes it (docs/protocol.md, 9)."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import BadRecord
from p2p.wire.identity import Identity
from p2p.wire.record import (
    LIFE_SECONDS,
    SHARDS,
    HostRecord,
    Policy,
    Service,
    advertisable,
    check_time,
    newest,
    next_seq,
    open_record,
    provider_key,
    read_record,
    record_key,
    shard_of,
    sign_record,
)

HOST, OTHER = Identity(b"\2" * 32), Identity(b"\3" * 32)
NOW = 1_800_000_000
ADDRESS = "/ip4/192.0.2.7/tcp/4001"
SERVICE = Service(b"t" * 32, b"m" * 32, "example/target", Policy.INVITED, 16)
RECORD = HostRecord(
    1, HOST.public, 5, NOW, NOW + LIFE_SECONDS, (ADDRESS,), (1,), (1,), (SERVICE,), ()
)
LIMIT = 4096


def body_of(**changes: object) -> dict[str, Any]:
    """The record's map; a change to `...` leaves the field out."""
    body = {
        "v": 1, "pub": HOST.public, "seq": 5, "iat": NOW, "exp": NOW + 900, "addrs": [ADDRESS],
        "protos": [1], "noise_specs": [1],
        "serves": [[b"t" * 32, b"m" * 32, "example/target", 1, 16]], "relays": [], **changes,
    }  # fmt: skip
    return {key: value for key, value in body.items() if value is not ...}


def signed(body: object, identity: Identity = HOST) -> bytes:
    raw = body if isinstance(body, bytes) else msgpack.packb(body)
    value: bytes = msgpack.packb([raw, identity.sign(b"nexus/host-record/1\0" + raw)])
    return value


def test_a_record_comes_back_as_it_was_signed() -> None:
    value = sign_record(RECORD, HOST)

    assert value == signed(body_of())
    assert read_record(value) == RECORD
    assert open_record(value, record_key(HOST.peer), NOW) == RECORD
    assert RECORD.peer == HOST.peer


@given(
    seq=st.integers(0, 2**64 - 1),
    name=st.text(max_size=16),
    demand=st.integers(0, 2**16 - 1),
    policy=st.sampled_from(Policy),
    services=st.integers(0, 16),
)
def test_any_record_within_its_bounds_is_read(
    seq: int, name: str, demand: int, policy: Policy, services: int
) -> None:
    service = replace(SERVICE, name=name, demand=demand, policy=policy)
    record = replace(RECORD, seq=seq, serves=(service,) * services)

    assert read_record(sign_record(record, HOST)) == record


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 0},
        {"seq": 2**64 - 1},
        {"exp": NOW + 1},
        {"exp": NOW + 3600},
        {"addrs": []},
        {"addrs": [ADDRESS] * 8},
        {"addrs": ["/" + "a" * 127]},
        {"protos": [0, 1, 2, 255]},
        {"noise_specs": [1, 2, 3, 4]},
        {"serves": []},
        {"serves": [[bytes(32), bytes(32), "é" * 32, 0, 2**16 - 1]] * 16},
        {"relays": ["/" + "r" * 127] * 4},
    ],
)
def test_a_field_at_its_bound_is_read(changes: dict[str, Any]) -> None:
    read_record(signed(body_of(**changes)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"v": 0}, "version 0; this program reads version 1"),
        ({"v": 2}, "version 2"),
        ({"v": True}, "HostRecord.v"),
        ({"pub": bytes(31)}, "HostRecord.pub"),
        ({"pub": bytes(33)}, "HostRecord.pub"),
        ({"seq": -1}, "HostRecord.seq"),
        ({"seq": 1.0}, "HostRecord.seq"),
        ({"exp": NOW}, "valid for 0 s; expected 1 to 3600"),
        ({"exp": NOW - 1}, "valid for -1 s"),
        ({"exp": NOW + 3601}, "valid for 3601 s"),
        ({"addrs": [ADDRESS] * 9}, "HostRecord.addrs"),
        ({"addrs": ["/" + "a" * 128]}, "HostRecord.addrs"),
        ({"addrs": [""]}, "HostRecord.addrs"),
        ({"addrs": [b"/ip4"]}, "HostRecord.addrs"),
        ({"addrs": ["no slash"]}, "others cannot dial"),
        ({"addrs": ["/dns4/exämple"]}, "others cannot dial"),
        ({"addrs": ["/ip4/\n"]}, "others cannot dial"),
        ({"addrs": ["/ip4/0.0.0.0/tcp/1"]}, "others cannot dial"),
        ({"addrs": ["/ip6/::/tcp/1"]}, "others cannot dial"),
        ({"addrs": [ADDRESS, "/ip4/127.0.0.1/tcp/1"]}, "others cannot dial"),
        ({"protos": []}, "HostRecord.protos"),
        ({"protos": [1] * 5}, "HostRecord.protos"),
        ({"protos": [256]}, "HostRecord.protos"),
        ({"noise_specs": []}, "HostRecord.noise_specs"),
        ({"noise_specs": [1] * 5}, "HostRecord.noise_specs"),
        ({"serves": [[bytes(32), bytes(32), "n", 0, 0]] * 17}, "HostRecord.serves"),
        ({"serves": [[bytes(32), bytes(32), "n", 2, 0]]}, "Service.policy"),
        ({"serves": [[bytes(32), bytes(32), "n", 0, 2**16]]}, "Service.demand"),
        ({"serves": [[bytes(32), bytes(32), "é" * 33, 0, 0]]}, "Service.name"),
        ({"serves": [[bytes(32), bytes(32), "n", 0]]}, "HostRecord.serves"),
        ({"relays": ["/r"] * 5}, "HostRecord.relays"),
    ],
)
def test_a_field_past_its_bound_is_named_although_it_is_signed(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRecord, match=words):
        read_record(signed(body_of(**changes)))


@pytest.mark.parametrize("name", body_of())
def test_no_field_may_be_missing(name: str) -> None:
    with pytest.raises(BadRecord, match=f"HostRecord.{name}"):
        read_record(signed(body_of(**{name: ...})))


def test_a_later_versions_fields_are_ignored_and_stay_signed() -> None:
    value = signed(body_of(price=[1, {"per": "token"}], region="é", api=None))

    assert read_record(value) == RECORD
    assert open_record(value, record_key(HOST.peer), NOW) == RECORD


def test_a_map_of_too_many_fields_is_refused() -> None:
    spare = 32 - len(body_of())
    read_record(signed(body_of(**{str(number): 0 for number in range(spare)})))
    with pytest.raises(BadRecord, match="within the limits"):
        read_record(signed(body_of(**{str(number): 0 for number in range(spare + 1)})))


def test_a_key_that_comes_twice_is_refused_at_any_depth() -> None:
    body = msgpack.packb(body_of())
    twice = bytes((body[0] + 1,)) + body[1:] + b"\xa1v\x01"
    nested = bytes((body[0] + 1,)) + body[1:] + b"\xa1x\x82\xa1a\x01\xa1a\x02"

    for raw in (twice, nested):
        with pytest.raises(BadRecord, match="within the limits"):
            read_record(signed(raw))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xc1",
        b"\x91" * 2_000 + b"\0",
        b"\x81" * 2_000,
        b"\xdf\xff\xff\xff\xff",
        msgpack.packb({1: 2}),
        msgpack.packb({"x": msgpack.ExtType(1, b"x")}),
        msgpack.packb({"x": [0] * 33}),
        b"\x81\xa1\xff\x00",
        msgpack.packb(body_of()) + b"\0",
    ],
)
def test_a_body_that_is_no_bounded_map_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRecord, match="not msgpack within the limits"):
        read_record(signed(raw))


@pytest.mark.parametrize("body", [[], 7, None, "text"])
def test_a_body_of_another_type_is_refused(body: object) -> None:
    with pytest.raises(BadRecord, match="is a map, found"):
        read_record(signed(body))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x90",
        b"\x80",
        msgpack.packb([b"body"]),
        msgpack.packb([b"body", bytes(63)]),
        msgpack.packb([b"body", bytes(65)]),
        msgpack.packb([b"", bytes(64)]),
        msgpack.packb(["body", bytes(64)]),
        msgpack.packb([b"body", bytes(64), 0]),
        signed(body_of()) + b"\0",
        signed(body_of())[:-1],
    ],
)
def test_a_value_that_is_no_body_and_signature_is_refused(value: bytes) -> None:
    with pytest.raises(BadRecord, match="not a record"):
        read_record(value)


def test_a_value_has_4096_bytes_at_most() -> None:
    room = LIMIT - len(signed(body_of(extra=b"")))
    filled = next(
        value
        for size in range(room, 0, -1)
        if len(value := signed(body_of(extra=bytes(size)))) <= LIMIT
    )
    assert len(filled) == LIMIT
    assert read_record(filled) == RECORD
    with pytest.raises(BadRecord, match="a record of 4097 bytes; 4096 are allowed"):
        read_record(filled + b"\0")


def test_the_largest_record_fits() -> None:
    long = replace(SERVICE, name="n" * 64, demand=2**16 - 1)
    record = replace(
        RECORD,
        seq=2**64 - 1,
        addrs=("/" + "a" * 127,) * 8,
        protos=(255,) * 4,
        noise_specs=(255,) * 4,
        serves=(long,) * 16,
        relays=("/" + "r" * 127,) * 4,
    )

    assert read_record(sign_record(record, HOST)) == record


def test_only_the_host_itself_can_sign_its_record() -> None:
    with pytest.raises(BadRecord, match="did not sign"):
        read_record(signed(body_of(), OTHER))
    with pytest.raises(BadRecord, match="did not sign"):
        sign_record(RECORD, OTHER)
    raw = msgpack.packb(body_of())
    for domain in (b"", b"nexus/draft/1\0"):
        with pytest.raises(BadRecord, match="did not sign"):
            read_record(msgpack.packb([raw, HOST.sign(domain + raw)]))


def test_a_host_does_not_sign_what_others_would_refuse() -> None:
    for record in (
        replace(RECORD, exp=NOW + 3601),
        replace(RECORD, addrs=("/ip4/0.0.0.0/tcp/1",)),
        replace(RECORD, protos=()),
    ):
        with pytest.raises(BadRecord):
            sign_record(record, HOST)


def test_a_record_lies_under_its_own_key_only() -> None:
    with pytest.raises(BadRecord, match=f"{HOST.peer.short} lies under another host's key"):
        open_record(sign_record(RECORD, HOST), record_key(OTHER.peer), NOW)


def test_a_record_holds_from_its_issue_to_its_end_give_or_take_two_minutes() -> None:
    """Rule 9.4."""
    check_time(RECORD, NOW - 120)
    check_time(RECORD, RECORD.exp + 120)
    with pytest.raises(BadRecord, match=r"121 s from the future: this machine's clock"):
        check_time(RECORD, NOW - 121)
    with pytest.raises(BadRecord, match="expired 121 s ago"):
        check_time(RECORD, RECORD.exp + 121)
    with pytest.raises(BadRecord, match="expired"):
        open_record(sign_record(RECORD, HOST), record_key(HOST.peer), RECORD.exp + 121)


def test_the_highest_seq_is_the_newest_and_the_first_of_equals() -> None:
    values = [sign_record(replace(RECORD, seq=seq), HOST) for seq in (3, 9, 4)]

    assert newest(values) == 1
    assert newest([values[0], values[0]]) == 0
    assert newest([b"junk", values[2], signed(body_of(seq=99), OTHER), values[0]]) == 1
    assert newest([sign_record(replace(RECORD, seq=0), HOST)]) == 0


@pytest.mark.parametrize("values", [[], [b"junk"], [b"", b"\x90"]])
def test_there_is_no_newest_of_no_record(values: list[bytes]) -> None:
    with pytest.raises(BadRecord, match=f"none of {len(values)} values is a host record"):
        newest(values)


def test_seq_rises_although_the_clock_goes_back_or_the_last_one_is_forgotten() -> None:
    assert next_seq(0, 1_800_000_000_000) == 1_800_000_000_000
    assert next_seq(1_800_000_000_000, 1_800_000_000_000) == 1_800_000_000_001
    assert next_seq(1_800_000_000_000, 5) == 1_800_000_000_001


def test_keys_follow_from_peer_and_fingerprint() -> None:
    keys = {provider_key(b"t" * 32, shard) for shard in range(SHARDS)}

    assert record_key(HOST.peer) == "/nh/dfXIcaPVHADOFE2AAwT1Ony6TBevHD5_"
    assert len(record_key(OTHER.peer)) == 36
    assert len(keys) == SHARDS
    assert all(len(bytes.fromhex(key)) == 34 and key.startswith("1220") for key in keys)
    assert provider_key(b"t" * 32, 2)[4:] == (
        sha256(b"nexus/want/1\0" + b"t" * 32 + b"\2").hexdigest()
    )


def test_hosts_are_spread_over_all_shards() -> None:
    peers = [Identity(bytes((number,)) * 32).peer for number in range(40)]

    assert {shard_of(peer) for peer in peers} == set(range(SHARDS))
    assert shard_of(HOST.peer) == sha256(bytes(HOST.peer)).digest()[0] % 4


@pytest.mark.parametrize(
    ("addrs", "kept"),
    [
        ([], ()),
        ([ADDRESS], (ADDRESS,)),
        (["/ip4/0.0.0.0/tcp/1", ADDRESS], (ADDRESS,)),
        (["/ip4/127.0.0.1/tcp/1", ADDRESS, "/ip6/::1/tcp/1"], (ADDRESS,)),
        (["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"], ("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1")),
        (["/ip6/::/tcp/1", "/ip4/127.0.0.2/tcp/1"], ("/ip4/127.0.0.2/tcp/1",)),
        (["/ip4/10.0.0.1/tcp/1"], ("/ip4/10.0.0.1/tcp/1",)),
        (["/dns4/example.org/tcp/1", "/memory/a", "/x"], None),
        (["not an address", "", "/tcp\x07", "/é"], ()),
    ],
)
def test_only_addresses_that_others_can_dial_stand_in_a_record(
    addrs: list[str], kept: tuple[str, ...] | None
) -> None:
    assert advertisable(addrs) == (tuple(addrs) if kept is None else kept)
    assert advertisable(advertisable(addrs)) == advertisable(addrs)
