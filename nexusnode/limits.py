"""The settings as the limits that the policy weighs, and what can be wrong with them."""

import os
from collections.abc import Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nexusnode.policy.facts import Limits
from nexusnode.policy.schedule import parse_hours
from p2p.errors import ConfigError
from p2p.settings import Value

_LOCALTIME = Path("/etc/localtime")


def limits_of(values: Mapping[str, Value]) -> Limits:
    """Return what the values of `run` and `limits` allow; `ConfigError` names the one that
    cannot be used."""
    hot, cool = _number(values, "limits.hot_celsius"), _number(values, "limits.cool_celsius")
    if cool >= hot:
        raise ConfigError(
            f"limits.cool_celsius = {cool:g}: expected less than limits.hot_celsius = {hot:g}"
        )
    try:
        hours = parse_hours(_texts(values, "run.hours"))
    except ValueError as error:
        raise ConfigError(f"run.hours = {error}") from error
    return Limits(
        always=values["run.when"] == "always",
        idle_seconds=_number(values, "run.idle_minutes") * 60,
        hours=hours,
        zone=_zone(str(values["run.timezone"])),
        on_battery=values["run.on_battery"] is True,
        battery_percent=_number(values, "run.battery_percent"),
        fullscreen=values["run.fullscreen"] is True,
        apps=frozenset(name.strip().lower() for name in _texts(values, "run.apps")),
        hot_celsius=hot,
        cool_celsius=cool,
        duty=_number(values, "limits.duty"),
        memory_reserve_bytes=int(_number(values, "limits.memory_reserve_mb")) << 20,
        disk_reserve_bytes=int(_number(values, "limits.disk_reserve_gb") * 1e9),
        bytes_per_day=int(_number(values, "limits.gb_per_day") * 1e9),
        metered=values["limits.metered"] is True,
    )


def local_zone(environment: Mapping[str, str], localtime: Path = _LOCALTIME) -> tzinfo:
    """Return this computer's time zone, with its clock changes where its name can be found."""
    link = str(localtime.resolve()) if localtime.is_symlink() else ""
    for name in (environment.get("TZ", "").lstrip(":"), link.partition("zoneinfo/")[2]):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    here = datetime.now().astimezone().tzinfo
    assert here is not None
    return here


def _zone(name: str) -> tzinfo:
    if not name:
        return local_zone(os.environ)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f'run.timezone = "{name}": expected a time zone such as Europe/Berlin'
        ) from error


def _number(values: Mapping[str, Value], key: str) -> float:
    value = values[key]
    assert isinstance(value, int | float)
    return float(value)


def _texts(values: Mapping[str, Value], key: str) -> tuple[str, ...]:
    value = values[key]
    assert isinstance(value, tuple)
    return value
