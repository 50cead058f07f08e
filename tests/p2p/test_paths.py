"""p2p/paths.py: two nodes on one machine never meet, and nobody else reads their secrets."""

from pathlib import Path

import pytest

from p2p.errors import ConfigError, ResourceError
from p2p.paths import cache_folder, folders, make_private, socket_path, write_private


def test_everything_lies_under_the_given_folder(tmp_path: Path) -> None:
    found = folders("node", tmp_path)

    assert found.config == found.data == tmp_path
    assert found.identity == tmp_path / "identity"
    assert found.lock == tmp_path / "lock"
    assert found.models == tmp_path / "models"
    assert found.logs == tmp_path / "logs"


def test_node_and_host_keep_apart_without_a_folder() -> None:
    assert folders("node").data != folders("host").data
    assert "nexus" in str(cache_folder())


def test_two_data_folders_have_two_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp/r")

    assert socket_path(tmp_path / "a") != socket_path(tmp_path / "b")
    assert socket_path(tmp_path / "a") == socket_path(tmp_path / "b" / ".." / "a")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert "nexus-" in str(socket_path(tmp_path))


def test_a_socket_path_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp/" + "r" * 100)

    with pytest.raises(ConfigError, match="shorter folder"):
        socket_path(tmp_path)


def test_a_private_file_is_replaced_whole_and_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys"

    write_private(path, b"one")
    write_private(path, b"two")

    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [file.name for file in path.parent.iterdir()] == ["keys"]


def test_a_folder_or_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    with pytest.raises(ResourceError, match="file"):
        make_private(tmp_path / "file" / "below")
    with pytest.raises(ResourceError, match="folder"):
        write_private(tmp_path / "folder", b"")
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []
