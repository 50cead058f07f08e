"""The node daemon: everything below one nursery, so that its end leaves nothing behind.

Order of the start: lock, identity, settings, model, network, control socket. The command line calls
`run_node`; tests give it the twins of network and worker.
"""

import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import platformdirs
import trio

from nexusnode.control.endpoint import bound_socket, hold_lock
from nexusnode.control.messages import API, METHODS, TOPICS, Welcome
from nexusnode.control.server import ControlServer
from nexusnode.daemon.api import Api
from nexusnode.daemon.autostart import Autostart
from nexusnode.daemon.chat import Chats
from nexusnode.daemon.contributor import Contributor, Profile
from nexusnode.daemon.diagnostics import Diagnostics
from nexusnode.daemon.drafting import Drafting
from nexusnode.daemon.examination import Examination
from nexusnode.daemon.history import History, reading
from nexusnode.daemon.host import hosts_by_tokenizer
from nexusnode.daemon.hosts import Hosts
from nexusnode.daemon.known import KnownHosts
from nexusnode.daemon.learnt import Learnt
from nexusnode.daemon.meters import Metering
from nexusnode.daemon.model import Model, open_model
from nexusnode.daemon.models import Models, Running
from nexusnode.daemon.preferences import Preferences
from nexusnode.daemon.sensing import Sensing
from nexusnode.daemon.traffic import Traffic
from nexusnode.daemon.wish import KeptWish
from nexusnode.daemon.worker import DraftWorker, OpenWorker
from nexusnode.draft.launch import MODULE, environment
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Load
from nexusnode.models.fit import need_bytes
from nexusnode.models.gguf import read_entries
from nexusnode.models.store import ModelStore
from nexusnode.policy.facts import Moment
from nexusnode.sensors.sensor import Sensor
from nexusnode.sensors.survey import sensors_of
from nexusnode.settings import NodeSettings, models_folder
from p2p.errors import NexusError
from p2p.log import Log
from p2p.network.discovery import Found, discover
from p2p.network.keyfile import load_or_create_seed
from p2p.network.transport import Startup, Transport
from p2p.paths import Folders, make_private, socket_path
from p2p.process.child import open_child
from p2p.wire.identity import Identity
from p2p.wire.messages import DraftOffer

DEVICE = "cpu"
MAX_NAME_BYTES = 64  # of a draft, in HELLO
MAX_AGENT_BYTES = 32

MakeTransport = Callable[[bytes, NodeSettings], Transport]
MakeSensors = Callable[[Path], Sequence[Sensor]]


async def run_node(
    folders: Folders,
    flags: Mapping[str, object],
    version: str,
    make_transport: MakeTransport,
    log: Log,
    open_worker: OpenWorker | None = None,
    make_sensors: MakeSensors = lambda data: sensors_of(os.environ, data),
) -> None:
    """Run the node until it is told to quit, by SIGINT, SIGTERM or its control API.

    Args:
        flags: settings by key that win over file and environment.
        open_worker: starts a draft worker; None = the real child process.
        make_sensors: gives the sensors of this machine; the data folder's disk counts.

    Raises:
        AlreadyRunning, ConfigError, ModelError, ResourceError: it cannot start.
    """
    ending = _Ending()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            ending.scope = nursery.cancel_scope
            nursery.start_soon(_obey, signals, ending)
            try:
                await _run(
                    folders, flags, version, make_transport, log, open_worker, make_sensors, ending
                )
            except NexusError as error:
                ending.failure = error
            nursery.cancel_scope.cancel()
    if ending.failure is not None:
        raise ending.failure  # from here, as a nursery would wrap it in a group
    log.event("node.ended")


@dataclass(slots=True)
class _Ending:
    """How the node is told to end: by its contributor once there is one, else by `scope`."""

    scope: trio.CancelScope | None = None
    contributor: Contributor | None = None
    failure: NexusError | None = None

    def ask(self) -> None:
        if self.contributor is not None:
            self.contributor.stop()
        elif self.scope is not None:
            self.scope.cancel()


async def _run(
    folders: Folders,
    flags: Mapping[str, object],
    version: str,
    make_transport: MakeTransport,
    log: Log,
    open_worker: OpenWorker | None,
    make_sensors: MakeSensors,
    ending: _Ending,
) -> None:
    make_private(folders.data)
    with hold_lock(folders.lock):
        seed = load_or_create_seed(folders.identity)
        preferences = Preferences(folders, flags)
        settings = preferences.current
        transport = make_transport(seed, settings)
        model = await open_model(settings, ModelStore(models_folder(folders, settings)))
        with bound_socket(socket_path(folders.data)) as listener:
            kept = KeptWish(folders.data, log)
            traffic = Traffic(folders.data, lambda: preferences.current.limits.zone, time.time, log)
            traffic.read()
            autostart = Autostart(Path(platformdirs.user_config_dir()))
            contributor = Contributor(
                _profile(seed, version, model, settings),
                settings.limits,
                _now,
                log,
                kept.read(),
                lambda: traffic.received + traffic.sent,
                autostart.is_on,
            )
            opener = open_worker or _worker_opener(settings.threads)
            worker = DraftWorker(opener, _load(model, settings), contributor, log)
            learnt = Learnt(folders.data, model.sha256, log)
            learnt.read()
            drafting = Drafting(worker.send, learnt)
            known = KnownHosts(folders.data, log)
            hosts = Hosts(
                transport,
                seed,
                drafting,
                settings.allow,
                lambda: read_entries(Path(contributor.model_path)),
                random.Random(),
                contributor.changed,
                time.time,
                log,
                known.keep,
                traffic.add,
            )
            contributor.begin(worker, hosts, drafting)
            preferences.on_change(lambda now: contributor.set_limits(now.limits))
            sensing = Sensing(make_sensors(folders.data), DEVICE, contributor.sense, _now, log)
            metering = Metering(contributor.snapshot, sensing, traffic, DEVICE)
            ending.contributor = contributor
            async with trio.open_nursery() as nursery:
                chats = Chats(
                    lambda: (preferences.current.chat_url, preferences.chat_key()), nursery, log
                )
                welcome = Welcome(
                    API, version, os.getpid(), str(folders.data), (*METHODS, *TOPICS), "run"
                )
                history = History(
                    folders.data,
                    lambda: reading(contributor.snapshot(), metering.view()),
                    time.time,
                    log,
                )
                models = Models(
                    folders,
                    preferences,
                    lambda: _running(contributor, worker),
                    lambda: hosts_by_tokenizer(hosts.all),
                    contributor.relocate,
                    lambda view: server.publish("models", view),
                    nursery,
                    log,
                )
                preferences.on_change(lambda _: models.changed())
                examination = partial(
                    Examination, folders, loaded=lambda: worker.loaded, flags=flags
                )
                diagnostics = Diagnostics(
                    folders,
                    version,
                    lambda: contributor.node_id,
                    lambda: examination().run(lambda finding: None),
                    contributor.snapshot,
                    log,
                )
                api = Api(
                    contributor,
                    preferences,
                    chats,
                    history,
                    models,
                    diagnostics,
                    log,
                    lambda wish: kept.write(wish, _now()),
                    sensing,
                    metering,
                    autostart,
                )
                server = ControlServer(welcome, api, log)
                nursery.start_soon(server.run, listener)
                nursery.start_soon(worker.run)
                nursery.start_soon(learnt.run)
                nursery.start_soon(traffic.run)
                nursery.start_soon(sensing.run)
                nursery.start_soon(history.run)
                nursery.start_soon(contributor.run)
                nursery.start_soon(
                    metering.run,
                    partial(server.publish, "meters"),
                    partial(server.is_watched, "meters"),
                )
                nursery.start_soon(
                    contributor.show, partial(server.publish, "state"), lambda: server.has_watchers
                )
                for signed in known.read(model.header.tok_fp):
                    hosts.found(signed.record, signed.value)
                nursery.start_soon(known.run)
                nursery.start_soon(_network, transport, hosts, model, ending)
                log.event("node.started", node=str(transport.me), data=str(folders.data))
                await contributor.quit.wait()
                with trio.CancelScope(shield=True):
                    await contributor.farewell()
                    await learnt.flush()
                    await traffic.save()
                    await history.close()
                    await server.flush()
                nursery.cancel_scope.cancel()


async def _network(transport: Transport, hosts: Hosts, model: Model, ending: _Ending) -> None:
    """Be a peer, look for hosts and serve them; a network that cannot start ends the node."""
    startup = Startup()

    async def be_a_peer() -> None:
        try:
            await transport.run(task_status=startup)
        except NexusError as error:
            ending.failure = error
            ending.ask()

    def report(found: Found) -> None:
        hosts.found(found.record, found.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_a_peer)
        await startup.wait()
        nursery.start_soon(hosts.run)
        await discover(
            transport.directory, (model.header.tok_fp,), report, has_host=lambda: hosts.served > 0
        )


async def _obey(signals: AsyncIterator[int], ending: _Ending) -> None:
    async for _ in signals:
        ending.ask()


def _worker_opener(threads: int) -> OpenWorker:
    return lambda: open_child(
        MODULE, FROM_WORKER, TO_WORKER, role="draft worker", environment=environment(threads)
    )


def _running(contributor: Contributor, worker: DraftWorker) -> Running:
    costs = worker.loaded.costs if worker.loaded is not None else ()
    speed = 1 / costs[0] if costs and costs[0] > 0 else None
    rss_bytes = worker.stats.rss_bytes if worker.pid else 0
    return Running(Path(contributor.model_path), speed, rss_bytes)


def _load(model: Model, settings: NodeSettings) -> Load:
    context = min(settings.context, model.header.context or settings.context)
    return Load(str(model.path), model.sha256, DEVICE, settings.threads, settings.sessions, context)


def _profile(seed: bytes, version: str, model: Model, settings: NodeSettings) -> Profile:
    header = model.header
    name = header.name or model.path.stem
    draft = DraftOffer(header.tok_fp, _cut(name, MAX_NAME_BYTES), header.vocabulary, header.ladder)
    return Profile(
        node_id=str(Identity(seed).peer),
        agent=_cut(f"nexusnode/{version}", MAX_AGENT_BYTES),
        model=f"{name} {header.quantisation}",
        model_path=str(model.path),
        draft=draft,
        memory_bytes=need_bytes(header, settings.sessions, settings.context),
    )


def _now() -> Moment:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Moment(time.clock_gettime(clock), time.time())


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")
