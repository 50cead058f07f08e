"""A report for whoever helps the user: shown first, then written exactly as it was shown.

No keys, no chats, no addresses of others; the home folder is ~. It leaves this machine only by the
user's own hand.
"""

import io
import json
import platform
import sys
import zipfile
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import trio

from nexusnode.control.messages import Finding as FindingView
from nexusnode.control.messages import (
    LogLines,
    LogQuery,
    Report,
    ReportFile,
    Snapshot,
    Written,
)
from nexusnode.daemon.examination import Finding
from nexusnode.daemon.export import write_chosen
from nexusnode.daemon.redaction import Redactor
from nexusnode.settings import CHAT_KEY_FILE, FILE
from p2p.errors import ControlError
from p2p.log import Log
from p2p.paths import Folders

MAX_FILE_BYTES = 60_000  # below what one answer may hold of a file
_TAIL_BYTES = 400_000
_ANSWER_BYTES = 900_000  # of a frame of 1 MiB
_LINE_BYTES = 1000
LEVELS = ("debug", "info", "warning", "error")
_SECRET_BYTES = 4096


class Diagnostics:
    """Makes reports. `examine` gives the doctor's findings, `snapshot` what the node does.

    Args:
        node_id: stays in the report: the user's own.
    """

    def __init__(
        self,
        folders: Folders,
        version: str,
        node_id: Callable[[], str],
        examine: Callable[[], Awaitable[Sequence[Finding]]],
        snapshot: Callable[[], Snapshot | None],
        log: Log,
    ) -> None:
        self._folders = folders
        self._version = version
        self._node_id = node_id
        self.examine = examine
        self._snapshot = snapshot
        self._log = log
        self._shown: Report | None = None

    async def preview(self) -> Report:
        """Make a report and return everything that it contains."""
        findings = await self.examine()
        snapshot = self._snapshot()
        self._shown = await trio.to_thread.run_sync(self._collect, findings, snapshot)
        return self._shown

    async def write(self, path: str) -> Written:
        """Write the report that was shown last, as a zip; one that nobody saw is made first."""
        report = self._shown or await self.preview()
        size = await trio.to_thread.run_sync(write_chosen, path, [_zipped(report)])
        return Written(str(Path(path).expanduser()), size)

    def _collect(self, findings: Sequence[Finding], snapshot: Snapshot | None) -> Report:
        kept = [self._node_id(), snapshot.tok_fp if snapshot is not None else ""]
        redactor = Redactor(str(Path.home()), kept, self._secrets())
        texts = {
            "system.txt": self._system(),
            "doctor.txt": _doctor(findings),
            "state.json": _state(snapshot),
            "settings.toml": _read_tail(self._folders.config / FILE),
            "log.txt": "\n".join(event.line() for event in self._log.recent()),
            **self._log_files(),
        }
        files = []
        for name, text in texts.items():
            cleaned = _last_bytes(redactor.clean(text), MAX_FILE_BYTES)
            files.append(ReportFile(name, len(cleaned.encode()), cleaned))
        return Report(tuple(files))

    def _secrets(self) -> list[str]:
        """Return what may stand nowhere; in the settings it never should."""
        return [_read_tail(self._folders.data / CHAT_KEY_FILE, _SECRET_BYTES).strip()]

    def _system(self) -> str:
        memory = psutil.virtual_memory()
        lines = [
            f"nexusnode {self._version}, Python {platform.python_version()}",
            f"{platform.system()} {platform.release()} {platform.machine()}",
            f"{psutil.cpu_count(logical=False)} cores, {psutil.cpu_count()} threads",
            f"memory {memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free",
            f"data {self._folders.data}",
            f"packaged {getattr(sys, 'frozen', False)}",
        ]
        return "\n".join(lines)

    def _log_files(self) -> dict[str, str]:
        """Return the ends of the files in the log folder: an earlier run is only there."""
        try:
            paths = sorted(self._folders.logs.glob("*.log"))[:8]
        except OSError:
            return {}
        return {f"logs/{path.name}"[:60]: _read_tail(path) for path in paths}


def tail(log: Log, query: LogQuery) -> LogLines:
    """Return the last lines of a log at a level or above, as many as fit in one answer.

    Raises:
        ControlError: there is no such level.
    """
    if query.level not in LEVELS:
        raise ControlError(f"log: the level is one of {', '.join(LEVELS)}")
    wanted = LEVELS[LEVELS.index(query.level) :]
    events = [event for event in log.recent() if event.level.lower() in wanted]
    lines: deque[str] = deque()
    left = _ANSWER_BYTES
    for event in reversed(events[-query.lines :]):
        line = event.line().encode()[:_LINE_BYTES].decode(errors="ignore")
        left -= len(line.encode()) + 5
        if left < 0:
            break
        lines.appendleft(line)
    return LogLines(tuple(lines))


def shown(finding: Finding) -> FindingView:
    """Return a finding as the control API carries it."""
    texts = (finding.fact, finding.meaning, finding.advice)
    return FindingView(finding.name, finding.status, *(text[:_LINE_BYTES] for text in texts))


def _state(snapshot: Snapshot | None) -> str:
    if snapshot is None:
        return "the node does not run"
    hosts = tuple(replace(host, address="<address>") for host in snapshot.hosts)
    return json.dumps(asdict(replace(snapshot, hosts=hosts)), indent=1)


def _doctor(findings: Sequence[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:5} {finding.name}: {finding.fact}")
        if finding.advice:
            lines.append(f"      {finding.meaning} {finding.advice}")
    return "\n".join(lines)


def _read_tail(path: Path, size: int = _TAIL_BYTES) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read(size).decode(errors="replace")
    except OSError as error:
        return f"({error.strerror})" if not isinstance(error, FileNotFoundError) else ""


def _last_bytes(text: str, size: int) -> str:
    return text.encode()[-size:].decode(errors="ignore")


def _zipped(report: Report) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in report.files:
            archive.writestr(file.name, file.text)
    return data.getvalue()
