"""`nexus-verifier`: what an operator types. Each command is a file of its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from p2p.errors import NexusError, answer
from p2p.paths import Folders, folders
from verifier_host.cli import check, init, keys, serve
from verifier_host.config import FILE

EXIT_INTERRUPTED = 130
DESCRIPTION = """\
Run a Nexus verifier host: it serves a large model behind an OpenAI-compatible API and lets
contributors' nodes draft for it. Every token is the model's own; nodes only make it faster.

  nexus-verifier init       write a commented verifier.toml and make the first API key
  nexus-verifier check      say what would run, and whether it fits this machine
  nexus-verifier serve      run the host until Ctrl-C
  nexus-verifier keys       add, list and revoke API keys
"""
EPILOG = """\
To try it:  nexus-verifier init --model bundled && nexus-verifier serve
Exit status: 0 done, 1 bug, 2 usage, 3 configuration, 6 model, 7 resource (memory, port, disk).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit status."""
    flags = parser().parse_args(arguments)
    place = folders("host", flags.data)
    try:
        status: int = flags.run(flags, place, config_path(flags.config, place))
        return status
    except NexusError as error:
        print(f"nexus-verifier: {error}", file=sys.stderr)
        return answer(error).exit
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has left
        return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    root = argparse.ArgumentParser(
        prog="nexus-verifier",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data", type=Path, metavar="DIR", help="keep configuration, keys and identity under DIR"
    )
    common.add_argument(
        "--config", type=Path, metavar="FILE", help=f"read FILE instead of {FILE} in its folder"
    )
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for command in (init, check, serve, keys):
        command.add_to(commands, common)
    return root


def config_path(given: Path | None, place: Folders) -> Path:
    """Return the configuration file: the one that was named, or the folder's own."""
    return given if given is not None else place.config / FILE


if __name__ == "__main__":
    sys.exit(main())
