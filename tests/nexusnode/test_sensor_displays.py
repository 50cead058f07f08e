"""Displays: a real X server with real input, and a Wayland compositor of one page."""

import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from nexusnode.sensors.fullscreen_x11 import FullscreenX11
from nexusnode.sensors.idle_wayland import IdleWayland
from nexusnode.sensors.idle_x11 import IdleX11
from nexusnode.sensors.sensor import CannotTell
from nexusnode.sensors.x11 import X11

pytestmark = pytest.mark.slow


@contextmanager
def xvfb(*flags: str) -> Iterator[str]:
    """Run an X server on a free display; yield its name."""
    inner, outer = os.pipe()
    command = ["Xvfb", "-displayfd", str(outer), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    server = subprocess.Popen(
        [*command, *flags], pass_fds=(outer,), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    os.close(outer)
    try:
        with os.fdopen(inner) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    with xvfb() as found:
        yield found


def xdotool(display: str, *words: str) -> None:
    environment = {**os.environ, "DISPLAY": display}
    subprocess.run(["xdotool", *words], env=environment, check=True, timeout=20)


async def test_a_real_x_server_counts_until_somebody_moves_the_mouse(display: str) -> None:
    sensor = IdleX11({"DISPLAY": display})
    try:
        xdotool(display, "mousemove", "10", "10")
        moved = time.monotonic()
        while ((await sensor.read()).idle_seconds or 0) < 0.3:
            assert time.monotonic() - moved < 10
        before = (await sensor.read()).idle_seconds or 0

        xdotool(display, "mousemove", "200", "200")
        after = (await sensor.read()).idle_seconds

        assert 0.3 <= before <= time.monotonic() - moved
        assert after is not None
        assert after < before
    finally:
        await sensor.close()


async def test_a_sensor_whose_server_ends_says_so_and_finds_the_next(tmp_path: Path) -> None:
    with xvfb() as name:
        sensor = IdleX11({"DISPLAY": name})
        await sensor.read()
    with pytest.raises((CannotTell, OSError, trio.BrokenResourceError)):
        await sensor.read()
    await sensor.close()
    with pytest.raises(FileNotFoundError):
        await sensor.read()


async def test_a_server_with_a_secret_lets_in_who_has_it(tmp_path: Path) -> None:
    secret = tmp_path / "authority"
    fields = (b"host", b"", b"MIT-MAGIC-COOKIE-1", bytes(range(16)))
    entry = b"".join(struct.pack(">H", len(field)) + field for field in fields)
    secret.write_bytes(struct.pack(">H", 256) + entry)
    (tmp_path / "none").write_bytes(b"")

    with xvfb("-auth", str(secret)) as name:
        knows = IdleX11({"DISPLAY": name, "XAUTHORITY": str(secret)})
        stranger = IdleX11({"DISPLAY": name, "XAUTHORITY": str(tmp_path / "none")})

        assert (await knows.read()).idle_seconds is not None
        with pytest.raises(CannotTell, match="let"):
            await stranger.read()
        await knows.close()


async def test_a_window_that_fills_the_screen_is_seen(display: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DISPLAY": display, "HOME": str(tmp_path)}
    sensor = FullscreenX11({"DISPLAY": display})
    assert (await sensor.read()).fullscreen is False
    manager = subprocess.Popen(
        ["openbox"], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    server = await X11.open({"DISPLAY": display})
    with trio.fail_after(20):
        while not await server.words(server.root, "_NET_SUPPORTING_WM_CHECK"):
            await trio.sleep(0.02)
    await server.close()
    window = subprocess.Popen(
        ["/usr/bin/python3", "-c", _WINDOW], env=environment, stdin=subprocess.PIPE
    )
    try:
        with trio.fail_after(20):
            while not (await sensor.read()).fullscreen:
                await trio.sleep(0.02)
        window.kill()
        window.wait()
        with trio.fail_after(20):
            while (await sensor.read()).fullscreen:
                await trio.sleep(0.02)
    finally:
        await sensor.close()
        for process in (window, manager):
            process.kill()
            process.wait()


# Asks the window manager to make an ordinary window fill the screen (EWMH).
_WINDOW = """
import ctypes as c
x = c.CDLL("libX11.so.6")
x.XOpenDisplay.restype = c.c_void_p
x.XInternAtom.restype = x.XCreateSimpleWindow.restype = x.XDefaultRootWindow.restype = c.c_ulong
d, none = c.c_void_p(x.XOpenDisplay(None)), c.c_ulong(0)
root = c.c_ulong(x.XDefaultRootWindow(d))
w = c.c_ulong(x.XCreateSimpleWindow(d, root, 0, 0, 100, 100, 0, none, none))
state = c.c_ulong(x.XInternAtom(d, b"_NET_WM_STATE", 0))
full = c.c_ulong(x.XInternAtom(d, b"_NET_WM_STATE_FULLSCREEN", 0))
x.XChangeProperty(d, w, state, c.c_ulong(4), 32, 0, c.byref(full), 1)
x.XMapWindow(d, w)
x.XSync(d, 0)
input()
"""


class Compositor:
    """Speaks as much Wayland as the sensor hears: globals, sync, and idle events when told."""

    def __init__(
        self, path: Path, version: int = 1, interface: str = "ext_idle_notifier_v1"
    ) -> None:
        self.path = path
        self.globals = [(7, "wl_seat", 5), (9, interface, version)]
        self.watched: tuple[int, ...] = ()
        self.says: list[bytes] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as sock:
            await sock.bind(str(self.path))
            sock.listen()
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(sock)])

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = b""
        async for part in stream:
            data += part
            while len(data) >= 8:
                target, opcode, size = struct.unpack_from("<IHH", data)
                if len(data) < size:
                    break
                body, data = data[8:size], data[size:]
                await stream.send_all(self._answer(target, opcode, body))

    def _answer(self, target: int, opcode: int, body: bytes) -> bytes:
        if (target, opcode) == (1, 1):
            return b"".join(_global(*one) for one in self.globals)
        if (target, opcode) == (1, 0):
            (callback,) = struct.unpack("<I", body)
            said, self.says = b"".join(self.says), []
            return said + _event(callback, 0, bytes(4)) + _event(1, 1, struct.pack("<I", callback))
        if target == 5:
            self.watched = (opcode, *struct.unpack("<III", body))
        return b""


def _event(target: int, opcode: int, body: bytes = b"") -> bytes:
    return struct.pack("<IHH", target, opcode, 8 + len(body)) + body


def _global(name: int, interface: str, version: int) -> bytes:
    text = interface.encode() + b"\0"
    head = struct.pack("<II", name, len(text)) + text + bytes(-len(text) % 4)
    return _event(2, 0, head + struct.pack("<I", version))


IDLED, RESUMED = _event(6, 0), _event(6, 1)


@pytest.mark.parametrize(("version", "request_number"), [(1, 1), (2, 2), (3, 2)])
async def test_wayland_counts_from_the_idle_event_to_the_next_input(
    tmp_path: Path, version: int, request_number: int
) -> None:
    compositor = Compositor(tmp_path / "wayland-0", version)
    sensor = IdleWayland({"XDG_RUNTIME_DIR": str(tmp_path)})
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run)
        first = (await sensor.read()).idle_seconds
        compositor.says = [IDLED]
        second = (await sensor.read()).idle_seconds
        third = (await sensor.read()).idle_seconds
        compositor.says = [RESUMED]
        fourth = (await sensor.read()).idle_seconds
        await sensor.close()
        nursery.cancel_scope.cancel()

    assert compositor.watched == (request_number, 6, 1000, 4)
    assert first == fourth == 0.0
    assert second is not None
    assert third is not None
    assert 1.0 <= second <= third < 10.0


async def test_a_compositor_that_does_not_tell_is_named(tmp_path: Path) -> None:
    compositor = Compositor(tmp_path / "w", interface="wl_shm")
    sensor = IdleWayland({"XDG_RUNTIME_DIR": str(tmp_path), "WAYLAND_DISPLAY": "w"})
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run)
        with pytest.raises(CannotTell, match="does not tell"):
            await sensor.read()
        await sensor.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("environment", [{}, {"DISPLAY": ":0"}])
async def test_without_a_compositor_wayland_says_so(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with pytest.raises(CannotTell, match="Wayland"):
        await IdleWayland({**environment, "XDG_RUNTIME_DIR": str(tmp_path)}).read()
