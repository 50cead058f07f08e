"""The files that the Linux package lays beside the app."""

import re
import subprocess
from pathlib import Path

from nexusnode.cli.main import COMMANDS

LINUX = Path(__file__).resolve().parents[2] / "packaging" / "linux"


def test_the_manual_names_every_command_as_the_help_does() -> None:
    manual = (LINUX / "nexusnode.1").read_text()

    named = dict(re.findall(r"^\.TP\n\.B (\w+)\n(.+)$", manual, re.MULTILINE))

    assert named.keys() == COMMANDS.keys()
    assert all(named[name].startswith(entry.summary) for name, entry in COMMANDS.items())


def test_nothing_starts_by_itself() -> None:
    assert not list(LINUX.glob("*autostart*"))
    assert "systemctl" not in (LINUX / "postrm").read_text()
    assert {path.name for path in LINUX.iterdir()} & {"postinst", "preinst", "prerm"} == set()


def test_the_desktop_entry_is_valid() -> None:
    subprocess.run(
        ["desktop-file-validate", str(LINUX / "org.nexusnode.Nexus.desktop")],
        check=True,
        timeout=60,
    )
