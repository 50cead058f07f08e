"""The control API's methods, each one call on whoever owns the fact."""

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from nexusnode.control.dialogue import Request
from nexusnode.control.messages import ChatStarted, Findings, Nothing
from nexusnode.control.server import Client
from nexusnode.daemon.autostart import Autostart
from nexusnode.daemon.chat import Chats
from nexusnode.daemon.contributor import Contributor
from nexusnode.daemon.diagnostics import Diagnostics, shown, tail
from nexusnode.daemon.history import History
from nexusnode.daemon.meters import Metering
from nexusnode.daemon.models import Models
from nexusnode.daemon.preferences import Preferences
from nexusnode.daemon.sensing import Sensing
from nexusnode.policy.facts import Wish
from p2p.log import Log


class Api:
    """A `Handler` for the control server.

    Args:
        keep: writes the user's wish to disk, in a thread.
    """

    def __init__(
        self,
        contributor: Contributor,
        preferences: Preferences,
        chats: Chats,
        history: History,
        models: Models,
        diagnostics: Diagnostics,
        log: Log,
        keep: Callable[[Wish], None],
        sensing: Sensing,
        meters: Metering,
        autostart: Autostart,
    ) -> None:
        self._contributor = contributor
        self._preferences = preferences
        self._chats = chats
        self._history = history
        self._models = models
        self._diagnostics = diagnostics
        self._log = log
        self._keep = keep
        self._sensing = sensing
        self._meters = meters
        self._autostart = autostart
        self._keeping = trio.Lock()

    async def handle(self, client: Client, request: Request) -> Any:
        """Return the result of a call; errors of ours become refusals."""
        match request.method:
            case "state.snapshot":
                return self._contributor.snapshot()
            case "pause":
                self._contributor.pause(request.params)
                await self._keep_wish()
                return self._contributor.snapshot()
            case "resume":
                self._contributor.resume()
                await self._keep_wish()
                return self._contributor.snapshot()
            case "run_anyway":
                self._contributor.run_anyway(request.params.for_seconds)
                await self._keep_wish()
                return self._contributor.snapshot()
            case "finish":
                self._contributor.finish()
                await self._keep_wish()
                return self._contributor.snapshot()
            case "meters":
                return self._meters.view()
            case "idle.test":
                return await self._sensing.test_idle()
            case "autostart":
                self._autostart.turn(request.params.is_on)
                return self._contributor.snapshot()
            case "settings.schema":
                return self._preferences.schema()
            case "settings.get":
                return self._preferences.view()
            case "settings.set":
                return self._preferences.patch(request.params)
            case "chat.start":
                publish = partial(client.publish, "chat")
                return ChatStarted(self._chats.start(client, request.params, publish))
            case "chat.stop":
                self._chats.stop(client, request.params.chat)
                return Nothing()
            case "log.tail":
                return tail(self._log, request.params)
            case "doctor":
                return Findings(tuple(map(shown, await self._diagnostics.examine())))
            case "diagnostics.preview":
                return await self._diagnostics.preview()
            case "diagnostics.write":
                return await self._diagnostics.write(request.params.path)
            case "storage":
                return await self._models.storage()
            case "storage.free":
                return await self._models.free()
            case "history.query":
                return await self._history.query(request.params)
            case "history.export":
                return await self._history.export(request.params.path)
            case "quit":
                self._contributor.stop()
                return Nothing()
        if request.method.startswith("models."):
            return await self._handle_models(request)
        raise AssertionError(f"{request.method} is in METHODS and not here")

    async def _handle_models(self, request: Request) -> Any:
        models, params = self._models, request.params
        match request.method.removeprefix("models."):
            case "list":
                return await models.list()
            case "pull":
                return await models.pull(params.source, params.sha256)
            case "pause":
                return await models.pause(params.name)
            case "resume":
                return await models.resume(params.name)
            case "cancel":
                return await models.cancel(params.name)
            case "delete":
                return await models.delete(params.name)
            case _:
                return await models.move(params.folder)

    async def _keep_wish(self) -> None:
        """Have the last wish outlast a restart. It is carried out meanwhile: a disk may be slow."""
        async with self._keeping:
            await trio.to_thread.run_sync(self._keep, self._contributor.wish)

    def departed(self, client: Client) -> None:
        self._chats.departed(client)
