"""A stranger's bytes are read or refused with a typed error, whatever they are.

Golden bytes of docs/protocol.md, broken in every way that is cheap to try. What is read in spite
of that must be within its bounds and come back from its own bytes.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from p2p.errors import BadLength, BadRecord, BadSignature, MalformedFrame, PeerError, UnknownFrame
from p2p.wire.chain import Direction, Verifier
from p2p.wire.frame import MAX_PEER_BYTES, MIN_PEER_BYTES, FrameDecoder
from p2p.wire.identity import Identity
from p2p.wire.messages import PEER_CODEC
from p2p.wire.record import read_record, sign_record
from p2p.wire.schema import check

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
GOLDEN = {
    name: bytes.fromhex("".join(block.split()))
    for name, block in re.findall(r"```golden (\S+-(?:payload|frame|value))\n(.*?)```", TEXT, re.S)
}
NODE, HOST = Identity(b"\1" * 32), Identity(b"\2" * 32)
PAYLOADS = [GOLDEN[f"{name}-payload"] for name in ("hello", "welcome", "open", "draft", "commit")]
NODE_FRAMES = [GOLDEN["hello-frame"], GOLDEN["draft-frame"]]
RECORD = GOLDEN["record-value"]
BODY: bytes = msgpack.unpackb(RECORD)[0]
# What stands first in msgpack: every kind with the least and the greatest length, NaN, ext.
HEADS = [bytes((byte,)) for byte in range(256)] + [
    bytes.fromhex(head)
    for head in ("ddffffffff", "dfffffffff", "c6ffffffff", "dbffffffff", "c9ffffffff7f", "d6ff0000")
]
HEADS += [bytes.fromhex(number) for number in ("cb7ff8000000000000", "cfffffffffffffffff", "d0ff")]


def mutated(entropy: random.Random, corpus: list[bytes]) -> bytes:
    """Return one of the corpus with one to four faults."""
    data = bytearray(entropy.choice(corpus))
    for _ in range(entropy.choice((1, 1, 1, 2, 4))):
        at = entropy.randrange(len(data) + 1)
        match entropy.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << entropy.randrange(8)
            case 1 if at < len(data):
                data[at : at + 1] = entropy.choice(HEADS)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + entropy.randrange(1, 9)]
            case 4:
                data[at:at] = entropy.choice(HEADS)
            case 5:
                other = entropy.choice(corpus)
                data[at:] = other[entropy.randrange(len(other)) :]
            case _:
                data[at:at] = data[at : at + entropy.randrange(1, 40)] * entropy.choice((1, 2, 99))
    return bytes(data)


def read_payload(payload: bytes) -> bool:
    """Read one payload as a peer does; say whether it was a message."""
    try:
        message = PEER_CODEC.unpack(payload)
    except (MalformedFrame, UnknownFrame):
        return False
    check(message)
    assert PEER_CODEC.unpack(PEER_CODEC.pack(message)) == message
    return True


def read_stream(data: bytes) -> list[bytes]:
    """Read a node's first frames as a host does, both the one before and the one after WELCOME."""
    decoder = FrameDecoder(MAX_PEER_BYTES, MIN_PEER_BYTES)
    verifier = Verifier(Direction.NODE, NODE.public, HOST.public)
    payloads: list[bytes] = []
    try:
        for body in decoder.feed(data):
            payloads.append(verifier.verify(body))
            if len(payloads) == 1:
                verifier.restart(payloads[0], GOLDEN["welcome-payload"])
    except (BadLength, BadSignature):
        pass
    return payloads


def signed(body: bytes) -> bytes:
    value: bytes = msgpack.packb([body, HOST.sign(b"nexus/host-record/1\0" + body)])
    return value


def read_host_record(value: bytes) -> bool:
    try:
        record = read_record(value)
    except BadRecord:
        return False
    assert read_record(sign_record(record, HOST)) == record
    return True


def faults(data: bytes) -> Iterator[bytes]:
    """Every truncation and every flip of one bit."""
    for length in range(len(data)):
        yield data[:length]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


@pytest.mark.slow
def test_70_000_broken_payloads_are_read_within_bounds_or_refused() -> None:
    entropy = random.Random(1)
    taken = sum(read_payload(mutated(entropy, PAYLOADS)) for _ in range(70_000))

    assert 1_000 < taken < 69_000, "the faults reach both sides of the bounds"


@pytest.mark.slow
def test_20_000_broken_streams_give_the_nodes_own_payloads_and_no_others() -> None:
    entropy = random.Random(2)
    hello, draft = GOLDEN["hello-payload"], GOLDEN["draft-payload"]
    corpus = [b"".join(NODE_FRAMES), *NODE_FRAMES]
    for _ in range(20_000):
        assert read_stream(mutated(entropy, corpus)) in ([], [hello], [hello, draft])


@pytest.mark.slow
def test_10_000_broken_records_are_refused_unless_the_host_signed_them() -> None:
    entropy = random.Random(3)
    taken = 0
    for _ in range(7_000):
        taken += read_host_record(signed(mutated(entropy, [BODY])))
    assert 100 < taken < 6_900
    for _ in range(3_000):
        value = mutated(entropy, [RECORD])
        assert not read_host_record(value) or msgpack.unpackb(value)[0] == BODY


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_every_truncation_and_every_bit_of_the_golden_bytes(name: str) -> None:
    golden = GOLDEN[name]
    if name.endswith("-payload"):
        for data in faults(golden):
            read_payload(data)
        assert not any(read_payload(golden[:length]) for length in range(len(golden)))
    elif name.endswith("-value"):
        assert not any(map(read_host_record, faults(golden)))
        for body in faults(BODY):
            read_host_record(signed(body))
    else:
        assert all(read_stream(data) == [] for data in faults(golden))


@pytest.mark.parametrize(
    "order",
    [
        ("hello", "hello"),
        ("draft", "hello"),
        ("draft",),
        ("hello", "draft", "draft"),
        ("hello", "open"),
        ("welcome",),
    ],
)
def test_golden_frames_in_another_order_end_the_stream(order: tuple[str, ...]) -> None:
    payloads = read_stream(b"".join(GOLDEN[f"{name}-frame"] for name in order))

    assert len(payloads) == (0 if order[0] != "hello" else len(order) - 1)


@pytest.mark.parametrize("head", HEADS, ids=bytes.hex)
def test_no_first_byte_is_more_than_refused(head: bytes) -> None:
    for tail in (b"", bytes(8), b"\xff" * 8, head * 2_000):
        for data in (head + tail, b"\x92\x09" + head + tail, b"\x81\xa1x" + head + tail):
            assert not read_payload(data)
            assert not read_host_record(data)
            assert not read_host_record(signed(data))


@pytest.mark.slow
def test_noise_is_refused_by_every_reader() -> None:
    entropy = random.Random(4)
    for _ in range(2_000):
        noise = entropy.randbytes(entropy.choice((1, 4, 69, 300, 5_000)))
        assert read_stream(noise) == []
        assert not read_host_record(noise)
        try:
            PEER_CODEC.unpack(noise)
        except PeerError:
            continue
