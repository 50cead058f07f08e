"""What `nexusnode doctor` looks at, each with what was found and what to do. Needs no daemon.

Every check has a deadline; none changes anything but that a missing identity is made.
"""

import importlib.util
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from nexusnode.daemon.model import Model, open_model
from nexusnode.daemon.preferences import Preferences
from nexusnode.draft.launch import MODULE, environment
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Fault, Load, Loaded
from nexusnode.models.fit import Fit, fitting
from nexusnode.models.store import ModelStore
from p2p.errors import ConfigError, ModelError, NexusError, PeerGone, ResourceError
from p2p.network.keyfile import load_or_create_seed
from p2p.paths import Folders, frozen_program, make_private, socket_path
from p2p.process.child import open_child
from p2p.wire.identity import Identity

PACKAGES = ("nexusnode", "p2p", "verifier_host", "gui")
WORKER_SECONDS = 60.0
REACH_SECONDS = 5.0
TRIAL_CONTEXT = 512
BANNER = b"\x13/multistream/1.0.0\n"  # what every libp2p peer says first
_ADDRESS = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d+)/p2p/([^/]+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `code` is the error's, empty if it is well; `fact` is a sentence for people."""

    name: str
    is_well: bool
    fact: str
    code: str = ""


Check = Callable[[], Awaitable[str]]


class Examination:
    """The checks in order; later ones use what earlier ones found."""

    def __init__(
        self,
        folders: Folders,
        origins: Callable[[str], Path | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folders = folders
        self._origins = origins or package_folder
        self._clock_now = clock
        self._model: Model | None = None
        self.node_id = ""

    async def run(self, tell: Callable[[Finding], None], only: str | None = None) -> list[Finding]:
        """Do every check, or `only` one, telling each finding as it is made."""
        checks: list[tuple[str, Check]] = [
            ("packages", self._packages),
            ("identity", self._identity),
            ("settings", self._settings),
            ("socket", self._socket),
            ("clock", self._clock),
            ("model", self._draft_model),
            ("memory", self._memory),
            ("draft worker", self._worker),
            ("network", self._network),
        ]
        findings = []
        for name, check in checks:
            if only not in (None, name):
                continue
            finding = await _find(name, check)
            findings.append(finding)
            tell(finding)
        return findings

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
        Preferences(self._folders, {})
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

    async def _draft_model(self) -> str:
        settings = Preferences(self._folders, {}).current
        self._model = await open_model(settings, ModelStore(self._folders.models))
        model = self._model
        return f"{model.path.name}, SHA-256 {model.sha256[:16]}…, {model.header.vocabulary} tokens"

    async def _memory(self) -> str:
        settings = Preferences(self._folders, {}).current
        found = fitting(self._usable_model().header, settings.sessions, settings.context)
        if found.fit is Fit.NO:
            raise ResourceError(found.sentence)
        return found.sentence

    async def _worker(self) -> str:
        model = self._usable_model()
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
        milliseconds = 1000 * answer.costs[0] if answer.costs else 0.0
        return f"llama.cpp loads it; {milliseconds:.1f} ms a token with {answer.threads} threads"

    async def _network(self) -> str:
        addresses = Preferences(self._folders, {}).current.bootstrap
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


async def _find(name: str, check: Check) -> Finding:
    try:
        return Finding(name, True, await check())
    except NexusError as error:
        return Finding(name, False, str(error), error.code)
