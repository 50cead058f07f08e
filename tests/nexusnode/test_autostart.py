import shlex
from pathlib import Path

import pytest

from nexusnode.daemon.autostart import FILE, Autostart, _quoted
from p2p.errors import ControlError, ResourceError


def test_the_switch_alone_writes_and_removes_the_entry(tmp_path: Path) -> None:
    switch = Autostart(tmp_path, "linux")
    file = tmp_path / "autostart" / FILE
    assert not switch.is_on()
    switch.turn(False)
    assert not file.parent.exists()

    switch.turn(True)
    lines = file.read_text().splitlines()
    command = next(line for line in lines if line.startswith("Exec=")).removeprefix("Exec=")

    assert switch.is_on()
    assert lines[0] == "[Desktop Entry]"
    assert Path(shlex.split(command)[0]).name == "nexus-gui"
    assert shlex.split(command)[1:] == ["--background"]
    switch.turn(False)
    assert not switch.is_on()


def test_a_path_with_blanks_and_percents_is_quoted() -> None:
    assert _quoted("/usr/bin/nexus-gui") == "/usr/bin/nexus-gui"
    assert _quoted("/home/a b/100%/x") == '"/home/a b/100%%/x"'


def test_other_systems_and_full_disks_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="Linux only"):
        Autostart(tmp_path, "win32").turn(True)
    (tmp_path / "autostart").write_text("a file in the way")
    with pytest.raises(ResourceError, match="cannot be changed"):
        Autostart(tmp_path, "linux").turn(True)
