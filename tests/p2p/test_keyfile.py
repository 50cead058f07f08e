"""The identity on disk: made once, private, never replaced."""

import os
import stat
from pathlib import Path

import pytest

from p2p.errors import ConfigError
from p2p.network.keyfile import load_or_create_seed, load_seed


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_first_start_makes_a_private_identity_and_later_ones_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "node" / "identity"

    seed = load_or_create_seed(path)

    assert len(seed) == 32
    assert path.read_bytes() == seed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_or_create_seed(path) == seed
    assert load_seed(path) == seed


def test_an_identity_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create_seed(tmp_path / "identity")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o600


def test_two_identities_differ(tmp_path: Path) -> None:
    assert load_or_create_seed(tmp_path / "a") != load_or_create_seed(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_an_identity_that_others_may_use_is_refused_with_the_remedy(
    tmp_path: Path, mode: int
) -> None:
    path = written(tmp_path / "identity", b"s" * 32, mode)

    with pytest.raises(ConfigError, match=f"{mode:04o}.*chmod 600"):
        load_or_create_seed(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_an_identity_for_its_owner_alone_is_taken(tmp_path: Path, mode: int) -> None:
    assert load_or_create_seed(written(tmp_path / "identity", b"s" * 32, mode)) == b"s" * 32


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_an_identity_of_another_size_is_refused_and_left_alone(tmp_path: Path, size: int) -> None:
    path = written(tmp_path / "identity", b"s" * size)

    with pytest.raises(ConfigError, match=f"{size} bytes, expected 32"):
        load_or_create_seed(path)
    assert path.stat().st_size == size


def test_a_symbolic_link_is_refused_even_to_a_good_identity(tmp_path: Path) -> None:
    (tmp_path / "identity").symlink_to(written(tmp_path / "real", b"s" * 32))

    with pytest.raises(ConfigError, match="symbolic link"):
        load_or_create_seed(tmp_path / "identity")


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)

    for name in ("pipe", "folder"):
        with pytest.raises(ConfigError, match="plain file"):
            load_or_create_seed(tmp_path / name)


def test_an_identity_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no identity here"):
        load_seed(tmp_path / "identity")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ConfigError, match="cannot be made"):
        load_or_create_seed(tmp_path / "file" / "identity")
