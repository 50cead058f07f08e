"""Every error the house raises on purpose, branched by whose fault it is.

A class has a stable dotted `code`. What a code means to an HTTP client, a shell and a peer stands
in one place, `ANSWERS`, so that the same failure never reads differently at two doors. A bug is
none of these: the guard (`p2p/process/guard.py`) logs it and ends the task's owner.
"""

from dataclasses import dataclass
from typing import ClassVar


class NexusError(Exception):
    """Anything that failed for a reason a person can read and act upon."""

    code: ClassVar[str] = "internal"


# A peer's fault: counted, told by wire code, stream ended or block refused.


class PeerError(NexusError):
    """A peer sent what the protocol forbids. The message never holds the peer's bytes."""

    code = "peer"


class BadLength(PeerError):
    code = "frame.length"


class MalformedFrame(PeerError):
    code = "frame.malformed"


class UnknownFrame(PeerError):
    code = "frame.unknown-type"


class UnexpectedFrame(PeerError):
    code = "frame.state"


class BadSignature(PeerError):
    code = "chain.signature"


class BadGuessId(PeerError):
    code = "session.node-id"


class BadPosition(PeerError):
    code = "session.position"


class BadToken(PeerError):
    code = "session.token"


class OverBudget(PeerError):
    code = "session.over-budget"


class Desync(PeerError):
    code = "session.desync"


class Flood(PeerError):
    code = "peer.flood"


class SlowPeer(PeerError):
    code = "peer.slow"


class Incompatible(PeerError):
    """Versions, tokenizers or noise specifications have nothing in common."""

    code = "model.incompatible"


class NotInvited(PeerError):
    code = "peer.policy"


class PeerBusy(PeerError):
    code = "peer.busy"


class BadRecord(PeerError):
    code = "record.malformed"


class PeerGone(NexusError):
    """The link to a peer ended: nobody's fault, or nobody's we can prove."""

    code = "peer.gone"


class DialFailed(NexusError):
    """No link to a peer could be made."""

    code = "peer.dial"


# A client's fault.


class RequestError(NexusError):
    """A request that cannot be served as asked: HTTP 4xx; `param` names the field."""

    code = "request.invalid"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedParameter(RequestError):
    code = "request.unsupported-parameter"


class ContextTooLong(RequestError):
    code = "request.context-length-exceeded"


class BadKey(RequestError):
    code = "request.invalid-api-key"


class ModelNotAllowed(RequestError):
    code = "request.model-not-allowed"


class UnknownModel(RequestError):
    code = "request.model-not-found"


class UnknownPath(RequestError):
    code = "request.not-found"


class MethodNotAllowed(RequestError):
    code = "request.method-not-allowed"


class BodyTooLarge(RequestError):
    code = "request.body-too-large"


class UnsupportedMedia(RequestError):
    code = "request.unsupported-media-type"


class TooManyRequests(RequestError):
    """The key's own limit, or the host's: `retry_seconds` says when to come again."""

    code = "request.rate-limit-exceeded"

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class Overloaded(TooManyRequests):
    code = "request.overloaded"


# The configuration's fault.


class ConfigError(NexusError):
    """A setting that cannot be used; the message names file, line and key."""

    code = "config"


class UsageError(NexusError):
    """A command line that cannot be obeyed."""

    code = "usage"


class ControlError(NexusError):
    """A call on the control socket that was refused; `refusal` is its dotted code."""

    code = "control"

    def __init__(self, message: str, refusal: str = "control.bad-request") -> None:
        super().__init__(message)
        self.refusal = refusal


class NoDaemon(NexusError):
    """No node daemon answers for this data folder."""

    code = "control.no-daemon"


class AlreadyRunning(NexusError):
    """Another process owns this data folder."""

    code = "control.already-running"


# This machine's fault.


class ModelError(NexusError):
    """A model file or tokenizer that cannot be used; the message names it and says why."""

    code = "model"


class DownloadError(NexusError):
    """A download that failed: network, size or hash."""

    code = "download"


class ResourceError(NexusError):
    """Memory, disk or a device is short; the message says of what and how much."""

    code = "resource"


class ChildError(NexusError):
    """A child process ended or went silent: role, exit and its last lines are in the message."""

    code = "child"


class Unavailable(NexusError):
    """Not now, but soon: no host, or the engine is restarting. `retry_seconds` is an estimate."""

    code = "unavailable"

    def __init__(self, message: str, retry_seconds: float = 5.0) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """How one code is answered at each door: HTTP status, process exit status, wire ERROR code."""

    http: int = 500
    exit: int = 1
    wire: int = 16


# Exit: 0 ok, 1 bug, 2 usage, 3 configuration, 4 no daemon, 5 no host, 6 model, 7 resource.
# Wire: docs/protocol.md, section 6.
ANSWERS: dict[str, Answer] = {
    "frame.length": Answer(wire=1),
    "chain.signature": Answer(wire=2),
    "frame.malformed": Answer(wire=3),
    "frame.unknown-type": Answer(wire=4),
    "frame.state": Answer(wire=5),
    "session.node-id": Answer(wire=6),
    "session.position": Answer(wire=7),
    "session.token": Answer(wire=8),
    "session.over-budget": Answer(wire=9),
    "model.incompatible": Answer(exit=6, wire=10),
    "peer.policy": Answer(wire=11),
    "peer.busy": Answer(wire=12),
    "peer.flood": Answer(wire=13),
    "peer.slow": Answer(wire=14),
    "session.desync": Answer(wire=15),
    "peer.gone": Answer(exit=5),
    "peer.dial": Answer(exit=5),
    "request.invalid": Answer(http=400, exit=2),
    "request.unsupported-parameter": Answer(http=400, exit=2),
    "request.context-length-exceeded": Answer(http=400, exit=2),
    "request.invalid-api-key": Answer(http=401, exit=2),
    "request.model-not-allowed": Answer(http=403, exit=2),
    "request.model-not-found": Answer(http=404, exit=2),
    "request.not-found": Answer(http=404, exit=2),
    "request.method-not-allowed": Answer(http=405, exit=2),
    "request.body-too-large": Answer(http=413, exit=2),
    "request.unsupported-media-type": Answer(http=415, exit=2),
    "request.rate-limit-exceeded": Answer(http=429, exit=5),
    "request.overloaded": Answer(http=429, exit=5),
    "unavailable": Answer(http=503, exit=5),
    "config": Answer(exit=3),
    "usage": Answer(exit=2),
    "control": Answer(exit=2),
    "control.no-daemon": Answer(exit=4),
    "control.already-running": Answer(exit=4),
    "model": Answer(exit=6),
    "download": Answer(exit=6),
    "resource": Answer(http=503, exit=7),
}


def answer(error: BaseException) -> Answer:
    """Return how `error` is answered; what is not ours counts as a bug (500, 1, 16)."""
    return ANSWERS.get(error.code, Answer()) if isinstance(error, NexusError) else Answer()
