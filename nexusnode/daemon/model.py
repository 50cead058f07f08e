"""The draft model that the settings name, looked at before a worker is started with it."""

import os
from dataclasses import dataclass
from pathlib import Path

import trio

from nexusnode.models.gguf import Header, inspect
from nexusnode.models.store import ModelStore
from nexusnode.settings import NodeSettings


@dataclass(frozen=True, slots=True)
class Model:
    """Its file, hash and header."""

    path: Path
    sha256: str
    header: Header


def chosen_path(draft: str, store: ModelStore) -> Path:
    """Return the file that the setting `models.draft` names; `ModelError` if there is none."""
    if not draft:
        return store.bundled
    if draft.endswith(".gguf") or os.sep in draft:
        return Path(draft).expanduser().resolve()
    return store.path(draft)


async def open_model(settings: NodeSettings, store: ModelStore) -> Model:
    """Find the draft of the settings, hash it and read its header; `ModelError` says what is
    wrong."""
    if not settings.draft:
        await trio.to_thread.run_sync(store.check_bundled)
    path = chosen_path(settings.draft, store)
    digest = await trio.to_thread.run_sync(store.sha256, path)
    return Model(path, digest, await inspect(path))
