"""The wire: how fast a signed block and its commit go round, what signing costs, how many bytes.

  python -m benchmarks.network [--quick] [--json PATH] [--only PART ...]

round trip   a node's block of 8 guesses to the host and the host's commit back, both signed, by
             the real ends and the real driver, over libp2p on loopback and over plain trio TCP in
             turn. Both ends live in one process: its processor time is what both cost. Median
             ≤ 2 ms on an idle machine; processor time ≤ 4 × TCP's. Rounds are spaced so that flood
             control, 200 frames a second, never acts.
signing      one frame signed and verified: ≤ 0.3 ms.
bytes        a real fleet with one node and 4 sessions: bytes of frames, signatures included, from
             node to host per drafted token (≤ 12) and both ways per accepted token (≤ 40).
"""

import argparse
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.fleet import Fleet
from benchmarks.odd_node import counted_bytes
from benchmarks.prompts import load_prompts
from benchmarks.report import (
    Bar,
    Row,
    at_most,
    finish,
    guarded,
    middle,
    parser,
    progress,
    quantile,
    ratio,
    reported,
)
from benchmarks.streaming import Way, stream_all
from p2p.drafting.host_end import Greeted, Guessed, HostEnd, HostTerms
from p2p.drafting.node_end import Committed, NodeEnd, NodeOffer, Opened
from p2p.errors import PeerGone
from p2p.network.peer import Libp2pTransport
from p2p.network.stream import End, Outbox, drive
from p2p.network.transport import Link, Startup
from p2p.wire.chain import Direction, Signer, Verifier
from p2p.wire.identity import Identity, PeerId
from p2p.wire.messages import PEER_CODEC, Block, Draft, DraftOffer, Sampler, TokenKind

NODE_SEED, HOST_SEED = b"n" * 32, b"h" * 32
VOCABULARY = 50_000
GUESSES = 8
COMMITTED = 3  # tokens of a commit: two guesses held, and the target's own
ROUND_SECONDS = 0.012  # two frames each way stay far below 200 a second
TURN = 25  # rounds of one link before the other's turn
WARM_ROUNDS = 20
SESSIONS = 4
READY_SECONDS = 240.0
PARTS = ("trip", "signing", "bytes")
TERMS = HostTerms(
    b"t" * 32,
    b"m" * 32,
    b"",
    tuple((TokenKind.NORMAL, b"x") for _ in range(VOCABULARY)),
    max_sessions=3,
)
OFFER = NodeOffer("node", (DraftOffer(TERMS.tok_fp, "draft", VOCABULARY, b""),), 3, 1 << 20, 90)


class TcpLink:
    """A trio TCP stream as a `Link`: nothing between the frames and the kernel."""

    relayed = False
    address = "127.0.0.1"

    def __init__(self, stream: trio.SocketStream, peer: PeerId) -> None:
        self._stream = stream
        self.peer = peer

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGone("the stream ended") from error

    async def receive(self, max_bytes: int) -> bytes:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGone("the stream ended") from error
        if not data:
            raise PeerGone("the stream ended")
        return data

    async def abort(self, reason: str) -> None:
        await trio.aclose_forcefully(self._stream)


@dataclass
class Costs:
    """What the rounds of one link took."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0


class Pair:
    """Both ends of one stream, driven by the real driver over two links."""

    def __init__(self, node_link: Link, host_link: Link) -> None:
        now = trio.current_time()
        node, host = Identity(NODE_SEED), Identity(HOST_SEED)
        self._node = NodeEnd(NODE_SEED, host.public, OFFER, b"1" * 32, now)
        self._host = HostEnd(HOST_SEED, node.public, TERMS, b"2" * 32, now)
        self._links = (node_link, host_link)
        self._node_box, self._host_box = Outbox(), Outbox()
        self._is_open = trio.Event()
        self._is_back = trio.Event()
        self._length = 64
        self._next_id = 1

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            ends: Sequence[tuple[Link, End[Any], Callable[[list[Any]], None], Outbox]] = (
                (self._links[0], self._node, self._node_hears, self._node_box),
                (self._links[1], self._host, self._host_hears, self._host_box),
            )
            for each in ends:
                nursery.start_soon(drive, *each)

    async def opened(self) -> None:
        await self._is_open.wait()

    async def round(self) -> float:
        """Send a block, wait for its commit; return the seconds."""
        first, self._next_id = self._next_id, self._next_id + GUESSES
        self._is_back = trio.Event()
        began = time.perf_counter()
        parents = (0, *range(first, first + GUESSES - 1))
        tokens = range(1000, 1000 + GUESSES)
        self._node.grow(1, self._length, first, parents, tokens, b"\xc0" * GUESSES)
        self._node_box.wake()
        await self._is_back.wait()
        return time.perf_counter() - began

    def _node_hears(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case Opened():
                    self._is_open.set()
                case Committed():
                    self._is_back.set()
                case _:
                    pass

    def _host_hears(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case Greeted():
                    sampler = Sampler(0, 0, 1000, 0)
                    prompt = range(self._length)
                    self._host.open(1, b"k" * 8, sampler, prompt, 1 << 20, 16, 16)
                case Guessed(block=block):
                    tokens = (*block.tokens[: COMMITTED - 1], 7)
                    tip = block.first + COMMITTED - 2
                    self._host.commit(1, self._length, tokens, tip, COMMITTED - 1)
                    self._length += COMMITTED
                case _:
                    pass
        self._host_box.wake()


@asynccontextmanager
async def tcp_links() -> AsyncIterator[tuple[Link, Link]]:
    """Two ends of one TCP connection on loopback."""
    accepted: list[trio.SocketStream] = []
    is_there = trio.Event()

    async def keep(stream: trio.SocketStream) -> None:
        accepted.append(stream)
        is_there.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, keep, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        dialled = await trio.open_tcp_stream("127.0.0.1", port)
        await is_there.wait()
        yield (
            TcpLink(dialled, Identity(HOST_SEED).peer),
            TcpLink(accepted[0], Identity(NODE_SEED).peer),
        )
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def libp2p_links() -> AsyncIterator[tuple[Link, Link]]:
    """Two ends of one libp2p stream on loopback."""
    arrived: list[Link] = []
    is_there = trio.Event()

    async def keep(link: Link) -> None:
        arrived.append(link)
        is_there.set()
        await trio.sleep_forever()

    node, host = (
        Libp2pTransport(seed, listen=["/ip4/127.0.0.1/tcp/0"]) for seed in (NODE_SEED, HOST_SEED)
    )
    host.serve(keep)
    async with trio.open_nursery() as nursery:
        for transport in (node, host):
            startup = Startup()
            nursery.start_soon(partial(transport.run, task_status=startup))
            await startup.wait()
        link = await node.dial(host.me, host.addresses(), 10)
        await is_there.wait()
        yield link, arrived[0]
        nursery.cancel_scope.cancel()


async def trips(rounds: int) -> dict[str, Costs]:
    """Run rounds over both links in turn."""
    costs = {"libp2p": Costs(), "tcp": Costs()}
    with trio.fail_after(60 + 10 * rounds * ROUND_SECONDS):
        async with tcp_links() as tcp, libp2p_links() as libp2p, trio.open_nursery() as nursery:
            pairs = {"libp2p": Pair(*libp2p), "tcp": Pair(*tcp)}
            for pair in pairs.values():
                nursery.start_soon(pair.run)
            for pair in pairs.values():
                await pair.opened()
                for _ in range(WARM_ROUNDS):
                    await pair.round()
                    await trio.sleep(ROUND_SECONDS)
            for turn in range(rounds // TURN):
                for name in ("libp2p", "tcp") if turn % 2 else ("tcp", "libp2p"):
                    began = time.process_time()
                    for _ in range(TURN):
                        costs[name].seconds.append(await pairs[name].round())
                        await trio.sleep(ROUND_SECONDS)
                    costs[name].cpu_seconds += time.process_time() - began
            nursery.cancel_scope.cancel()
    return costs


def trip_part(rounds: int) -> tuple[list[Bar], list[Row]]:
    costs = trio.run(trips, rounds)
    progress("round trips")
    rows: list[Row] = [
        {
            "link": name,
            "rounds": len(one.seconds),
            "median ms": 1e3 * middle(one.seconds),
            "p99 ms": 1e3 * quantile(one.seconds, 0.99),
            "cpu ms a round": 1e3 * ratio(one.cpu_seconds, len(one.seconds)),
        }
        for name, one in costs.items()
    ]
    libp2p, tcp = costs["libp2p"], costs["tcp"]
    return [
        at_most("round trip, libp2p, median", 1e3 * middle(libp2p.seconds), 2.0, "ms"),
        reported("round trip, libp2p, p99", 1e3 * quantile(libp2p.seconds, 0.99), "ms"),
        reported("round trip, TCP, median", 1e3 * middle(tcp.seconds), "ms"),
        reported("round trip, TCP, p99", 1e3 * quantile(tcp.seconds, 0.99), "ms"),
        at_most("processor time, libp2p / TCP", ratio(libp2p.cpu_seconds, tcp.cpu_seconds), 4.0),
    ], rows


def signing_part(frames: int) -> list[Bar]:
    """Pack, sign, verify and unpack blocks of 8, frame by frame."""
    node, host = Identity(NODE_SEED), Identity(HOST_SEED)
    signer = Signer(node, Direction.NODE, host.public)
    verifier = Verifier(Direction.NODE, node.public, host.public)
    signing, whole = [], []
    for number in range(frames):
        first = 1 + GUESSES * number
        parents = (0, *range(first, first + GUESSES - 1))
        tokens = tuple(range(1000, 1000 + GUESSES))
        block = Block(1, number, number, first, parents, tokens, b"\xc0" * GUESSES)
        began = time.perf_counter()
        payload = PEER_CODEC.pack(Draft((block,)))
        packed = time.perf_counter()
        seen = verifier.verify(signer.sign(payload))
        verified = time.perf_counter()
        PEER_CODEC.unpack(seen)
        signing.append(verified - packed)
        whole.append(time.perf_counter() - began)
    progress("signing")
    return [
        at_most("sign and verify a frame, median", 1e3 * middle(signing), 0.3, "ms"),
        reported("… with packing and unpacking", 1e3 * middle(whole), "ms"),
    ]


def bytes_part(tokens: int, rounds: int) -> tuple[list[Bar], bool]:
    """Count the frames of a real node under `SESSIONS` sessions."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Fleet(Path(folder) / "fleet", 1) as fleet,
    ):
        fleet.start_bootstrap()
        (node,) = fleet.nodes
        fleet.start_host([fleet.node_id(node)])
        node.start(
            sys.executable, "-m", "benchmarks.odd_node", "counted",
            str(node.folder), fleet.bootstrap_address,
        )  # fmt: skip
        fleet.wait_ready(READY_SECONDS, progress)
        prompts = load_prompts(SESSIONS * rounds)
        sent_before, received_before = counted_bytes(node.folder)
        accepted = made = 0
        is_equal = True
        for start in range(0, len(prompts), SESSIONS):
            some = prompts[start : start + SESSIONS]
            found = stream_all(fleet, some, Way("drafted"), tokens)
            accepted += sum(one.report["accepted"] for one in found)
            made += sum(one.tokens for one in found)
            plain = stream_all(fleet, some, Way("plain", draft=False), tokens)
            is_equal &= [one.text for one in found] == [one.text for one in plain]
        sent, received = counted_bytes(node.folder)
        drafted = _drafted(fleet.status(node))
    progress("bytes")
    sent, received = sent - sent_before, received - received_before
    name = f"at {SESSIONS} sessions"
    return [
        at_most(f"bytes per drafted token {name}", ratio(sent, drafted), 12.0, "bytes"),
        at_most(f"bytes per accepted token {name}", ratio(sent + received, accepted), 40.0, ""),
        reported("bytes from the node", sent, "bytes"),
        reported("bytes to the node, prompts included", received, "bytes"),
        reported("drafted", drafted, "tokens"),
        reported("accepted", accepted, "tokens"),
        reported("generated", made, "tokens"),
    ], is_equal


def _drafted(status: dict[str, Any]) -> int:
    return sum(int(host["drafted"]) for host in status["hosts"])


def main() -> int:
    made = parser("network", __doc__)
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    flags: argparse.Namespace = made.parse_args()
    bars: list[Bar] = []
    rows: list[Row] = []
    is_equal = True
    if "trip" in flags.only:
        bars, rows = trip_part(200 if flags.quick else 2000)
    if "signing" in flags.only:
        bars += signing_part(500 if flags.quick else 5000)
    if "bytes" in flags.only:
        more, is_equal = bytes_part(48 if flags.quick else 128, 2 if flags.quick else 6)
        bars += more
    return finish(flags, bars, rows, threads=0, texts_equal=is_equal)


if __name__ == "__main__":
    sys.exit(guarded("network", main))
