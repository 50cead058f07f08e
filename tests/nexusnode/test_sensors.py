"""Sensors against made-up files and fakes, and what keeps them honest."""

from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing

from nexusnode.daemon.sensing import Sensing
from nexusnode.policy.facts import Facts, Moment
from nexusnode.sensors.gpu import Amd
from nexusnode.sensors.heat import CpuHeat
from nexusnode.sensors.idle_macos import IdleMacos
from nexusnode.sensors.idle_windows import FullscreenWindows, IdleWindows, User32
from nexusnode.sensors.idle_x11 import IdleX11
from nexusnode.sensors.power import KernelPower
from nexusnode.sensors.programs import Programs
from nexusnode.sensors.room import Room
from nexusnode.sensors.sensor import CannotTell, Kind, Reading
from nexusnode.sensors.supervise import DEADLINE_SECONDS, SURVEY_SECONDS, Watch
from p2p.log import quiet_log


class Scripted:
    """A sensor that says what the test says: a reading, an error, or nothing at all (None)."""

    name: ClassVar[str] = "scripted"
    kind: ClassVar[Kind] = Kind.IDLE
    period_seconds: ClassVar[float] = 1.0

    def __init__(self, *says: Reading | Exception | None) -> None:
        self.says = list(says)
        self.asked: list[float] = []
        self.closed = 0

    async def read(self) -> Reading:
        self.asked.append(trio.current_time())
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if said is None:
            await trio.sleep_forever()
        if isinstance(said, Exception):
            raise said
        assert said is not None
        return said

    async def close(self) -> None:
        self.closed += 1


class ScriptedCard(Scripted):
    kind: ClassVar[Kind] = Kind.GPU


class ScriptedHeat(Scripted):
    kind: ClassVar[Kind] = Kind.HEAT


AWAY = Reading("away", idle_seconds=600.0)
BROKEN = CannotTell("The display is gone.")


def watch_of(sensor: Scripted) -> Watch:
    return Watch(sensor, trio.current_time, lambda: None)


def clock() -> Moment:
    return Moment(trio.current_time(), trio.current_time())


async def test_a_sensor_that_hangs_is_given_up_after_its_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sensor = Scripted(None)
    watch = watch_of(sensor)

    await watch.ask()

    assert trio.current_time() == pytest.approx(DEADLINE_SECONDS)
    assert watch.reading is None
    assert "2 s" in watch.why_not
    assert sensor.closed == 1


async def test_what_was_said_stands_for_two_failures_and_not_for_the_third(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = watch_of(Scripted(AWAY, BROKEN, OSError("no"), BROKEN))
    found = []
    for _ in range(4):
        await watch.ask()
        found.append(watch.reading)

    assert found == [AWAY, AWAY, AWAY, None]
    assert watch.why_not == "The display is gone."
    assert watch.last_input is None


async def test_a_sensor_with_a_bug_says_nothing_any_more() -> None:
    sensor = Scripted(AWAY, ValueError("a bug"))
    watch = watch_of(sensor)
    await watch.ask()
    assert watch.reading == AWAY

    with pytest.raises(ValueError, match="a bug"):
        await watch.ask()

    assert watch.reading is None
    assert "ValueError" in watch.why_not
    assert sensor.closed == 1


async def test_who_stops_asking_leaves_no_half_read_answer() -> None:
    sensor = Scripted(None)
    watch = watch_of(sensor)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert sensor.closed == 1


async def test_a_silent_sensor_is_asked_again_every_minute_and_may_come_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sensor = Scripted(BROKEN, BROKEN, AWAY)
    watch = watch_of(sensor)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(2 * SURVEY_SECONDS + 2.5)
        nursery.cancel_scope.cancel()

    assert sensor.asked == pytest.approx([0, 60, 120, 121, 122])
    assert watch.reading == AWAY


async def test_the_last_input_does_not_move_between_two_readings(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await trio.sleep(1000)
    watch = watch_of(Scripted(AWAY))
    await watch.ask()
    await trio.sleep(5)

    assert watch.last_input == 400.0


async def test_the_first_detector_that_works_is_believed_and_named(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[Facts] = []
    sensors = [Scripted(BROKEN), Scripted(AWAY), Scripted(Reading("here", idle_seconds=0.0))]
    sensing = Sensing(sensors, "cpu", seen.append, clock, quiet_log())
    await trio.sleep(1000)

    tested = await sensing.test_idle()

    assert (tested.detector, tested.idle_seconds, tested.why_not) == ("scripted", 600.0, "")
    assert sensing.facts().last_input == 400.0
    assert seen[-1].last_input == 400.0
    assert [view.works for view in sensing.views()] == [False, True, False]
    assert sensing.views()[0].finding == "The display is gone."


async def test_with_no_detector_nobody_is_taken_to_be_away() -> None:
    sensing = Sensing([Scripted(BROKEN)], "cpu", lambda facts: None, clock, quiet_log())

    tested = await sensing.test_idle()

    assert sensing.facts().last_input is None
    assert sensing.detector == ""
    assert tested.why_not == "scripted: The display is gone."


@pytest.mark.parametrize(("device", "celsius", "load"), [("cpu", 50.0, None), ("cuda", 70.0, 0.5)])
async def test_a_graphics_card_counts_only_if_the_worker_uses_it(
    device: str, celsius: float, load: float | None, autojump_clock: trio.testing.MockClock
) -> None:
    card = ScriptedCard(Reading("", celsius=70.0, gpu_other=0.5))
    sensors = [card, ScriptedHeat(Reading("", celsius=50.0))]
    sensing = Sensing(sensors, device, lambda facts: None, clock, quiet_log())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sensing.run)
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()

    assert (sensing.facts().celsius, sensing.facts().gpu_other) == (celsius, load)


async def test_all_can_be_asked_at_once_within_one_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sensors = [Scripted(None), Scripted(None), Scripted(AWAY)]
    sensing = Sensing(sensors, "cpu", lambda facts: None, clock, quiet_log())

    views = await sensing.ask_all()

    assert trio.current_time() == pytest.approx(DEADLINE_SECONDS)
    assert [view.works for view in views] == [False, False, True]


# Files of a kernel.


def lay(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


async def test_a_mouse_with_a_battery_makes_no_notebook(tmp_path: Path) -> None:
    lay(tmp_path / "hidpp_battery_0", type="Battery", scope="Device", status="Discharging")
    lay(tmp_path / "AC", type="Mains")

    reading = await KernelPower(tmp_path).read()

    assert (reading.on_battery, reading.battery_percent) == (False, None)


@pytest.mark.parametrize(("status", "on_battery"), [("Discharging", True), ("Full", False)])
async def test_a_battery_that_feeds_the_machine_counts(
    tmp_path: Path, status: str, on_battery: bool
) -> None:
    lay(tmp_path / "BAT0", type="Battery", status=status, capacity="80")
    lay(tmp_path / "BAT1", type="Battery", status="Unknown", capacity="60")

    reading = await KernelPower(tmp_path).read()

    assert (reading.on_battery, reading.battery_percent) == (on_battery, 70.0)


async def test_a_kernel_without_power_supplies_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(CannotTell):
        await KernelPower(tmp_path / "none").read()


async def test_the_hottest_core_counts_and_an_unplugged_sensor_does_not(tmp_path: Path) -> None:
    lay(tmp_path / "hwmon0", name="nvme", temp1_input="90000")
    lay(tmp_path / "hwmon1", name="coretemp", temp1_input="61000", temp2_input="65500",
        temp3_input="-128000")  # fmt: skip

    assert (await CpuHeat(tmp_path).read()).celsius == 65.5
    with pytest.raises(CannotTell, match="temperature"):
        await CpuHeat(tmp_path / "hwmon0").read()


async def test_an_amd_card_says_its_load_heat_and_watts(tmp_path: Path) -> None:
    device = tmp_path / "card1" / "device"
    lay(device, vendor="0x1002", gpu_busy_percent="37")
    lay(device / "hwmon" / "hwmon4", temp1_input="55000", power1_average="80000000",
        power1_cap="200000000")  # fmt: skip

    reading = await Amd(tmp_path).read()

    assert (reading.gpu_other, reading.celsius) == (0.37, 55.0)
    assert (reading.watts, reading.watts_limit) == (80.0, 200.0)


async def test_a_card_that_sleeps_is_not_woken(tmp_path: Path) -> None:
    lay(tmp_path / "card1" / "device", vendor="0x1002", gpu_busy_percent="0")
    lay(tmp_path / "card1" / "device" / "power", runtime_status="suspended")

    with pytest.raises(CannotTell, match="sleeps"):
        await Amd(tmp_path).read()


async def test_programs_are_known_by_command_and_first_argument(tmp_path: Path) -> None:
    lay(tmp_path / "12", comm="blender", cmdline="/opt/blender/Blender-4\0--x")
    lay(tmp_path / "13", comm="wine64-preloade", cmdline="Z:\\games\\Portal2.exe\0-w")
    lay(tmp_path / "self", comm="me", cmdline="me")

    names = (await Programs(tmp_path).read()).programs

    assert names == {"blender", "blender-4", "wine64-preloade", "portal2.exe", "portal2"}


async def test_a_program_that_ends_is_forgotten_and_one_that_becomes_another_is_seen(
    tmp_path: Path,
) -> None:
    lay(tmp_path / "12", comm="sh", cmdline="sh")
    lay(tmp_path / "13", comm="game", cmdline="game")
    programs = Programs(tmp_path)
    await programs.read()
    (tmp_path / "12" / "comm").write_text("blender")
    (tmp_path / "13").rename(tmp_path / "gone")

    names = (await programs.read()).programs

    assert names == {"blender", "sh"}


async def test_this_machine_has_memory_and_disk_and_runs_this_test(tmp_path: Path) -> None:
    room = await Room(tmp_path).read()
    programs = (await Programs().read()).programs

    assert 0 < (room.memory_free_bytes or 0) <= (room.memory_total_bytes or 0)
    assert room.disk_free_bytes
    assert programs is not None
    assert any("python" in name or "pytest" in name for name in programs)


# Other systems.


class FakeWindows:
    def __init__(self, last: int, now: int, state: int = 5) -> None:
        self.last, self.now, self.state = last, now, state

    def last_input_ticks(self) -> int:
        return self.last

    def ticks(self) -> int:
        return self.now

    def notification_state(self) -> int:
        return self.state


@pytest.mark.parametrize(
    ("last", "now", "seconds"), [(1000, 6000, 5.0), (2**32 - 1000, 2000, 3.0), (7, 7, 0.0)]
)
async def test_the_ticks_of_windows_wrap(last: int, now: int, seconds: float) -> None:
    assert (await IdleWindows(FakeWindows(last, now)).read()).idle_seconds == seconds


@pytest.mark.parametrize(
    ("state", "is_full"), [(1, False), (2, True), (3, True), (4, True), (5, False), (7, False)]
)
async def test_windows_says_when_a_game_or_a_talk_fills_the_screen(
    state: int, is_full: bool
) -> None:
    assert (await FullscreenWindows(FakeWindows(0, 0, state)).read()).fullscreen is is_full


def test_elsewhere_windows_is_not_there() -> None:
    with pytest.raises(CannotTell):
        User32()


async def test_macos_says_nanoseconds_or_nothing() -> None:
    async def says(text: bytes) -> bytes:
        return text

    line = b'    | |   "HIDIdleTime" = 12500000000\n'
    assert (await IdleMacos(lambda: says(line)).read()).idle_seconds == 12.5
    with pytest.raises(CannotTell):
        await IdleMacos(lambda: says(b"nothing")).read()
    with pytest.raises(CannotTell):
        await IdleMacos().read()


# Displays that are not there.


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "DISPLAY"),
        ({"DISPLAY": "elsewhere:0"}, "DISPLAY"),
        ({"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}, "Wayland"),
        ({"DISPLAY": ":0", "XDG_SESSION_TYPE": "wayland"}, "Wayland"),
    ],
)
async def test_x11_refuses_a_display_that_does_not_see_the_user(
    environment: dict[str, str], why: str
) -> None:
    with pytest.raises(CannotTell, match=why):
        await IdleX11(environment).read()
