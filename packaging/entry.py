"""The one program of the packaged app: window, command line, daemon or child, as its name says.

Nothing heavy may be imported before the words are looked at: a child that reads a stranger's file
must not hold the network, nor the command line Qt.
"""

import os
import sys
from collections.abc import MutableMapping
from importlib import import_module
from pathlib import PurePath

CHILDREN = ("nexusnode.draft.worker", "nexusnode.models.fetch", "nexusnode.models.gguf")
WINDOW = "nexus-gui"


def main() -> int:
    """Run what the words name: `--child MODULE` from the fixed list, the window, or a command."""
    name, words = PurePath(sys.argv[0]).stem, sys.argv[1:]
    if words[:1] == ["--child"]:
        if len(words) != 2 or words[1] not in CHILDREN:
            sys.stderr.write(f"{name}: --child takes one of {', '.join(CHILDREN)}\n")
            return 2
        module = words[1]
    elif name == WINDOW:
        module = "gui.main"
    else:
        module = "nexusnode.cli.main"
    status: int | None = import_module(module).main()
    return status or 0


def give_back(environment: MutableMapping[str, str]) -> None:
    """Undo what PyInstaller's boot loader did to the environment, for what is started from here.

    A browser or `systemctl` must not load the app's libraries; this process has its own path since
    it was started. With the last variable a child of ours is set up afresh, an upgraded one too.
    """
    original = environment.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is None:
        environment.pop("LD_LIBRARY_PATH", None)
    else:
        environment["LD_LIBRARY_PATH"] = original
    environment["PYINSTALLER_RESET_ENVIRONMENT"] = "1"


if __name__ == "__main__":
    if getattr(sys, "frozen", False):
        give_back(os.environ)
    sys.exit(main())
