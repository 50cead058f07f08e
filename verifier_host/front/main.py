"""The host's process: engine, API, metrics and network in one nursery; closing it ends them all."""

import json
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
from starlette.applications import Starlette

from p2p.errors import NexusError
from p2p.log import Log
from p2p.network.keyfile import load_or_create_seed
from p2p.network.peer import Libp2pTransport
from p2p.paths import Folders, make_private, write_private
from p2p.process.guard import guard
from p2p.process.metrics import serve_metrics
from verifier_host.api.app import make_app
from verifier_host.api.keys import KeyBook
from verifier_host.config import HostConfig
from verifier_host.front.drafters import Drafters
from verifier_host.front.engine_client import MODULE, EngineClient
from verifier_host.front.generations import Generations
from verifier_host.front.hosting import Hosting, Served, served
from verifier_host.front.http import serve_http
from verifier_host.front.metrics import HostMetrics
from verifier_host.front.text import Text
from verifier_host.front.vocabulary import load_vocabulary
from verifier_host.messages import Load
from verifier_host.targets import Target, describe, find_target

KEYS_FILE = "keys"


async def serve(
    config: HostConfig,
    folders: Folders,
    log: Log,
    *,
    address_file: Path | None = None,
    engine_module: str = MODULE,
    engine_path: str | None = None,
) -> None:
    """Run the host until cancelled.

    Args:
        address_file: gets a JSON object of all addresses once the sockets listen; the engine may
            still be loading then (`/ready` says 503).
        engine_module, engine_path: another engine than the target's own.

    Raises:
        ConfigError, ModelError, ResourceError, ChildError: this host cannot be run as configured.
    """
    make_private(folders.data)
    target = await trio.to_thread.run_sync(find_target, config.model_path, config.model_name)
    facts = await trio.to_thread.run_sync(describe, target)
    vocabulary = await trio.to_thread.run_sync(load_vocabulary, target)
    metrics = HostMetrics(target.name)
    engine = EngineClient(_load(config, target, engine_path), log, engine_module)
    drafters = Drafters(engine.send, config.nodes_per_session)
    generations = Generations(
        Text(vocabulary),
        engine,
        drafters,
        metrics,
        name=target.name,
        drafting=config.drafting,
        max_tokens=config.max_tokens,
        waiting=config.waiting,
        wait_seconds=config.wait_seconds,
    )
    hosting = None
    if config.drafting != "off":
        network = await trio.to_thread.run_sync(served, target, facts.quantisation, vocabulary)
        hosting = _hosting(config, folders, drafters, network, metrics, log)
    keys = KeyBook(folders.data / KEYS_FILE) if config.keys_required else None
    app = make_app(generations, keys, log, metrics.refused)
    async with trio.open_nursery() as nursery:
        parts = _Parts(nursery, log)
        parts.start("engine", lambda: engine.run(generations))
        parts.start("speech", generations.speak)
        parts.start("time", generations.keep_time)
        sockets = _Sockets(config, target.name, app, metrics, hosting, address_file)
        parts.start("front", partial(_serve_sockets, sockets, log))
    if parts.failure is not None:
        raise parts.failure


async def serve_until_signal(serve_host: Callable[[], Awaitable[None]], log: Log) -> None:
    """Run `serve_host` until SIGINT or SIGTERM, and end it in order."""
    async with trio.open_nursery() as nursery:
        parts = _Parts(nursery, log)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            parts.start("host", serve_host)
            async for number in signals:
                log.event("host.stopping", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()
                break
    if parts.failure is not None:
        raise parts.failure


class _Parts:
    """The tasks of a host: when one ends, all do, and the first error is the host's."""

    def __init__(self, nursery: trio.Nursery, log: Log) -> None:
        self._nursery = nursery
        self._log = log
        self.failure: NexusError | None = None

    def start(self, name: str, task: Callable[[], Awaitable[object]]) -> None:
        async def part() -> None:
            await guard(self._log, name, task, on_end=partial(self._on_end, name))

        self._nursery.start_soon(part)

    def _on_end(self, name: str, error: BaseException | None) -> None:
        self._nursery.cancel_scope.cancel()
        if error is not None and self.failure is None:
            if not isinstance(error, NexusError):
                error = NexusError(f"{name} failed by a bug; the log above says more")
            self.failure = error


@dataclass(frozen=True, slots=True)
class _Sockets:
    """What is behind each address."""

    config: HostConfig
    model: str
    app: Starlette
    metrics: HostMetrics
    hosting: Hosting | None
    address_file: Path | None


async def _serve_sockets(sockets: _Sockets, log: Log) -> None:
    """Listen everywhere, say where, and part from the nodes at the end."""
    api, hosting = sockets.config.api, sockets.hosting
    metrics = sockets.config.metrics
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        if hosting is not None:
            await _enter_network(hosting, nursery, stack)
        measured = await stack.enter_async_context(
            serve_metrics(sockets.metrics.registry, metrics.host, metrics.port)
        )
        port = await stack.enter_async_context(serve_http(sockets.app, api.host, api.port))
        addresses = {
            "api": api.url(port),
            "metrics": metrics.url(measured),
            "model": sockets.model,
            "peer": hosting.addresses if hosting else [],
        }
        log.event("host.listening", api=api.url(port), metrics=metrics.url(measured))
        if sockets.address_file is not None:
            write_private(sockets.address_file, json.dumps(addresses).encode())
        await trio.sleep_forever()


async def _enter_network(hosting: Hosting, nursery: trio.Nursery, stack: AsyncExitStack) -> None:
    """Start to host, and have `stack` end it: shielded, so that goodbyes are still written."""
    listening = trio.Event()
    scope = trio.CancelScope(shield=True)

    async def run() -> None:
        with scope:
            await hosting.run(listening.set)

    async def part() -> None:
        with trio.CancelScope(shield=True):
            await hosting.part()
        scope.cancel()

    stack.push_async_callback(part)
    nursery.start_soon(run)
    await listening.wait()


def _hosting(
    config: HostConfig,
    folders: Folders,
    drafters: Drafters,
    network: Served,
    metrics: HostMetrics,
    log: Log,
) -> Hosting:
    seed = load_or_create_seed(folders.identity)
    transport = Libp2pTransport(
        seed,
        listen=config.listen,
        announce=config.announce,
        bootstrap=config.bootstrap,
        server=True,
    )
    return Hosting(
        seed,
        transport,
        drafters,
        network,
        metrics,
        log,
        allowed=config.allow_nodes if config.drafting == "allowlist" else None,
        max_nodes=config.max_nodes,
        max_nodes_per_address=config.max_nodes_per_address,
    )


def _load(config: HostConfig, target: Target, engine_path: str | None) -> Load:
    return Load(
        path=engine_path or str(target.path),
        name=target.name,
        dtype=config.dtype,
        threads=config.threads,
        kv_tokens=config.kv_tokens,
        max_context=config.max_context,
        max_rows=config.max_rows,
        debug=False,
        ngram=config.ngram,
        drafts_always=config.drafts_always,
    )
