"""Sensors that ask by D-Bus, on a real private bus with the services of python-dbusmock."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from nexusnode.sensors.bus import PROPERTIES, Bus
from nexusnode.sensors.gamemode import GameMode
from nexusnode.sensors.idle_gnome import IdleGnome
from nexusnode.sensors.logind import IdleLogind, SleepLogind
from nexusnode.sensors.metered import Metered
from nexusnode.sensors.power import UPower
from nexusnode.sensors.sensor import CannotTell, Sensor

pytestmark = pytest.mark.slow
MOCK = "org.freedesktop.DBus.Mock"
Serve = Callable[..., None]


@pytest.fixture
def bus_daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A bus that is session and system bus."""
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert daemon.stdout is not None
    address = daemon.stdout.readline().strip()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    yield daemon
    daemon.kill()
    daemon.wait()


@pytest.fixture
def serve(bus_daemon: subprocess.Popen[str]) -> Iterator[Serve]:
    """Return what starts a mocked service on the bus."""
    address = os.environ["DBUS_SESSION_BUS_ADDRESS"]
    started = []

    def start(name: str, path: str, interface: str) -> None:
        started.append(
            subprocess.Popen(
                ["/usr/bin/python3", "-m", "dbusmock", "--session", name, path, interface],
                env={"DBUS_SESSION_BUS_ADDRESS": address, "PATH": os.environ["PATH"]},
            )
        )

    yield start
    for process in reversed(started):
        process.kill()
        process.wait()


async def call(*words: Any) -> tuple[Any, ...]:
    bus = Bus("SESSION")
    try:
        return await bus.call(*words)
    finally:
        await bus.close()


async def until_there(name: str) -> None:
    bus = "org.freedesktop.DBus"
    with trio.fail_after(20):
        while True:
            (found,) = await call(bus, "/org/freedesktop/DBus", bus, "NameHasOwner", "s", name)
            if found:
                return
            await trio.sleep(0.02)


async def add(name: str, path: str, new: str, interface: str, **values: tuple[str, Any]) -> None:
    await call(name, path, MOCK, "AddObject", "ssa{sv}a(ssss)", new, interface,
               values, [])  # fmt: skip


async def put(name: str, path: str, interface: str, **values: tuple[str, Any]) -> None:
    """Set properties, new ones too."""
    await call(name, path, MOCK, "AddProperties", "sa{sv}", interface, values)


async def change(name: str, path: str, interface: str, prop: str, value: tuple[str, Any]) -> None:
    await call(name, path, PROPERTIES, "Set", "ssv", interface, prop, value)


async def test_gnome_says_milliseconds(serve: Serve) -> None:
    name, path = "org.gnome.Mutter.IdleMonitor", "/org/gnome/Mutter/IdleMonitor/Core"
    serve(name, path, name)
    await until_there(name)
    await call(name, path, MOCK, "AddMethod", "sssss",
               name, "GetIdletime", "", "t", "ret = 42500")  # fmt: skip

    assert (await IdleGnome().read()).idle_seconds == 42.5


async def test_a_bus_that_ends_is_no_crash_and_a_closed_sensor_asks_again(
    serve: Serve, bus_daemon: subprocess.Popen[str]
) -> None:
    name, path = "com.feralinteractive.GameMode", "/com/feralinteractive/GameMode"
    serve(name, path, name)
    await until_there(name)
    await put(name, path, name, ClientCount=("i", 1))
    sensor = GameMode()
    await sensor.read()
    await sensor.close()
    assert (await sensor.read()).fullscreen is True

    bus_daemon.kill()
    bus_daemon.wait()

    with pytest.raises(CannotTell, match="bus"):
        await sensor.read()
    await sensor.close()


async def test_upower_says_battery_and_charge(serve: Serve) -> None:
    name, path = "org.freedesktop.UPower", "/org/freedesktop/UPower"
    serve(name, path, name)
    await until_there(name)
    await put(name, path, name, OnBattery=("b", True))
    await add(name, path, f"{path}/devices/DisplayDevice", f"{name}.Device",
              IsPresent=("b", True), Percentage=("d", 63.0))  # fmt: skip

    first = await UPower().read()
    await change(name, path, name, "OnBattery", ("b", False))
    second = await UPower().read()

    assert (first.on_battery, first.battery_percent) == (True, 63.0)
    assert second.on_battery is False


@pytest.mark.parametrize(("value", "metered"), [(1, True), (2, False), (3, True), (4, False)])
async def test_networkmanager_says_whether_data_count(
    serve: Serve, value: int, metered: bool
) -> None:
    name, path = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
    serve(name, path, name)
    await until_there(name)
    await put(name, path, name, Metered=("u", value))

    assert (await Metered().read()).metered is metered


async def test_an_unknown_connection_is_not_guessed_at(serve: Serve) -> None:
    name, path = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
    serve(name, path, name)
    await until_there(name)
    await put(name, path, name, Metered=("u", 0))

    with pytest.raises(CannotTell, match="does not know"):
        await Metered().read()


@pytest.mark.parametrize(("clients", "plays"), [(0, False), (2, True)])
async def test_gamemode_says_whether_a_game_runs(serve: Serve, clients: int, plays: bool) -> None:
    name, path = "com.feralinteractive.GameMode", "/com/feralinteractive/GameMode"
    serve(name, path, name)
    await until_there(name)
    await put(name, path, name, ClientCount=("i", clients))

    assert (await GameMode().read()).fullscreen is plays


@pytest.mark.parametrize(
    ("idle", "locked", "seconds"), [(True, True, 60.0), (True, False, 0.0), (False, True, 0.0)]
)
async def test_logind_is_believed_only_of_a_locked_session(
    serve: Serve, idle: bool, locked: bool, seconds: float
) -> None:
    name, path = "org.freedesktop.login1", "/org/freedesktop/login1"
    serve(name, path, f"{name}.Manager")
    await until_there(name)
    await add(name, path, f"{path}/user/self", f"{name}.User",
              Display=("(so)", ("c2", f"{path}/session/c2")))  # fmt: skip
    await add(name, path, f"{path}/session/c2", f"{name}.Session", IdleHint=("b", idle),
              LockedHint=("b", locked), IdleSinceHint=("t", 1_000_000_000))  # fmt: skip

    assert (await IdleLogind(lambda: 1060.0).read()).idle_seconds == seconds


async def test_logind_says_that_the_computer_goes_to_sleep(serve: Serve) -> None:
    name, path = "org.freedesktop.login1", "/org/freedesktop/login1"
    serve(name, path, f"{name}.Manager")
    await until_there(name)
    await put(name, path, f"{name}.Manager", PreparingForSleep=("b", False))
    first = (await SleepLogind().read()).suspending
    await change(name, path, f"{name}.Manager", "PreparingForSleep", ("b", True))

    assert first is False
    assert (await SleepLogind().read()).suspending is True


async def test_sleep_is_held_up_until_the_node_has_let_go_and_again_after_it(
    serve: Serve, tmp_path: Path
) -> None:
    name, path = "org.freedesktop.login1", "/org/freedesktop/login1"
    lock = tmp_path / "lock"
    lock.touch()
    serve(name, path, f"{name}.Manager")
    await until_there(name)
    await put(name, path, f"{name}.Manager", PreparingForSleep=("b", False))
    await call(name, path, MOCK, "AddMethod", "sssss", f"{name}.Manager", "Inhibit", "ssss", "h",
               f"ret = dbus.types.UnixFd(open({str(lock)!r}))")  # fmt: skip
    sensor = SleepLogind()

    held = []
    for is_near in (False, False, True, True, False):
        await change(name, path, f"{name}.Manager", "PreparingForSleep", ("b", is_near))
        assert (await sensor.read()).suspending is is_near
        held.append(open_count(lock))
    await sensor.close()

    assert held == [1, 1, 1, 0, 1]
    assert open_count(lock) == 0


def open_count(file: Path) -> int:
    """Return how many descriptors of this process are open on a file."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return links.count(str(file))


SENSORS = (IdleGnome, IdleLogind, SleepLogind, UPower, Metered, GameMode)


@pytest.mark.parametrize("sensor", SENSORS)
async def test_a_bus_without_the_service_is_no_crash(
    serve: Serve, sensor: Callable[[], Sensor]
) -> None:
    with pytest.raises(CannotTell):
        await sensor().read()


@pytest.mark.parametrize("sensor", SENSORS)
async def test_no_bus_at_all_is_no_crash(
    sensor: Callable[[], Sensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"):
        monkeypatch.setenv(variable, f"unix:path={tmp_path}/none")

    with pytest.raises(CannotTell, match="bus"):
        await sensor().read()
