"""A connection to an X server of our own, on a trio socket: C libraries block, this one cannot.

Speaks the few requests that the sensors need (X Window System Protocol, X11R6.8; MIT-SCREEN-SAVER
1.0).
"""

import struct
from pathlib import Path
from typing import Self

import trio

from nexusnode.sensors.sensor import CannotTell, Environment

SOCKETS = Path("/tmp/.X11-unix")
_QUERY_EXTENSION, _INTERN_ATOM, _GET_PROPERTY = 98, 16, 20
_COOKIE = b"MIT-MAGIC-COOKIE-1"
_MAX_REPLY_BYTES = 1 << 20
_MAX_WORDS = 1024  # of a property


class X11:
    """One connection. `XError` is what the server refuses; `CannotTell` ends the connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._atoms: dict[str, int] = {}
        self.root = 0

    @classmethod
    async def open(cls, environment: Environment) -> Self:
        """Connect to the display of this session; refuses one that does not see all input."""
        if environment.get("WAYLAND_DISPLAY") or environment.get("XDG_SESSION_TYPE") == "wayland":
            raise CannotTell("This is a Wayland session: its X server does not see all input.")
        display = environment.get("DISPLAY", "")
        number = display.removeprefix("unix").removeprefix(":").partition(".")[0]
        if not number.isdigit():
            raise CannotTell("No X display of this computer is named in DISPLAY.")
        found = cls(await trio.open_unix_socket(str(SOCKETS / f"X{number}")))
        try:
            await found._greet(*_cookie(environment, number))
            if await found.extension("XWAYLAND"):
                raise CannotTell("This X server is Xwayland: it does not see all input.")
        except BaseException:
            await trio.aclose_forcefully(found._stream)
            raise
        return found

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def extension(self, name: str) -> int:
        """Return the major opcode of an extension, 0 if there is none."""
        text = name.encode()
        reply = await self.ask(struct.pack("<BxHHxx", _QUERY_EXTENSION, 0, len(text)) + text)
        return reply[9] if reply[8] else 0

    async def atom(self, name: str) -> int:
        if name not in self._atoms:
            text = name.encode()
            request = struct.pack("<BBHHxx", _INTERN_ATOM, 0, 0, len(text)) + text
            self._atoms[name] = int(struct.unpack_from("<I", await self.ask(request), 8)[0])
        return self._atoms[name]

    async def words(self, window: int, name: str) -> tuple[int, ...]:
        """Return a property of 32-bit values, () if the window has none."""
        request = struct.pack(
            "<BBHIIIII", _GET_PROPERTY, 0, 0, window, await self.atom(name), 0, 0, _MAX_WORDS
        )
        reply = await self.ask(request)
        count = struct.unpack_from("<I", reply, 16)[0] if reply[1] == 32 else 0
        return struct.unpack_from(f"<{count}I", reply, 32)

    async def ask(self, request: bytes) -> bytes:
        """Send a request, its length filled in here, and return the reply."""
        request += bytes(-len(request) % 4)
        await self._stream.send_all(
            request[:2] + struct.pack("<H", len(request) // 4) + request[4:]
        )
        while True:
            head = await self._exactly(32)
            if head[0] == 1:
                return head + await self._exactly(4 * struct.unpack_from("<I", head, 4)[0])
            if head[0] == 0:
                raise XError(f"X error {head[1]}")

    async def _greet(self, name: bytes, cookie: bytes) -> None:
        await self._stream.send_all(
            struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(name), len(cookie))
            + name + bytes(-len(name) % 4) + cookie + bytes(-len(cookie) % 4)
        )  # fmt: skip
        head = await self._exactly(8)
        body = await self._exactly(4 * struct.unpack_from("<H", head, 6)[0])
        if head[0] != 1:
            raise CannotTell("The X server does not let this program in.")
        vendor, formats = struct.unpack_from("<H", body, 16)[0], body[21]
        place = 32 + vendor + -vendor % 4 + 8 * formats
        self.root = struct.unpack_from("<I", body, place)[0]

    async def _exactly(self, size: int) -> bytes:
        if size > _MAX_REPLY_BYTES:
            raise CannotTell("The X server says more than was asked for.")
        data = bytearray()
        while len(data) < size:
            try:
                part = await self._stream.receive_some(size - len(data))
            except trio.BrokenResourceError as error:
                raise CannotTell("The X server ended the connection.") from error
            if not part:
                raise CannotTell("The X server ended the connection.")
            data += part
        return bytes(data)


class XError(CannotTell):
    """The server refused one request: a window that is gone, for instance."""


def _cookie(environment: Environment, number: str) -> tuple[bytes, bytes]:
    """Return name and data of the display's secret (Xau file format), both empty if there is
    none."""
    path = Path(environment.get("XAUTHORITY") or Path.home() / ".Xauthority")
    try:
        data = path.read_bytes()
        place = 0
        while place < len(data):
            fields = []
            place += 2  # the family: a display of this machine is told by its number
            for _ in range(4):
                size = struct.unpack_from(">H", data, place)[0]
                fields.append(data[place + 2 : place + 2 + size])
                place += 2 + size
            if fields[2] == _COOKIE and fields[1].decode("ascii", "replace") in ("", number):
                return _COOKIE, fields[3]
    except (OSError, struct.error):
        pass
    return b"", b""
