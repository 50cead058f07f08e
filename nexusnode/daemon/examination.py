"""What `nexusnode doctor` looks at, each with what was found and what to do. Needs no daemon.

Every check has a deadline; none changes anything but that a missing identity is made.
"""

import importlib.util
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import trio

from nexusnode.daemon.model import Model, open_model
from nexusnode.daemon.preferences import Preferences
from nexusnode.daemon.samples import FILE
from nexusnode.daemon.storage import free_bytes
from nexusnode.draft.launch import MODULE, environment
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Fault, Load, Loaded
from nexusnode.models.fit import Fit, fitting
from nexusnode.models.store import ModelStore
from nexusnode.settings import models_folder
from p2p.errors import ConfigError, ModelError, NexusError, PeerGone, ResourceError
from p2p.network.keyfile import load_or_create_seed
from p2p.paths import Folders, frozen_program, make_private, socket_path
from p2p.process.child import open_child
from p2p.wire.identity import Identity

PACKAGES = ("nexusnode", "p2p", "verifier_host", "gui")
WORKER_SECONDS = 60.0
REACH_SECONDS = 5.0
TRIAL_CONTEXT = 512
LOW_DISK_BYTES = 200_000_000  # chosen: settings and history are a few MB
DISK_RESERVE_BYTES = 5_000_000_000
BANNER = b"\x13/multistream/1.0.0\n"  # what every libp2p peer says first
_ADDRESS = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d+)/p2p/([^/]+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `code` is the error's, empty if it is well; the rest are sentences for people.

    `status` is well, note (works, but worth knowing) or ill. `meaning` says why it matters,
    `advice` what to do unless it is well.
    """

    name: str
    is_well: bool
    fact: str
    code: str = ""
    status: str = "well"
    meaning: str = ""
    advice: str = ""


class Note(str):
    """A fact that is no fault and worth knowing."""


@dataclass(frozen=True, slots=True)
class Check:
    """`look` returns the fact, or raises what is wrong."""

    name: str
    look: Callable[[], Awaitable[str]]
    meaning: str
    advice: str


class Examination:
    """The checks in order; later ones use what earlier ones found.

    Args:
        origins: says where a package lies.
        loaded: what a draft worker that runs has said; None = one is started to see.
        flags: settings of the command line that win over the file.
    """

    def __init__(
        self,
        folders: Folders,
        origins: Callable[[str], Path | None] | None = None,
        clock: Callable[[], float] = time.time,
        loaded: Callable[[], Loaded | None] = lambda: None,
        flags: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self._folders = folders
        self._loaded = loaded
        self._flags = flags
        self._origins = origins or package_folder
        self._clock_now = clock
        self._model: Model | None = None
        self.node_id = ""

    async def run(self, tell: Callable[[Finding], None], only: str | None = None) -> list[Finding]:
        """Do every check, or `only` one, telling each finding as it is made."""
        findings = []
        for check in self._checks():
            if only not in (None, check.name):
                continue
            finding = await _find(check)
            findings.append(finding)
            tell(finding)
        return findings

    def _checks(self) -> list[Check]:
        """The checks in order. Those of sensors belong after the clock's."""
        return [
            Check(
                "packages",
                self._packages,
                "Nexus' own parts must be of one installation.",
                "Install Nexus again, and remove what is in its way.",
            ),
            Check(
                "identity",
                self._identity,
                "Hosts know this node by a key that lies in its data folder.",
                "Make the data folder writable for you.",
            ),
            Check(
                "settings",
                self._settings,
                "A line that cannot be read keeps the node from starting.",
                "Mend that line, or delete it to get its default.",
            ),
            Check(
                "socket",
                self._socket,
                "Window and command line reach the node through it.",
                "Set XDG_RUNTIME_DIR to a shorter folder that is yours.",
            ),
            Check(
                "clock",
                self._clock,
                "Hosts' records are refused when clocks differ by more than two minutes.",
                "Turn on automatic time in the system's settings.",
            ),
            Check(
                "disk",
                self._disk,
                "Models, history and settings need room; some is always left to you.",
                "Free some space, or move the models to another disk.",
            ),
            Check(
                "history",
                self._history,
                "Plots come from it. A file that a crash or a failing disk damaged is put aside.",
                "If it happens again, look after the disk. The old one can be deleted.",
            ),
            Check(
                "model",
                self._draft_model,
                "Without a draft model there is nothing to guess with.",
                "Choose another model, or download this one again.",
            ),
            Check(
                "memory",
                self._memory,
                "A draft that does not fit slows the whole computer down.",
                "Close other programs, choose a smaller model, or lower limits.sessions.",
            ),
            Check(
                "draft worker",
                self._worker,
                "It runs the model in a process of its own.",
                "Choose another model; if every one fails, install Nexus again.",
            ),
            Check(
                "network",
                self._network,
                "Hosts are found through peers that are known already.",
                "See that this computer is online, and set hosts.bootstrap to peers that answer.",
            ),
        ]

    async def _packages(self) -> str:
        if program := frozen_program():
            return f"the packaged app in {program.parent}"
        folders = {name: self._origins(name) for name in PACKAGES}
        home = folders["nexusnode"]
        for name, folder in folders.items():
            if folder is None:
                raise ConfigError(f"the package {name} is missing: install the program again")
            if folder != home:
                raise ConfigError(
                    f"the package {name} comes from {folder}, the others from {home}:"
                    f" another program's {name} is in the way; remove it"
                )
        return f"all four come from {home}"

    async def _identity(self) -> str:
        seed = load_or_create_seed(self._folders.identity)
        self.node_id = str(Identity(seed).peer)
        return f"this node is {self.node_id}"

    async def _settings(self) -> str:
        Preferences(self._folders, self._flags)
        return f"{self._folders.config / 'node.toml'} can be used"

    async def _socket(self) -> str:
        make_private(self._folders.data)
        return str(socket_path(self._folders.data))

    async def _clock(self) -> str:
        """A host's record is refused when clocks differ by two minutes; a clock before the day this
        program was installed is certainly wrong."""
        installed = (frozen_program() or Path(__file__)).stat().st_mtime
        now = self._clock_now()
        text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
        if now < installed - 120:
            raise ConfigError(f"{text} is before this program was installed: set the clock")
        return f"{text}; it may be wrong by two minutes at most"

    async def _disk(self) -> str:
        folder = models_folder(self._folders, Preferences(self._folders, self._flags).current)
        free = await trio.to_thread.run_sync(free_bytes, folder)
        words = f"{free / 1e9:.1f} GB free where models lie ({folder})"
        if free < LOW_DISK_BYTES:
            raise ResourceError(words)
        return words if free >= DISK_RESERVE_BYTES else Note(f"{words}: too little for more models")

    async def _history(self) -> str:
        aside = sorted(path.name for path in self._folders.data.glob("damaged-*"))
        if aside:
            return Note(f"an older history lies in {self._folders.data / aside[-1]}")
        return f"kept in {self._folders.data / FILE}"

    async def _draft_model(self) -> str:
        settings = Preferences(self._folders, self._flags).current
        self._model = await open_model(settings, ModelStore(models_folder(self._folders, settings)))
        model = self._model
        return f"{model.path.name}, SHA-256 {model.sha256[:16]}…, {model.header.vocabulary} tokens"

    async def _memory(self) -> str:
        settings = Preferences(self._folders, self._flags).current
        found = fitting(self._usable_model().header, settings.sessions, settings.context)
        if found.fit is Fit.NO:
            raise ResourceError(found.sentence)
        return found.sentence

    async def _worker(self) -> str:
        model = self._usable_model()
        if (running := self._loaded()) is not None:
            return _costs(running)
        load = Load(str(model.path), model.sha256, "cpu", 0, 1, TRIAL_CONTEXT)
        answer: object = None
        with trio.move_on_after(WORKER_SECONDS):
            async with open_child(
                MODULE, FROM_WORKER, TO_WORKER, role="draft worker", environment=environment(0)
            ) as child:
                await child.send(load)
                answer = await child.receive()
        if isinstance(answer, Fault):
            raise ModelError(f"llama.cpp refuses it: {answer.text}")
        if not isinstance(answer, Loaded):
            raise ModelError(f"not loaded within {WORKER_SECONDS:.0f} s")
        return _costs(answer)

    async def _network(self) -> str:
        addresses = Preferences(self._folders, self._flags).current.bootstrap
        if not addresses:
            raise ConfigError("no bootstrap peer: give run --bootstrap, or set hosts.bootstrap")
        failures = []
        for address in addresses:
            try:
                await reach(address)
            except NexusError as error:
                failures.append(str(error))
        if len(failures) == len(addresses):
            raise PeerGone("; ".join(failures))
        return f"{len(addresses) - len(failures)} of {len(addresses)} bootstrap peers answer"

    def _usable_model(self) -> Model:
        if self._model is None:
            raise ModelError("there is no model to try")
        return self._model


def package_folder(name: str) -> Path | None:
    """Return the folder that holds the top-level package `name`, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve().parent.parent


async def reach(address: str) -> None:
    """See that a libp2p peer listens at a multiaddr. Whether it is the right one, its dialler
    sees."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65_535:
        raise ConfigError(f"{address}: expected such as /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…")
    try:
        with trio.fail_after(REACH_SECONDS):
            async with await trio.open_tcp_stream(match[2], int(match[3])) as stream:
                await stream.send_all(BANNER)
                answer = b""
                while len(answer) < len(BANNER):
                    data = await stream.receive_some(len(BANNER) - len(answer))
                    if not data:
                        break
                    answer += data
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        reason = getattr(error, "strerror", None) or f"no answer in {REACH_SECONDS:.0f} s"
        raise PeerGone(f"{address}: {reason}") from error
    if answer != BANNER:
        raise PeerGone(f"{address}: what answers there is no libp2p peer")


def summary(findings: Sequence[Finding]) -> str:
    ill = [finding.name for finding in findings if not finding.is_well]
    return f"needs attention: {', '.join(ill)}" if ill else "everything is ready"


def _costs(loaded: Loaded) -> str:
    milliseconds = 1000 * loaded.costs[0] if loaded.costs else 0.0
    return f"llama.cpp loads it; {milliseconds:.1f} ms a token with {loaded.threads} threads"


async def _find(check: Check) -> Finding:
    try:
        fact = await check.look()
    except NexusError as error:
        return Finding(
            check.name, False, str(error), error.code, "ill", check.meaning, check.advice
        )
    if isinstance(fact, Note):
        return Finding(check.name, True, str(fact), "", "note", check.meaning, check.advice)
    return Finding(check.name, True, fact, "", "well", check.meaning)
