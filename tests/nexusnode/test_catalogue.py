import hashlib
import re

import pytest

from nexusnode.models.catalogue import (
    BUNDLED,
    CATALOGUE,
    DEFAULT_DOWNLOAD,
    CatalogueEntry,
    bundled_path,
    default_of_repository,
    find,
)
from nexusnode.models.gguf import read_header


def test_the_bundled_draft_is_the_file_the_catalogue_names() -> None:
    data = bundled_path().read_bytes()

    assert hashlib.sha256(data).hexdigest() == BUNDLED.sha256
    assert len(data) == BUNDLED.about_bytes


def test_the_sizes_that_the_fit_is_told_by_are_those_of_the_file() -> None:
    header = read_header(bundled_path())

    assert (header.kv_bytes, header.vocabulary) == (BUNDLED.kv_bytes, BUNDLED.vocabulary)


def test_the_bundled_draft_travels_with_its_model_card_and_checksum() -> None:
    folder = bundled_path().parent

    assert "Apache-2.0" in (folder / "MODEL_CARD.md").read_text()
    assert (folder / "SHA256SUMS").read_text() == f"{BUNDLED.sha256}  {BUNDLED.file}\n"


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.id)
def test_every_entry_is_found_by_id_and_file(entry: CatalogueEntry) -> None:
    found = [find(entry.id.upper()), find(entry.file)]

    assert found == [entry, entry]


def test_ids_and_files_are_unique_and_sources_are_of_the_form_the_hub_has() -> None:
    assert len({entry.id for entry in CATALOGUE}) == len(CATALOGUE)
    assert len({entry.file for entry in CATALOGUE}) == len(CATALOGUE)
    for entry in CATALOGUE[1:]:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+/[\w.-]+\.gguf", entry.source)


def test_the_default_for_real_use_is_qwens_smallest_and_its_repository_gives_it() -> None:
    assert DEFAULT_DOWNLOAD.id == "qwen2.5-0.5b-instruct-q4_0"
    assert default_of_repository("qwen/Qwen2.5-0.5B-Instruct-GGUF") is DEFAULT_DOWNLOAD


@pytest.mark.parametrize("name", ["", "qwen", "owner/repo", "owner/repo/file.gguf"])
def test_what_the_catalogue_does_not_have_is_not_found(name: str) -> None:
    assert find(name) is None
    assert default_of_repository(name) is None
