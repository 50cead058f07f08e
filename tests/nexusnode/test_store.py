import hashlib
import json
import os
from pathlib import Path, PosixPath

import pytest

from nexusnode.models.catalogue import BUNDLED, bundled_path
from nexusnode.models.store import ModelStore
from p2p.errors import ModelError, ResourceError


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    bundled = tmp_path / "bundled.gguf"
    bundled.write_bytes(b"bundled")
    return ModelStore(tmp_path / "models", bundled)


def put(tmp_path: Path, name: str, data: bytes = b"model") -> Path:
    path = tmp_path / "models" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_new_node_has_the_bundled_draft_only(store: ModelStore) -> None:
    (model,) = store.models()

    assert (model.name, model.size_bytes, model.is_bundled) == ("bundled", 7, True)


def test_models_of_the_folder_are_listed_by_name_and_other_files_are_not(
    store: ModelStore, tmp_path: Path
) -> None:
    put(tmp_path, "b.gguf")
    put(tmp_path, "a.gguf")
    put(tmp_path, "c.gguf.part")
    (tmp_path / "models" / "d.gguf").mkdir()

    assert [model.name for model in store.models()] == ["bundled", "a", "b"]


def test_a_model_is_found_with_and_without_its_suffix(store: ModelStore, tmp_path: Path) -> None:
    path = put(tmp_path, "a.gguf")

    assert store.path("a") == store.path("a.gguf") == path


def test_a_model_that_is_not_there_is_refused_with_those_that_are(store: ModelStore) -> None:
    with pytest.raises(ModelError, match="no model named 'q' is here; there are: bundled"):
        store.path("q")


def test_a_folder_without_any_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there are: none"):
        ModelStore(tmp_path, tmp_path / "missing.gguf").path("q")


def test_a_deleted_model_is_gone_and_the_bundled_one_stays(
    store: ModelStore, tmp_path: Path
) -> None:
    path = put(tmp_path, "a.gguf")

    store.delete("a")

    assert not path.exists()
    with pytest.raises(ModelError, match="comes with the program"):
        store.delete("bundled")


def test_a_hash_is_kept_until_size_time_or_inode_change(store: ModelStore, tmp_path: Path) -> None:
    path = put(tmp_path, "a.gguf", b"one")
    hashes = tmp_path / "models" / "hashes.json"
    first = store.sha256(path)
    marked = json.loads(hashes.read_text())
    marked[str(path)][-1] = "kept"
    hashes.write_text(json.dumps(marked))

    assert first == hashlib.sha256(b"one").hexdigest()
    assert store.sha256(path) == "kept"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert store.sha256(path) == first


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"x": 1}', b"[" * 100_000])
def test_a_damaged_cache_is_made_again(store: ModelStore, tmp_path: Path, damage: bytes) -> None:
    path = put(tmp_path, "a.gguf", b"one")
    (tmp_path / "models" / "hashes.json").write_bytes(damage)

    assert store.sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert str(path) in json.loads((tmp_path / "models" / "hashes.json").read_text())


def test_files_that_are_gone_leave_the_cache(store: ModelStore, tmp_path: Path) -> None:
    first, second = put(tmp_path, "a.gguf"), put(tmp_path, "b.gguf")
    store.sha256(first)
    store.delete("a")
    store.sha256(second)

    assert list(json.loads((tmp_path / "models" / "hashes.json").read_text())) == [str(second)]


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")

    assert ModelStore(blocked / "models").sha256(path) == hashlib.sha256(b"one").hexdigest()


def test_a_file_that_cannot_be_hashed_or_deleted_is_named(
    store: ModelStore, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"missing\.gguf: No such file"):
        store.sha256(tmp_path / "missing.gguf")


def test_the_bundled_draft_is_checked_before_it_is_used(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="install the program again"):
        store.check_bundled()
    assert ModelStore(tmp_path / "models").check_bundled() == bundled_path()
    assert bundled_path().name == BUNDLED.file


class _ReadOnly(PosixPath):
    """A path whose file may not be removed, whoever asks (the tests may run as root)."""

    def unlink(self, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")


def test_a_file_that_may_not_be_removed_is_a_fault_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"")

    with pytest.raises(ResourceError, match=r"a\.gguf: Permission denied"):
        ModelStore(_ReadOnly(tmp_path), tmp_path / "none").delete("a")
