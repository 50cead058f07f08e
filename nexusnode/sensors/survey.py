"""Which sensors there are on this system, in the order in which they are believed."""

import sys
from pathlib import Path

from nexusnode.sensors.fullscreen_x11 import FullscreenX11
from nexusnode.sensors.gamemode import GameMode
from nexusnode.sensors.gpu import Amd, Nvidia
from nexusnode.sensors.heat import CpuHeat
from nexusnode.sensors.idle_gnome import IdleGnome
from nexusnode.sensors.idle_macos import IdleMacos
from nexusnode.sensors.idle_wayland import IdleWayland
from nexusnode.sensors.idle_windows import FullscreenWindows, IdleWindows, User32
from nexusnode.sensors.idle_x11 import IdleX11
from nexusnode.sensors.logind import IdleLogind, SleepLogind
from nexusnode.sensors.metered import Metered
from nexusnode.sensors.power import KernelPower, UPower
from nexusnode.sensors.programs import Programs
from nexusnode.sensors.room import Room
from nexusnode.sensors.sensor import Environment, Sensor


def sensors_of(environment: Environment, data: Path) -> tuple[Sensor, ...]:
    """Return this system's sensors.

    Args:
        environment: names the display and the session.
        data: the folder whose disk counts.
    """
    everywhere: tuple[Sensor, ...] = (Programs(), Nvidia(), Room(data))
    if sys.platform == "win32":
        calls = User32()
        return (IdleWindows(calls), FullscreenWindows(calls), *everywhere)
    if sys.platform == "darwin":
        return (IdleMacos(), *everywhere)
    return (
        IdleWayland(environment),
        IdleGnome(),
        IdleX11(environment),
        IdleLogind(),
        FullscreenX11(environment),
        GameMode(),
        SleepLogind(),
        UPower(),
        KernelPower(),
        Metered(),
        CpuHeat(),
        Amd(),
        *everywhere,
    )
