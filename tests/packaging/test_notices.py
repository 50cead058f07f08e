"""Which licences may be in the packaged app, and what happens with one that is not understood."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notices", ROOT / "packaging" / "notices.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notices"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


notices = load()
TABLE = notices.Table(ROOT / "packaging" / "licences.toml")


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("BSD-3-Clause AND 0BSD AND Zlib", True),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("GPL-3.0-or-later", False),
        ("MIT AND GPL-2.0-only", False),
        ("MIT OR (Apache-2.0 AND GPL-2.0-only)", False),
        ("", False),
    ],
)
def test_a_licence_is_shipped_only_if_a_choice_without_the_gpl_is_left(
    expression: str, is_allowed: bool
) -> None:
    assert TABLE.allows(expression) == is_allowed


def frozen(folder: Path, *sources: Path) -> Path:
    listed = {"modules": [], "files": [[source.name, str(source)] for source in sources]}
    path = folder / "frozen.json"
    path.write_text(json.dumps(listed))
    return path


def test_a_frozen_file_is_traced_to_its_package(tmp_path: Path) -> None:
    import msgpack

    found = notices.components(frozen(tmp_path, Path(msgpack.__file__)), TABLE)

    (one,) = (each for each in found if each.name == "msgpack")
    assert one.licence == "Apache-2.0"
    assert one.texts
    bill = json.loads(notices.bill(found, "1.2.3", 0))
    assert "pkg:pypi/msgpack@" in "".join(each["purl"] for each in bill["components"])
    assert notices.bill(found, "1.2.3", 0) == notices.bill(found, "1.2.3", 0)


def test_a_file_of_no_package_stops_the_build(tmp_path: Path) -> None:
    stray = tmp_path / "libstray.so"
    stray.touch()

    with pytest.raises(SystemExit, match=r"libstray\.so: belongs to no package"):
        notices.components(frozen(tmp_path, stray), TABLE)
