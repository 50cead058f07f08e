import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from nexusnode.daemon.known import KNOWN_HOSTS_FILE, MAX_KNOWN, KnownHosts
from p2p.log import quiet_log
from p2p.network.memory import MemoryNetwork
from p2p.wire.identity import Identity
from p2p.wire.record import SKEW_SECONDS, HostRecord, Policy, Service, Signed, sign_record
from p2p.wire.schema import packb

TOK = b"t" * 32
NOW = 1_700_000_000


def known(data: Path, unix: int = NOW) -> KnownHosts:
    return KnownHosts(data, quiet_log(), lambda: unix)


def signed(number: int, tok_fp: bytes = TOK, **changes: Any) -> Signed:
    identity = Identity(bytes([number]) * 32)
    service = Service(tok_fp, b"m" * 32, "m", Policy.OPEN, 8)
    record = HostRecord(
        1, identity.public, 1, NOW, NOW + 900, ("/memory/x",), (1,), (1,), (service,), ()
    )
    record = replace(record, **changes)
    return Signed(record, sign_record(record, identity))


async def kept(data: Path, *hosts: Signed) -> None:
    book = known(data)
    for host in hosts:
        book.keep(host.record.peer, host.value, True)
    await book.save()


async def test_a_node_restarts_into_service_while_the_directory_is_down(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        first = KnownHosts(tmp_path, quiet_log())
        async with fake_node(network, workers, known=first):
            await wait_until(host.greeted.is_set)
            await first.save()
        await wait_until(lambda: host.end is None)
        network.set_directory_up(False)

        async with fake_node(network, workers, known=KnownHosts(tmp_path, quiet_log())):
            await wait_until(host.greeted.is_set, seconds=2)
        nursery.cancel_scope.cancel()


async def test_a_host_that_never_welcomed_us_is_not_kept(
    fake_node: Any,
    make_host: Any,
    workers: Any,
    wait_until: Any,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork()
    host = make_host(network)
    host.invited = False
    book = KnownHosts(tmp_path, quiet_log())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        async with fake_node(network, workers, known=book) as node:
            await wait_until(lambda: node.hosts.all and node.hosts.all[0].state.value == "refused")
            await book.save()
        nursery.cancel_scope.cancel()

    assert KnownHosts(tmp_path, quiet_log()).read(TOK) == []


async def test_what_is_kept_is_read_again_and_the_last_welcome_comes_first(
    tmp_path: Path,
) -> None:
    one, two = signed(1), signed(2)
    await kept(tmp_path, one, two, one)

    assert known(tmp_path).read(TOK) == [one, two]
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_only_the_last_sixteen_are_kept(tmp_path: Path) -> None:
    hosts = [signed(number) for number in range(1, MAX_KNOWN + 3)]
    await kept(tmp_path, *hosts)

    assert known(tmp_path).read(TOK) == hosts[: -MAX_KNOWN - 1 : -1]


async def test_a_newer_record_replaces_the_older_one_and_no_stranger_comes_by_it(
    tmp_path: Path,
) -> None:
    one, newer, stranger = signed(1), signed(1, seq=2), signed(2)
    book = known(tmp_path)
    book.keep(one.record.peer, one.value, True)
    book.keep(newer.record.peer, newer.value, False)
    book.keep(stranger.record.peer, stranger.value, False)
    await book.save()

    assert known(tmp_path).read(TOK) == [newer]


async def test_an_expired_record_is_dropped_and_one_of_another_tokenizer_not_dialled(
    tmp_path: Path,
) -> None:
    old, good, other = signed(1, exp=NOW + 60), signed(2), signed(3, tok_fp=b"o" * 32)
    await kept(tmp_path, old, good, other)

    assert known(tmp_path, NOW + 60 + SKEW_SECONDS).read(TOK) == [good, old]
    assert known(tmp_path, NOW + 61 + SKEW_SECONDS).read(TOK) == [good]


async def test_a_record_that_was_changed_on_disk_is_dropped(tmp_path: Path) -> None:
    good, forged = signed(1), signed(2)
    value = forged.value[:-1] + bytes([forged.value[-1] ^ 1])
    await kept(tmp_path, good, Signed(forged.record, value))

    assert known(tmp_path).read(TOK) == [good]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"junk",
        packb([2, []]),
        packb([1]),
        packb([1, [b""]]),
        packb([1, [b"x" * 4097]]),
        packb([1, [b"x"] * (MAX_KNOWN + 1)]),
        b"\xc1" * 1_000_000,
    ],
)
def test_a_damaged_file_is_ignored(text: bytes, tmp_path: Path) -> None:
    (tmp_path / KNOWN_HOSTS_FILE).write_bytes(text)

    assert known(tmp_path).read(TOK) == []


async def test_what_changed_is_written_without_being_asked(tmp_path: Path) -> None:
    one = signed(1)
    book = known(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.run)
        book.keep(one.record.peer, one.value, True)
        with trio.fail_after(10):
            while known(tmp_path).read(TOK) != [one]:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
