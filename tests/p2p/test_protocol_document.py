"""docs/protocol.md says what the code does: its golden blocks and its tables, none left out."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import IntEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from p2p.drafting.coupling import coupling_key, noise_bits, noise_uniform, row_key
from p2p.errors import ANSWERS
from p2p.wire.chain import Direction, Signer, Verifier
from p2p.wire.fingerprint import Entry, ladder, model_fp, tok_fp
from p2p.wire.frame import MAX_PEER_BYTES, MIN_PEER_BYTES, FrameDecoder, frame
from p2p.wire.identity import Identity
from p2p.wire.messages import (
    PEER_CODEC,
    PROTOCOL,
    Block,
    ByeReason,
    CloseReason,
    Commit,
    Commits,
    Draft,
    DraftOffer,
    Hello,
    Open,
    Sampler,
    TokenKind,
    Welcome,
)
from p2p.wire.record import (
    HostRecord,
    Policy,
    Service,
    provider_key,
    read_record,
    record_key,
    shard_of,
    sign_record,
)
from p2p.wire.schema import Size, Span

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
GOLDEN: dict[str, str] = {
    name: "".join(block.split())
    for name, block in re.findall(r"```golden (\S+)\n(.*?)```", TEXT, re.DOTALL)
}
NODE, HOST = Identity(b"\1" * 32), Identity(b"\2" * 32)
TOKENS: list[Entry] = [
    (TokenKind.CONTROL, b"<s>"),
    (TokenKind.BYTE, b"\n"),
    (TokenKind.NORMAL, b" the"),
]
PROMPT = (1, 2, 0)
# Fields whose bounds stand at another message (`sid`: OPEN) or in words ("as many").
SAID_ELSEWHERE = {
    "DRAFT.sid", "DRAFT.tokens", "DRAFT.scores", "COMMIT.sid", "FEED.sid", "CLOSE.sid",
    "PONG.n", "PONG.micros", "OPEN.sampler",
}  # fmt: skip


def golden_values() -> dict[str, str]:
    """Every golden block's text, made by the code."""
    tokenizer = tok_fp(TOKENS)
    target = model_fp("example/target", "main", tokenizer, "bf16")
    found = {
        "node-public": NODE.public.hex(),
        "node-id": str(NODE.peer),
        "host-public": HOST.public.hex(),
        "host-id": str(HOST.peer),
        "tok-fp": tokenizer.hex(),
        "model-fp": target.hex(),
    }
    return found | messages(tokenizer, target) | noise() | record(tokenizer, target)


def messages(tokenizer: bytes, target: bytes) -> dict[str, str]:
    from_node = Signer(NODE, Direction.NODE, HOST.public)
    from_host = Signer(HOST, Direction.HOST, NODE.public)
    found: dict[str, str] = {}

    def say(name: str, signer: Signer, message: object) -> bytes:
        payload = PEER_CODEC.pack(message)
        found[f"{name}-payload"] = payload.hex()
        found[f"{name}-frame"] = frame(signer.sign(payload), MAX_PEER_BYTES).hex()
        return payload

    offer = DraftOffer(tokenizer, "example", len(TOKENS), ladder(TOKENS))
    greeting = Hello((1,), b"\3" * 32, "example/1", (offer,), (1,), 0, 4, 8192, 200)
    hello = say("hello", from_node, greeting)
    digest = sha256(hello).digest()
    welcome = say(
        "welcome",
        from_host,
        Welcome(1, b"\4" * 32, digest, tokenizer, target, 1, 0, 4, 64, 256, 5000, ()),
    )
    for signer in (from_node, from_host):
        signer.restart(hello, welcome)
    key = coupling_key(7, 0, PROMPT)
    raw = np.array(PROMPT, "<u4").tobytes()
    say("open", from_host, Open(1, key, Sampler(700, 0, 1000, 0), 3, 64, 8, 16, raw))
    block = Block(1, 0, 3, 1, (0, 1, 0), (2, 1, 1), b"\xf2\xb4\x51")
    say("draft", from_node, Draft((block,)))
    say("commit", from_host, Commits((Commit(1, 1, 3, 2, 2, (2, 1, 2), 8, 16),)))
    return found


def noise() -> dict[str, str]:
    key = coupling_key(7, 0, PROMPT)
    row = row_key(key, 3)
    h = noise_bits(np.arange(3, dtype=np.uint32), row)
    w = noise_uniform(h).view(np.uint32)
    return {
        "coupling-key": key.hex(),
        "row-key": "".join(f"{word:08x}" for word in row),
        "noise-h": "".join(f"{bits:08x}" for bits in h),
        "noise-w": "".join(f"{bits:08x}" for bits in w),
    }


def record(tokenizer: bytes, target: bytes) -> dict[str, str]:
    service = Service(tokenizer, target, "example/target", Policy.INVITED, 16)
    issued = 1_800_000_000
    said = HostRecord(
        1, HOST.public, issued * 1000, issued, issued + 900,
        ("/ip4/192.0.2.7/tcp/4001",), (1,), (1,), (service,), (),
    )  # fmt: skip
    return {
        "record-value": sign_record(said, HOST).hex(),
        "record-key": record_key(HOST.peer),
        "provider-key": provider_key(tokenizer, shard_of(HOST.peer)),
    }


def flattened(kind: Any) -> Iterator[tuple[str, str]]:
    """A message's fields and their bounds as the document writes them, rows behind their name."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        yield field.name, written(hint)
        plain = hint
        while get_origin(plain) in (Annotated, tuple):
            plain = get_args(plain)[0]
        if is_dataclass(plain):
            yield from flattened(plain)


def written(hint: Any) -> str:
    if get_origin(hint) is not Annotated:
        return "bool" if hint is bool else ""
    plain, bounds = get_args(hint)
    if isinstance(bounds, Span):
        low, high = int(bounds.low), int(bounds.high)
        if low == 0 and high + 1 in (2**8, 2**16, 2**32, 2**64):
            return f"u{high.bit_length()}"
        return f"{low}–{'2³²−1' if high == 2**32 - 1 else high}"
    assert isinstance(bounds, Size)
    if get_origin(plain) is tuple:
        count = f"{bounds.low}–{bounds.high}" if bounds.low else f"≤ {bounds.high}"
        item = written(get_args(plain)[0])
        return f"[{count} × {'host record ' if item.startswith('bin') else ''}{item}".rstrip()
    kind = "bin" if plain is bytes else "str"
    whole = {1: "(?!: u32| in 4s)", 4: "(?=: u32| in 4s)"}[bounds.step]
    if bounds.low == bounds.high:
        return f"{kind} {bounds.high}" + whole
    return f"{kind} ≤ {bounds.high}" + whole


def table(section: str) -> list[list[str]]:
    """The rows of a section's only table, without its head."""
    part = TEXT.split(f"\n## {section}", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_golden_block_is_what_the_code_makes_and_none_is_left_out() -> None:
    assert golden_values() == GOLDEN


@pytest.mark.parametrize("name", ["hello", "welcome", "open", "draft", "commit"])
def test_a_golden_payload_is_read_and_written_back(name: str) -> None:
    payload = bytes.fromhex(GOLDEN[f"{name}-payload"])

    assert PEER_CODEC.pack(PEER_CODEC.unpack(payload)) == payload


def test_the_golden_frames_verify_in_order() -> None:
    """Rules 1.3 and 2.1 to 2.3, from the receiver's side."""
    node = Verifier(Direction.NODE, NODE.public, HOST.public)
    host = Verifier(Direction.HOST, HOST.public, NODE.public)

    def read(name: str, verifier: Verifier) -> bytes:
        decoder = FrameDecoder(MAX_PEER_BYTES, MIN_PEER_BYTES)
        (body,) = decoder.feed(bytes.fromhex(GOLDEN[f"{name}-frame"]))
        return verifier.verify(body)

    hello, welcome = read("hello", node), read("welcome", host)
    for verifier in (node, host):
        verifier.restart(hello, welcome)
    for name, verifier in [("draft", node), ("open", host), ("commit", host)]:
        assert read(name, verifier).hex() == GOLDEN[f"{name}-payload"]


def test_the_golden_record_is_read() -> None:
    assert read_record(bytes.fromhex(GOLDEN["record-value"])).serves[0].name == "example/target"


def test_the_table_of_messages_is_the_codecs() -> None:
    """Rule 3.1: numbers, names, the order of fields and their bounds."""
    kinds: dict[int, Any] = PEER_CODEC._kinds
    plural = {"COMMIT": "COMMITS", "BUDGET": "BUDGETS"}
    rows = {int(number): (name, text) for number, name, _, text in table("3")}

    assert rows.keys() == kinds.keys()
    for number, kind in kinds.items():
        name, text = rows[number]
        text = re.sub(r"(?<=\d),(?=\d)", "", text)
        assert plural.get(name, name) == kind.__name__.upper()
        at = 0
        for field, bounds in flattened(kind):
            said = "" if f"{name}.{field}" in SAID_ELSEWHERE else bounds
            found = re.compile(rf"\b{field}\b[` ]*{pattern(said)}").search(text, at)
            assert found is not None, f"{name}.{field} {bounds} is not in its place"
            at = found.end()


def pattern(said: str) -> str:
    plain, ahead, rest = said.partition("(?")
    return re.escape(plain) + (r"(?!\w)" if plain else "") + ahead + rest


def test_the_reasons_are_the_enums() -> None:
    """Rule 3.2."""
    line = next(line for line in TEXT.splitlines() if line.startswith("**3.2**"))
    bye = next(line for line in TEXT.splitlines() if line.startswith("BYE reasons:"))
    pairs: list[tuple[str, type[IntEnum]]] = [(line, CloseReason), (bye, ByeReason)]
    for text, reasons in pairs:
        found = re.findall(r"(\d) ([a-z-]+)", text)
        assert found == [
            (str(int(reason)), reason.name.lower().replace("_", "-")) for reason in reasons
        ]


def test_the_table_of_errors_is_the_one_of_the_code() -> None:
    """Rule 6.1."""
    names = {name: answer.wire for name, answer in ANSWERS.items() if answer.wire != 16}

    assert {name.strip("`"): int(code) for code, name, _ in table("6")[:-1]} == names
    assert table("6")[-1][:2] == ["16", "anything else"]


def test_the_table_of_a_records_fields_is_the_records() -> None:
    """Rule 9.3."""
    names = [field.name for field in fields(HostRecord)]

    assert re.findall(r"`(\w+)`", " ".join(row[0] for row in table("9"))) == names


def test_the_kinds_of_tokens_are_the_documents() -> None:
    """Rule 8.1."""
    line = next(line for line in TEXT.splitlines() if line.startswith("Kinds: "))

    assert re.findall(r"(\d) (\w+)", line) == [
        (str(int(kind)), kind.name.lower()) for kind in TokenKind
    ]


def test_a_peers_protocol_and_frame_are_the_documents() -> None:
    assert f"one stream of protocol `{PROTOCOL}`" in TEXT
    assert f"that many bytes, {MIN_PEER_BYTES} to {MAX_PEER_BYTES:,}" in TEXT
