"""The draft models this program knows by name, and which of them comes with it."""

from dataclasses import dataclass
from pathlib import Path

HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A draft model. `source` is `owner/repo/file` at Hugging Face, empty for the bundled one.

    `sha256` is empty where the publisher's own answer to the download names it (`fetch.py`);
    `about_bytes`, `kv_bytes` of one token and `vocabulary` are for display and never checked.
    """

    id: str
    name: str
    family: str
    file: str
    source: str
    sha256: str
    about_bytes: int
    parameters: int
    quantisation: str
    licence: str
    kv_bytes: int
    vocabulary: int


BUNDLED = CatalogueEntry(
    id="smollm2-draft-50m-q4_0",
    name="SmolLM2 draft 50M",
    family="SmolLM2",
    file="smollm2-draft-50m-q4_0.gguf",
    source="",
    sha256="6d7cda7f5731529c2a9b095685e38c99e69452b7921409aaa841355e2c41de9f",
    about_bytes=29_671_840,
    parameters=49_500_000,
    quantisation="Q4_0",
    licence="Apache-2.0",
    kv_bytes=4608,
    vocabulary=49_152,
)
CATALOGUE = (
    BUNDLED,
    CatalogueEntry(
        id="qwen2.5-0.5b-instruct-q4_0",
        name="Qwen2.5 0.5B Instruct (Q4_0, fastest on CPUs)",
        family="Qwen2.5",
        file="qwen2.5-0.5b-instruct-q4_0.gguf",
        source="Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_0.gguf",
        sha256="",
        about_bytes=429_000_000,
        parameters=494_000_000,
        quantisation="Q4_0",
        licence="Apache-2.0",
        kv_bytes=12_288,
        vocabulary=151_936,
    ),
    CatalogueEntry(
        id="qwen2.5-0.5b-instruct-q8_0",
        name="Qwen2.5 0.5B Instruct (Q8_0, for GPUs)",
        family="Qwen2.5",
        file="qwen2.5-0.5b-instruct-q8_0.gguf",
        source="Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q8_0.gguf",
        sha256="",
        about_bytes=676_000_000,
        parameters=494_000_000,
        quantisation="Q8_0",
        licence="Apache-2.0",
        kv_bytes=12_288,
        vocabulary=151_936,
    ),
)
# For real use: the draft of a Qwen2.5-72B-Instruct target.
DEFAULT_DOWNLOAD = CATALOGUE[1]
_BUNDLED_FOLDER = Path(__file__).parent / "bundled"


def bundled_path() -> Path:
    """Return where the bundled draft lies."""
    return _BUNDLED_FOLDER / BUNDLED.file


def find(id_or_file: str) -> CatalogueEntry | None:
    """Return the entry with this id, file name or source, written in any case."""
    wanted = id_or_file.lower()
    for entry in CATALOGUE:
        if wanted and wanted in (entry.id, entry.file, entry.source.lower()):
            return entry
    return None


def default_of_repository(repository: str) -> CatalogueEntry | None:
    """Return the entry to take when only `owner/repo` was named: the first of it."""
    for entry in CATALOGUE:
        if entry.source and entry.source.rpartition("/")[0].lower() == repository.lower():
            return entry
    return None
