"""Ask a host's model. What your peers' drafts contributed is shown bold and underlined.

The question goes from the node to the host's HTTP API, and is kept nowhere. The first time it asks
for the address and the key of that API; the node remembers both.
---
examples:
  nexusnode chat "What is a lighthouse for?"
  nexusnode chat                               a conversation, until Ctrl-D
  nexusnode chat --url http://127.0.0.1:8000/v1 --key-file ./key "Hello"
  nexusnode chat --no-draft "This goes to the host alone."
"""

import argparse
import getpass
import os
import sys
from pathlib import Path

from nexusnode.cli.data import connected
from nexusnode.control.client import ControlClient
from nexusnode.control.messages import (
    ChatEnd,
    ChatEvent,
    ChatStart,
    ChatStop,
    ChatToken,
    ChatTurn,
    Nothing,
    Pair,
    SettingsPatch,
    Topics,
)
from p2p.errors import ANSWERS, Answer, ConfigError, ControlError, UsageError
from p2p.settings import toml_value

DRAFTED, PLAIN = "\x1b[1;4m", "\x1b[0m"
SILENCE_SECONDS = 120.0
EXIT_INTERRUPTED = 130
MAX_TURNS = 64  # of the past that is sent along


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", nargs="?", help="left out: a conversation")
    parser.add_argument("--url", help="address of the host's API, ending in /v1; remembered")
    parser.add_argument("--key-file", metavar="PATH", help="file with its API key; remembered")
    parser.add_argument("--set-key", action="store_true", help="ask for the API key again")
    parser.add_argument("--model", default="", help="default: the host's first")
    parser.add_argument("--max-tokens", type=int, default=512, help="default 512")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 to 2, default 0.7")
    parser.add_argument("--seed", type=int, help="the same seed gives the same answer")
    parser.add_argument("--no-draft", action="store_true", help="send nothing to any node")


def run(flags: argparse.Namespace) -> int:
    with connected(flags) as client:
        _set_access(client, flags)
        client.call("subscribe", Topics(("chat",)))
        if flags.question is not None:
            _, status = _ask(client, flags, (ChatTurn("user", flags.question),))
            return status
        return _converse(client, flags)


def _converse(client: ControlClient, flags: argparse.Namespace) -> int:
    turns: list[ChatTurn] = []
    while True:
        try:
            question = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return 0
        if not question.strip():
            continue
        turns.append(ChatTurn("user", question))
        answer, status = _ask(client, flags, tuple(turns[-MAX_TURNS:]))
        if status not in (0, EXIT_INTERRUPTED):
            return status
        turns.append(ChatTurn("assistant", answer))


def _ask(
    client: ControlClient, flags: argparse.Namespace, turns: tuple[ChatTurn, ...]
) -> tuple[str, int]:
    """Stream one answer to the terminal; return its text and the exit status. Ctrl-C stops it."""
    question = ChatStart(
        turns,
        flags.model,
        int(_between("--max-tokens", flags.max_tokens, 1, 1 << 20)),
        _between("--temperature", flags.temperature, 0, 2),
        flags.seed if flags.seed is None else int(_between("--seed", flags.seed, 0, 2**32 - 1)),
        not flags.no_draft,
    )
    chat = client.call("chat.start", question).chat
    painter = Painter(sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    answer: list[str] = []
    try:
        while True:
            event = _next(client, chat)
            for token in event.tokens:
                answer.append(token.text)
                sys.stdout.write(painter.paint(token))
            sys.stdout.flush()
            if event.end is not None:
                return "".join(answer), _finish(event.end)
    except KeyboardInterrupt:
        sys.stdout.write("\n")
        client.call("chat.stop", ChatStop(chat))
        return "".join(answer), EXIT_INTERRUPTED


def _next(client: ControlClient, chat: int) -> ChatEvent:
    while True:
        notice = client.next_notice(SILENCE_SECONDS)
        if notice is None:
            raise ControlError(f"the node said nothing for {SILENCE_SECONDS:.0f} s", "unavailable")
        if isinstance(notice.data, ChatEvent) and notice.data.chat == chat:
            return notice.data


def _finish(end: ChatEnd) -> int:
    sys.stdout.write("\n")
    if end.reason == "failed":
        print(f"nexusnode: {printable(end.sentence)}", file=sys.stderr)
        return ANSWERS.get(end.code, Answer()).exit
    kept = f"{end.accepted} of {end.tokens} tokens were drafted by nodes"
    print(f"({kept}, {end.steps} passes of the target)", file=sys.stderr)
    return 0


class Painter:
    """Shows a token's origin where the output is a terminal that wants colour."""

    def __init__(self, is_coloured: bool) -> None:
        self._is_coloured = is_coloured

    def paint(self, token: ChatToken) -> str:
        text = printable(token.text)
        return f"{DRAFTED}{text}{PLAIN}" if self._is_coloured and token.node and text else text


def printable(text: str) -> str:
    """Return a host's words without what could command a terminal."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _set_access(client: ControlClient, flags: argparse.Namespace) -> None:
    """Store what was given; ask a person for what was never set, and tell a program."""
    pairs = []
    settings = {pair.key: pair.value for pair in client.call("settings.get", Nothing()).pairs}
    is_new = settings.get("chat.url", '""') == '""' and not flags.url
    if is_new and not sys.stdin.isatty():
        raise ConfigError("no host to chat with yet: give --url and --key-file once")
    url = flags.url or (input("Address of the host's API (…/v1): ").strip() if is_new else "")
    if url:
        pairs.append(Pair("chat.url", toml_value(url)))
    key = _new_key(flags, is_new)
    if key is not None:
        pairs.append(Pair("chat.key", toml_value(key)))
    if pairs:
        client.call("settings.set", SettingsPatch(tuple(pairs), None))


def _new_key(flags: argparse.Namespace, is_new: bool) -> str | None:
    if flags.key_file:
        try:
            return Path(flags.key_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--key-file {flags.key_file}: cannot be read") from error
    if flags.set_key or is_new:
        return getpass.getpass("API key (not shown): ").strip()
    return None


def _between(flag: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise UsageError(f"{flag} {value}: expected {low:g} to {high:g}")
    return value
