"""Numbers in words for people: sizes, lengths of time, shares. Pure but for the translation."""

import re

from PySide6.QtCore import QCoreApplication, QLocale

UNKNOWN = "—"


def size(count: float) -> str:
    """Return bytes as people count them, in powers of 1000: "531 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{_number(count, 1 if unit == 'GB' and count < 100 else 0)} {unit}"
        count /= 1000
    return f"{_number(count, 1)} TB"


def lasting(seconds: float) -> str:
    """Return a length of time in its largest unit: "12 seconds", "3 minutes", "2 hours"."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= length * (1.5 if unit == "minute" else 1):
            return plural(unit, round(seconds / length))
    return plural("second", round(seconds))


def plural(noun: str, count: int) -> str:
    """Return the count with its noun."""
    text = {
        "second": QCoreApplication.translate("words", "%n second(s)", None, count),
        "minute": QCoreApplication.translate("words", "%n minute(s)", None, count),
        "hour": QCoreApplication.translate("words", "%n hour(s)", None, count),
        "host": QCoreApplication.translate("words", "%n host(s)", None, count),
        "token": QCoreApplication.translate("words", "%n token(s)", None, count),
    }[noun]
    # Without a translator loaded Qt leaves "(s)" as written: English is made here.
    return text.replace("(s)", "" if count == 1 else "s")


def number(count: int) -> str:
    """Return a whole number with thousands apart."""
    return QLocale().toString(count)


def share(part: float, whole: float) -> str:
    """Return part of whole in per cent; "—" if there is no whole."""
    return f"{_number(100 * part / whole, 1)} %" if whole else UNKNOWN


def short_id(peer: str) -> str:
    """Return a peer id so short that it can be told from others: "12D3…4eTd"."""
    return peer if len(peer) <= 12 else f"{peer[:4]}…{peer[-4:]}"


def breakable(text: str) -> str:
    """Return a path, address or id with places where a line may break; it looks the same."""
    return re.sub(r"[/_]|\w{12}", "\\g<0>\u200b", text)


def _number(value: float, digits: int) -> str:
    return QLocale().toString(float(value), "f", digits)
