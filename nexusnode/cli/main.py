"""The command `nexusnode`: finds the subcommand, and turns every error into one sentence.

A subcommand's module is imported only when it is called: only `run` and `bootstrap` load the
network (`import libp2p` takes a second and 89 MiB).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, cast

from p2p.errors import NexusError, answer

EXIT_USAGE = 2
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell says it
EXIT_INTERRUPTED = 130  # 128 + SIGINT
OWN_PACKAGES = ("nexusnode", "p2p", "verifier_host", "gui")


class Command(Protocol):
    """What a subcommand's module defines. Its docstring is the help, after `---` come examples."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, flags: argparse.Namespace) -> int: ...


@dataclass(frozen=True, slots=True)
class Entry:
    module: str
    summary: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("run", "draft for hosts until stopped; this is the node"),
    "status": Entry("status", "what the node does and why"),
    "pause": Entry("pause", "stop drafting, for a while or until you resume"),
    "resume": Entry("resume", "draft again"),
    "stop": Entry("stop", "end the node"),
    "doctor": Entry("doctor", "check this computer, the installation and the way to the network"),
    "diagnostics": Entry("diagnostics", "write a report for whoever helps you, without secrets"),
    "models": Entry("models", "list and download draft models"),
    "chat": Entry("chat", "ask a host's model, and see what was drafted"),
    "id": Entry("id", "print this node's peer id"),
    "bootstrap": Entry("bootstrap", "help nodes and hosts to find each other, without drafting"),
}
EXAMPLES = """examples:
  nexusnode doctor                      is everything ready?
  nexusnode run --always --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
  nexusnode status --watch              in another terminal
  nexusnode pause --for 2h

Every command takes --data DIR to keep a node's files apart from the usual folders.
`nexusnode COMMAND --help` says more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (docs: p2p/errors.py, `ANSWERS`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except NexusError as error:
        print(f"nexusnode: {error}", file=sys.stderr)
        return answer(error).exit
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_BROKEN_PIPE


def package_version() -> str:
    try:
        return version("nexusnode")
    except PackageNotFoundError:
        return "0"


def _dispatch(words: list[str]) -> int:
    if not words or words[0] not in COMMANDS:
        _top_parser().parse_args(words or ["--help"])
        return EXIT_USAGE
    name, *rest = words
    command = _load(COMMANDS[name].module)
    text, _, examples = (command.__doc__ or "").partition("\n---\n")
    parser = argparse.ArgumentParser(
        prog=f"nexusnode {name}",
        description=text,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", metavar="DIR", help="keep settings, identity, models and logs under DIR"
    )
    command.configure(parser)
    return command.run(parser.parse_args(rest))


def _load(module: str) -> Command:
    try:
        return cast(Command, import_module(f"nexusnode.cli.{module}"))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OWN_PACKAGES:
            raise
        print(
            f"nexusnode: the package {error.name} is missing; run: pip install 'nexusnode[node]'",
            file=sys.stderr,
        )
        sys.exit(EXIT_USAGE)


def _top_parser() -> argparse.ArgumentParser:
    lines = [f"  {name:10} {entry.summary}" for name, entry in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="nexusnode",
        description="Lend your computer's idle time to large language models: a small model here"
        " guesses ahead, the host's large model checks, and its answers come faster.",
        epilog="commands:\n" + "\n".join(lines) + "\n\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="nexusnode COMMAND [--data DIR] ...",
    )
    parser.add_argument(
        "command", choices=list(COMMANDS), metavar="COMMAND", help="one of those below"
    )
    parser.add_argument("--version", action="version", version=f"nexusnode {package_version()}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
