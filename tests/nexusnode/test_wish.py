import json
import stat
from pathlib import Path

import pytest

from nexusnode.daemon.wish import MAX_UNIX_SECONDS, PAUSE_FILE, KeptWish
from nexusnode.policy.facts import Moment, Wish
from p2p.errors import ResourceError
from p2p.log import quiet_log

NOW = Moment(boot_seconds=1000.0, unix_seconds=1_700_000_000.5)
UNKNOWN = Wish(paused=True, is_unknown=True)


def kept(data: Path) -> KeptWish:
    return KeptWish(data, quiet_log())


def test_nothing_was_asked_for_where_there_is_no_file(tmp_path: Path) -> None:
    assert kept(tmp_path).read() == Wish()


@pytest.mark.parametrize(
    ("wish", "again"),
    [
        (Wish(True), Wish(True)),
        (Wish(True, unix_until=1_700_003_600), Wish(True, unix_until=1_700_003_600)),
        (Wish(True, boot_until=1060.0), Wish(True, unix_until=1_700_000_061)),
        (Wish(True, quitting=True), Wish(True)),
        (UNKNOWN, Wish(True)),
        (Wish(), Wish()),
        (Wish(quitting=True), Wish()),
    ],
)
def test_a_pause_is_read_as_it_was_asked_for_with_its_end_by_the_clock(
    wish: Wish, again: Wish, tmp_path: Path
) -> None:
    kept(tmp_path).write(Wish(True), NOW)
    kept(tmp_path).write(wish, NOW)

    assert kept(tmp_path).read() == again


def test_only_its_owner_may_read_it_and_no_draft_stays_behind(tmp_path: Path) -> None:
    kept(tmp_path).write(Wish(True), NOW)

    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"version": 1}',
        b'{"version": 2, "until": null}',
        b'{"version": 1, "until": null, "more": 1}',
        b'{"version": 1, "until": true}',
        b'{"version": 1, "until": "18:30"}',
        b'{"version": 1, "until": 1e9}',
        b'{"version": 1, "until": -1}',
        json.dumps({"version": 1, "until": MAX_UNIX_SECONDS + 1}).encode(),
    ],
)
def test_a_damaged_file_is_a_pause(text: bytes, tmp_path: Path) -> None:
    (tmp_path / PAUSE_FILE).write_bytes(text)

    assert kept(tmp_path).read() == UNKNOWN


def test_the_last_time_that_can_be_shown_is_read(tmp_path: Path) -> None:
    kept(tmp_path).write(Wish(True, unix_until=MAX_UNIX_SECONDS), NOW)

    assert kept(tmp_path).read() == Wish(True, unix_until=MAX_UNIX_SECONDS)


@pytest.mark.parametrize("wish", [Wish(True), Wish()])
def test_a_disk_that_does_not_take_it_is_named(wish: Wish, tmp_path: Path) -> None:
    (tmp_path / PAUSE_FILE / "in the way").mkdir(parents=True)

    with pytest.raises(ResourceError, match="will not outlast a restart"):
        kept(tmp_path).write(wish, NOW)
