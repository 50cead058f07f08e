"""Idle time by the Wayland protocol ext-idle-notify-v1, on a socket of our own.

The compositor says when nobody has touched anything for `WATCH_SECONDS`, and when somebody does
again; the time in between is counted here. Of version 2 the watch is used that a playing film does
not hold up; with version 1 a film keeps the machine in use, which is the safe side.
"""

import struct
from pathlib import Path
from typing import ClassVar

import trio

from nexusnode.sensors.sensor import CannotTell, Environment, Kind, Reading

WATCH_SECONDS = 1.0
_DISPLAY, _REGISTRY, _CALLBACK, _SEAT, _NOTIFIER, _WATCH, _SYNC = range(1, 8)
_MAX_MESSAGE = 1 << 16


class IdleWayland:
    """Events since the last reading are taken up to the answer of a `sync`."""

    name: ClassVar[str] = "Wayland"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._stream: trio.SocketStream | None = None
        self._idle_since: float | None = None

    async def read(self) -> Reading:
        if self._stream is None:
            self._stream = await trio.open_unix_socket(str(_socket(self._environment)))
            self._idle_since = None
            await self._watch()
        await self._synchronise(_SYNC)
        seconds = 0.0 if self._idle_since is None else trio.current_time() - self._idle_since
        return Reading(f"The last input was {seconds:.0f} s ago.", idle_seconds=seconds)

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _watch(self) -> None:
        globals_: dict[str, tuple[int, int]] = {}
        await self._send(_DISPLAY, 1, struct.pack("<I", _REGISTRY))
        await self._synchronise(_CALLBACK, globals_)
        if not {"ext_idle_notifier_v1", "wl_seat"} <= set(globals_):
            raise CannotTell("This Wayland compositor does not tell when you are idle.")
        version = min(globals_["ext_idle_notifier_v1"][1], 2)
        await self._bind("wl_seat", globals_["wl_seat"][0], 1, _SEAT)
        await self._bind(
            "ext_idle_notifier_v1", globals_["ext_idle_notifier_v1"][0], version, _NOTIFIER
        )
        watch = struct.pack("<III", _WATCH, round(WATCH_SECONDS * 1000), _SEAT)
        await self._send(_NOTIFIER, 2 if version >= 2 else 1, watch)

    async def _bind(self, interface: str, name: int, version: int, new: int) -> None:
        text = interface.encode() + b"\0"
        head = struct.pack("<II", name, len(text)) + text + bytes(-len(text) % 4)
        await self._send(_REGISTRY, 0, head + struct.pack("<II", version, new))

    async def _synchronise(
        self, callback: int, globals_: dict[str, tuple[int, int]] | None = None
    ) -> None:
        """Take events until the compositor has answered everything, and freed the callback's id."""
        await self._send(_DISPLAY, 0, struct.pack("<I", callback))
        is_done = False
        while True:
            target, opcode, body = await self._event()
            match target, opcode:
                case (1, 0):
                    raise CannotTell("The Wayland compositor refused what was asked.")
                case (1, 1) if is_done and struct.unpack_from("<I", body)[0] == callback:
                    return
                case (2, 0) if globals_ is not None:
                    name, size = struct.unpack_from("<II", body)
                    interface = body[8 : 7 + size].decode("ascii", "replace")
                    version = struct.unpack_from("<I", body, 8 + size + -size % 4)[0]
                    globals_.setdefault(interface, (name, version))
                case (target, 0) if target == callback:
                    is_done = True
                case (6, 0):
                    self._idle_since = trio.current_time() - WATCH_SECONDS
                case (6, 1):
                    self._idle_since = None
                case _:
                    pass

    async def _send(self, target: int, opcode: int, body: bytes) -> None:
        assert self._stream is not None
        await self._stream.send_all(struct.pack("<IHH", target, opcode, 8 + len(body)) + body)

    async def _event(self) -> tuple[int, int, bytes]:
        target, opcode, size = struct.unpack("<IHH", await self._exactly(8))
        if not 8 <= size <= _MAX_MESSAGE:
            raise CannotTell("The Wayland compositor says something that is no Wayland.")
        return target, opcode, await self._exactly(size - 8)

    async def _exactly(self, size: int) -> bytes:
        assert self._stream is not None
        data = bytearray()
        while len(data) < size:
            try:
                part = await self._stream.receive_some(size - len(data))
            except trio.BrokenResourceError as error:
                raise CannotTell("The Wayland compositor ended the connection.") from error
            if not part:
                raise CannotTell("The Wayland compositor ended the connection.")
            data += part
        return bytes(data)


def _socket(environment: Environment) -> Path:
    """Return the compositor's socket; a user service may not have been told which."""
    runtime = Path(environment.get("XDG_RUNTIME_DIR", "/nonexistent"))
    name = environment.get("WAYLAND_DISPLAY")
    if name:
        return runtime / name  # an absolute name stays what it is
    if environment.get("DISPLAY"):
        raise CannotTell("This is no Wayland session.")
    found = sorted(path for path in runtime.glob("wayland-*") if path.is_socket())
    if not found:
        raise CannotTell("No Wayland compositor runs here.")
    return found[0]
