"""The switch "start at login": an XDG autostart entry, written and removed by that switch alone."""

import shutil
import sys
from pathlib import Path

from p2p.errors import ControlError, ResourceError

FILE = "org.nexusnode.Nexus.desktop"
_COMMAND = "nexus-gui"
_ENTRY = """[Desktop Entry]
Type=Application
Name=Nexus
Comment=Lends this computer to answers while you are away
Exec={command} --background
Icon=org.nexusnode.Nexus
Terminal=false
X-GNOME-Autostart-enabled=true
"""


class Autostart:
    """Args: config: the user's folder of settings, `~/.config`."""

    def __init__(self, config: Path, platform: str = sys.platform) -> None:
        self._file = config / "autostart" / FILE
        self._platform = platform

    def is_on(self) -> bool:
        return self._file.is_file()

    def turn(self, is_on: bool) -> None:
        """Write the entry or remove it.

        Raises:
            ControlError: this system starts programs in another way.
            ResourceError: the file cannot be changed.
        """
        if not self._platform.startswith("linux"):
            raise ControlError("start at login works on Linux only so far", "control.denied")
        try:
            if is_on:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.write_text(_ENTRY.format(command=_quoted(_command())))
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            raise ResourceError(f"{self._file}: cannot be changed ({error.strerror})") from error


def _command() -> str:
    """Return the window's program: that beside this one, else that of the search path."""
    beside = Path(sys.executable).parent / _COMMAND
    return str(beside) if beside.is_file() else shutil.which(_COMMAND) or _COMMAND


def _quoted(text: str) -> str:
    """Quote an argument as the Desktop Entry Specification asks, if it needs that."""
    if all(letter.isalnum() or letter in "/._-" for letter in text):
        return text
    for letter in '\\\\"`$':
        text = text.replace(letter, "\\\\" + letter)
    return f'"{text.replace("%", "%%")}"'
