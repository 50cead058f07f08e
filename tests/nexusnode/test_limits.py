from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nexusnode.limits import limits_of, local_zone
from nexusnode.settings import TABLE
from p2p.errors import ConfigError
from p2p.settings import Value

DEFAULTS: dict[str, Value] = {row.key: row.default for row in TABLE}


def test_the_defaults_are_those_of_a_careful_guest() -> None:
    limits = limits_of(DEFAULTS)

    assert (limits.always, limits.idle_seconds, limits.hours) == (False, 300.0, ())
    assert (limits.on_battery, limits.metered, limits.fullscreen) == (False, False, True)
    assert (limits.hot_celsius, limits.cool_celsius, limits.duty) == (80.0, 72.0, 1.0)
    assert limits.memory_reserve_bytes == 512 << 20
    assert limits.disk_reserve_bytes == 5_000_000_000
    assert limits.bytes_per_day == 10_000_000_000


def test_units_and_names_are_those_of_the_policy() -> None:
    limits = limits_of(
        DEFAULTS
        | {
            "run.hours": ("mon 09:00-10:00",),
            "run.timezone": "Europe/Berlin",
            "run.apps": (" Blender ",),
            "run.idle_minutes": 2,
            "limits.gb_per_day": 0.5,
        }
    )

    assert limits.hours == ((540, 600),)
    assert limits.zone == ZoneInfo("Europe/Berlin")
    assert limits.apps == {"blender"}
    assert limits.idle_seconds == 120.0
    assert limits.bytes_per_day == 500_000_000


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("run.hours", ("mon 9",), "expected days and hours"),
        ("run.timezone", "Mars/Olympus", "expected a time zone"),
        ("run.timezone", "../../etc/passwd", "expected a time zone"),
        ("limits.cool_celsius", 80, "expected less than limits.hot_celsius"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_key(key: str, value: Value, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        limits_of(DEFAULTS | {key: value})

    assert key in str(caught.value)


def test_this_computers_zone_is_found_by_its_name(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    link.symlink_to("/usr/share/zoneinfo/Europe/Berlin")

    assert local_zone({"TZ": "America/New_York"}, link) == ZoneInfo("America/New_York")
    assert local_zone({}, link) == ZoneInfo("Europe/Berlin")
    assert local_zone({"TZ": "nonsense"}, link) == ZoneInfo("Europe/Berlin")
    now = datetime.now(UTC)
    assert local_zone({}, tmp_path / "none").utcoffset(now) == now.astimezone().utcoffset()
