"""The models of this node as the window lists them, and what can be done with them.

`downloads.py` fetches; the files are `nexusnode.models.store`'s. Whatever changes is published as
topic `models`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from nexusnode.control.messages import Models as ModelsView
from nexusnode.control.messages import ModelView, Pair, SettingsPatch, Storage
from nexusnode.daemon.downloads import Download, Downloads, Terms
from nexusnode.daemon.model import chosen_path
from nexusnode.daemon.preferences import Preferences
from nexusnode.daemon.storage import (
    free_bytes,
    measure,
    partial_downloads,
    remove_copied,
    remove_left,
)
from nexusnode.models.catalogue import (
    BUNDLED,
    CATALOGUE,
    DEFAULT_DOWNLOAD,
    HUB,
    CatalogueEntry,
    find,
)
from nexusnode.models.fit import Fit, Fitting, Shape, Sizes, fitting
from nexusnode.models.gguf import Header, inspect
from nexusnode.models.move import copy_models, movable
from nexusnode.models.recommend import Candidate, recommend
from nexusnode.models.store import LocalModel, ModelStore
from nexusnode.settings import models_folder
from p2p.errors import ControlError, ModelError, NexusError
from p2p.log import Log
from p2p.paths import Folders
from p2p.settings import toml_value

RESERVE_BYTES = 5_000_000_000  # of the disk, unless the settings say otherwise
MAX_LISTED = 64
MAX_LINE = 1000
_FIT_WORDS = {Fit.FITS: "fits", Fit.TIGHT: "tight", Fit.NO: "no"}


@dataclass(frozen=True, slots=True)
class Running:
    """The model that the draft worker has: its file, its tokens/s if measured, its memory."""

    path: Path
    speed: float | None
    rss_bytes: int


class Models:
    """Owns the list, and all changes in the models folder.

    Args:
        running: what the worker has now.
        wanted: hosts by `tok_fp`.
        relocate: told where the running model's file lies after a move.
        publish: sends a view to whoever watches; must not block.
    """

    def __init__(
        self,
        folders: Folders,
        preferences: Preferences,
        running: Callable[[], Running],
        wanted: Callable[[], Counter[bytes]],
        relocate: Callable[[str], None],
        publish: Callable[[ModelsView], None],
        nursery: trio.Nursery,
        log: Log,
        hub: str = HUB,
    ) -> None:
        self._folders = folders
        self._preferences = preferences
        self._running = running
        self._wanted = wanted
        self._relocate = relocate
        self._publish = publish
        self._log = log
        self._local: list[LocalModel] = []
        self._headers: dict[tuple[Path, int], Header | str] = {}  # a text: why it is unusable
        self._speeds: dict[str, float] = {}
        self._free_bytes = 0
        self._changing = trio.Lock()
        self._downloads = Downloads(nursery, self._terms, self._changed, self._arrived, log, hub)

    async def list(self) -> ModelsView:
        """Look at the disk and return what is there."""
        await self._refresh()
        return self._view()

    async def pull(self, source: str, sha256: str) -> ModelsView:
        """Begin a download, or go on with it; errors as `Downloads.pull`."""
        if find(source) is not BUNDLED:
            await self._downloads.pull(source, sha256, self._folder)
        return await self.list()

    async def pause(self, name: str) -> ModelsView:
        await self._downloads.pause(name)
        return await self.list()

    async def resume(self, name: str) -> ModelsView:
        """Go on with a download. A file that came whole and cannot be used is fetched anew, if the
        catalogue says from where."""
        if self._is_broken(name):
            entry = find(name)
            if entry is None or entry is BUNDLED:
                raise ControlError(
                    f"{name[:128]} is whole and cannot be used: remove it, then get it again"
                )
            await self.delete(name)
            return await self.pull(entry.id, "")
        self._downloads.resume(name)
        return await self.list()

    async def cancel(self, name: str) -> ModelsView:
        """Stop a download and remove what it brought; or a file that cannot be used."""
        if self._is_broken(name):
            return await self.delete(name)
        await self._downloads.cancel(name)
        return await self.list()

    async def delete(self, name: str) -> ModelsView:
        """Remove a model's file. The bundled one and the one in use are refused.

        Raises:
            ControlError, ModelError, ResourceError: the sentence says what to do.
        """
        async with self._changing:
            store = self._store
            path = await trio.to_thread.run_sync(store.path, name)
            if path == self._active_path():
                raise ControlError(
                    f"{name} is the model in use: choose another one first", "control.conflict"
                )
            if path == self._running().path:
                raise ControlError(
                    f"{name} is loaded until the node is started again: delete it after that",
                    "control.conflict",
                )
            await trio.to_thread.run_sync(store.delete, name)
            self._forget_unusable()
            self._log.event("model.deleted", model=name[:128])
        self._changed()
        return await self.list()

    async def move(self, folder: str) -> ModelsView:
        """Move all models to another folder and remember it. Nothing is deleted before its copy is
        written out and compared.

        Raises:
            ControlError: the folder cannot be meant, or a download runs.
            ResourceError: the disk does not take it; everything is as it was.
        """
        async with self._changing:
            old, new = self._folder, Path(folder).expanduser()
            if not new.is_absolute() or new.is_file():
                raise ControlError(f"{folder[:256]}: expected a folder, from the root on")
            if new.resolve() == old.resolve():
                raise ControlError(f"{new} is where the models are already")
            if self._downloads.is_busy:
                raise ControlError(
                    "a download is running: pause or cancel it, then move", "control.busy"
                )
            files = await trio.to_thread.run_sync(movable, old)
            reserve = self._terms().reserve_bytes
            await trio.to_thread.run_sync(
                copy_models, files, new, reserve, trio.from_thread.check_cancelled
            )
            self._remember(old, new)
            await trio.to_thread.run_sync(remove_copied, files, old)
            self._downloads.forget()
            self._log.event("models.moved", files=len(files))
        self._changed()
        return await self.list()

    async def storage(self) -> Storage:
        """Return every folder of this node with its size."""
        return await trio.to_thread.run_sync(measure, self._folders, self._folder)

    async def free(self) -> Storage:
        """Remove what is left of downloads that do not run."""
        await self._refresh()
        await self._downloads.cancel_idle()
        running = {one.path.name for one in self._downloads.all}
        await trio.to_thread.run_sync(remove_left, self._folder, running)
        self._changed()
        return await self.storage()

    def changed(self) -> None:
        """Show the list again: another model was chosen."""
        self._changed()

    @property
    def _folder(self) -> Path:
        return models_folder(self._folders, self._preferences.current)

    @property
    def _store(self) -> ModelStore:
        return ModelStore(self._folder)

    def _is_broken(self, name: str) -> bool:
        """Whether a model lies in the folder and cannot be used."""
        return any(
            model.name == name
            and isinstance(self._headers.get((model.path, model.size_bytes)), str)
            for model in self._local
        )

    def _terms(self) -> Terms:
        gigabytes = self._preferences.value("limits.disk_reserve_gb")
        is_set = isinstance(gigabytes, int | float)
        reserve = round(float(str(gigabytes)) * 1e9) if is_set else RESERVE_BYTES
        return Terms(reserve, round(self._preferences.current.down_mbit * 125_000))

    def _remember(self, old: Path, new: Path) -> None:
        """Write the new folder to the settings, and where the draft lies if they name its file."""
        pairs = [Pair("models.folder", toml_value(str(new)))]
        draft = Path(self._preferences.wanted.draft).expanduser()
        if draft.is_absolute() and draft.parent.resolve() == old.resolve():
            pairs.append(Pair("models.draft", toml_value(str(new / draft.name))))
        self._preferences.patch(SettingsPatch(tuple(pairs), None))
        running = self._running().path
        if running.parent.resolve() == old.resolve():
            self._relocate(str(new / running.name))

    async def _arrived(self) -> None:
        self._forget_unusable()
        await self._refresh()
        self._changed()

    def _forget_unusable(self) -> None:
        """Look again at files that could not be used: they may be others of the same size now."""
        self._headers = {key: it for key, it in self._headers.items() if isinstance(it, Header)}

    def _changed(self) -> None:
        self._publish(self._view())

    async def _refresh(self) -> None:
        """Look at the folder; the header of a file that is new or changed is read, by a child."""
        folder, store = self._folder, self._store
        local = await trio.to_thread.run_sync(store.models)
        active = self._active_path()
        if active is not None and all(model.path != active for model in local):
            local += await trio.to_thread.run_sync(_elsewhere, active)
        for model in local:
            key = (model.path, model.size_bytes)
            if key not in self._headers:
                try:
                    self._headers[key] = await inspect(model.path)
                except ModelError as error:
                    self._headers[key] = str(error)
        self._local = local
        left = await trio.to_thread.run_sync(partial_downloads, folder)
        self._downloads.adopt(left)
        self._free_bytes = await trio.to_thread.run_sync(free_bytes, folder)

    def _active_path(self) -> Path | None:
        try:
            return chosen_path(self._preferences.wanted.draft, self._store)
        except NexusError:  # the settings name one that is not here: none is active
            return None

    # The view.

    def _view(self) -> ModelsView:
        running = self._running()
        if running.speed:
            self._speeds[running.path.name] = running.speed
        hosts = self._hosts_by_family()
        views = [self._of_local(model, running, hosts) for model in self._local]
        here = {view.name for view in views}
        views += [
            self._of_download(one, hosts) for one in self._downloads.all if one.name not in here
        ]
        here = {view.name for view in views}
        views += [self._absent(entry.id, hosts) for entry in CATALOGUE if entry.id not in here]
        views = views[:MAX_LISTED]
        name, reason = recommend([_candidate(view) for view in views], DEFAULT_DOWNLOAD.family)
        return ModelsView(tuple(views), name, reason, str(self._folder), self._free_bytes)

    def _hosts_by_family(self) -> Counter[str]:
        """Return how many hosts want each family, as far as its tokenizer is known here."""
        wanted = self._wanted()
        found: Counter[str] = Counter()
        for model in self._local:
            header = self._headers.get((model.path, model.size_bytes))
            if isinstance(header, Header):
                found[_family(model.name, header)] = wanted[header.tok_fp]
        return found

    def _of_local(self, model: LocalModel, running: Running, hosts: Counter[str]) -> ModelView:
        header = self._headers.get((model.path, model.size_bytes), "it is being looked at")
        family = _family(model.name, header)
        own_bytes = running.rss_bytes if model.path == running.path else 0
        view = replace(
            self._absent(model.name, hosts),
            family=family,
            file_bytes=model.size_bytes,
            is_bundled=model.is_bundled,
            is_active=model.path == self._active_path(),
            path=str(model.path),
            speed=self._speeds.get(model.path.name),
            hosts=hosts[family],
            done_bytes=model.size_bytes,
        )
        if isinstance(header, str):
            return replace(
                view,
                state="failed",
                reason=header[:MAX_LINE],
                fit="no",
                fit_reason="",
                done_bytes=0,
            )
        fit = self._fit(header, own_bytes)
        return replace(view, state="ready", fit=_FIT_WORDS[fit.fit], fit_reason=fit.sentence)

    def _of_download(self, one: Download, hosts: Counter[str]) -> ModelView:
        view = self._absent(one.name, hosts)
        return replace(
            view,
            file_bytes=one.total_bytes or view.file_bytes,
            path=str(one.path),
            state=one.state.value,
            done_bytes=one.done_bytes,
            bytes_per_second=one.bytes_per_second,
            seconds_left=one.seconds_left,
            reason=one.reason[:MAX_LINE],
        )

    def _absent(self, name: str, hosts: Counter[str]) -> ModelView:
        """Return what the catalogue says of a model, if it knows it."""
        entry = find(name)
        fit = self._fit(_shape(entry)) if entry is not None else None
        return ModelView(
            name=name,
            family=entry.family if entry is not None else "",
            licence=entry.licence if entry is not None else "",
            file_bytes=entry.about_bytes if entry is not None else 0,
            is_bundled=False,
            is_active=False,
            path="",
            fit=_FIT_WORDS[fit.fit] if fit is not None else "",
            fit_reason=fit.sentence if fit is not None else "Known once it is here.",
            speed=None,
            hosts=hosts[entry.family] if entry is not None else 0,
            state="absent",
            done_bytes=0,
            bytes_per_second=0.0,
            seconds_left=None,
            reason="",
        )

    def _fit(self, sizes: Sizes, own_bytes: int = 0) -> Fitting:
        settings = self._preferences.current
        return fitting(sizes, settings.sessions, settings.context, own_bytes)


def _candidate(view: ModelView) -> Candidate:
    fit = next((fit for fit, word in _FIT_WORDS.items() if word == view.fit), Fit.NO)
    return Candidate(
        view.name, view.family, fit, view.fit_reason, view.hosts, view.speed, view.is_bundled
    )


def _shape(entry: CatalogueEntry) -> Shape:
    return Shape(entry.about_bytes, entry.kv_bytes, entry.vocabulary)


def _family(name: str, header: Header | str) -> str:
    entry = find(name)
    if entry is not None:
        return entry.family
    return header.name or header.architecture if isinstance(header, Header) else ""


def _elsewhere(path: Path) -> list[LocalModel]:
    """Return a model that lies outside the folder, if it is there."""
    try:
        size = path.stat().st_size
    except OSError:
        return []
    return [LocalModel(path.name.removesuffix(".gguf"), path, size, is_bundled=False)]
