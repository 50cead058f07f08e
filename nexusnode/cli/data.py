"""What several commands need: the folders of `--data`, a connected client, lengths and times."""

import argparse
import re
from datetime import datetime, timedelta
from pathlib import Path

from nexusnode.cli.main import package_version
from nexusnode.control.client import ControlClient, open_client
from p2p.errors import UsageError
from p2p.paths import Folders, folders, socket_path

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_PAUSE_SECONDS = 366 * 86_400


def folders_of(flags: argparse.Namespace) -> Folders:
    return folders("node", Path(flags.data) if flags.data else None)


def connected(flags: argparse.Namespace) -> ControlClient:
    """Return a greeted client of the daemon that owns the data folder; `NoDaemon` if there is
    none."""
    return open_client(socket_path(folders_of(flags).data), package_version())


def parse_length(text: str) -> float:
    """Return the seconds of "90", "30m", "2h", "1h30m"."""
    if text.isascii() and text.isdigit():
        seconds = float(text)
    elif re.fullmatch(r"(\d{1,9}[smhd])+", text, re.ASCII):
        seconds = float(
            sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([smhd])", text))
        )
    else:
        raise UsageError(f"--for {text}: expected a length such as 30m, 2h or 1h30m")
    if not 0 < seconds <= MAX_PAUSE_SECONDS:
        raise UsageError(f"--for {text}: expected 1 second to 366 days")
    return seconds


def parse_time(text: str, now: datetime) -> int:
    """Return unix seconds of "18:30" (the next one), or of a date and time in ISO form."""
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}", text):
            hour, minute = text.split(":")
            when = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
            if when <= now:
                when += timedelta(days=1)
        else:
            when = datetime.fromisoformat(text)
            when = when if when.tzinfo is not None else when.replace(tzinfo=now.tzinfo)
    except ValueError as error:
        raise UsageError(
            f"--until {text}: expected a time such as 18:30 or 2026-05-01T08:00"
        ) from error
    if when <= now:
        raise UsageError(f"--until {text}: that time is over")
    return int(when.timestamp())


def until_words(unix_seconds: int | None, now: datetime) -> str | None:
    """Return when something ends, as words behind a verb."""
    if unix_seconds is None:
        return None
    when = datetime.fromtimestamp(unix_seconds, now.tzinfo)
    return when.strftime("at %H:%M" if when.date() == now.date() else "on %Y-%m-%d at %H:%M")
