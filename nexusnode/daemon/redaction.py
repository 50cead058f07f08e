"""Taking out of a text what a stranger should not read: home folder, addresses, peers, keys. Pure.

What is taken out leaves a mark, the same for the same thing, so that a reader can still follow it.
"""

import re
from collections.abc import Iterable

_ADDRESS = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6|dnsaddr)/[^\s\"',\])]+")
_URL = re.compile(r"\b(https?)://[^\s\"',\])]+")
_PEER = re.compile(r"\b(?:12D3Koo[1-9A-HJ-NP-Za-km-z]{4,}|Qm[1-9A-HJ-NP-Za-km-z]{44})")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])(?::\d{1,5})?")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])")
_KEY = re.compile(r"\b(?:sk|nx|hf)[-_][A-Za-z0-9_-]{8,}")
_LONG = re.compile(r"\b[0-9A-Fa-f]{32,}\b|\b[A-Za-z0-9+_-]{43,}={0,2}")


class Redactor:
    """Replaces what must not be read. `kept` texts, such as the node's own id, stay.

    Args:
        home: the user's home folder, written as ~.
        secrets: texts that may stand nowhere, such as a stored key.
    """

    def __init__(self, home: str, kept: Iterable[str], secrets: Iterable[str]) -> None:
        self._home = home.rstrip("/\\")
        self._kept = frozenset(text for text in kept if text)
        self._secrets = tuple(secret for secret in secrets if secret)
        self._marks: dict[tuple[str, str], str] = {}

    def clean(self, text: str) -> str:
        """Return the text with marks in place of what was taken out."""
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        if self._home:
            text = re.sub(re.escape(self._home) + r"(?![\w.-])", "~", text)
        text = _URL.sub(lambda found: self._mark("url", found), text)
        text = _ADDRESS.sub(lambda found: self._mark("address", found), text)
        text = _PEER.sub(lambda found: self._mark("peer", found), text)
        text = _IPV4.sub(lambda found: self._mark("ip", found), text)
        text = _IPV6.sub(lambda found: self._mark("ip", found), text)
        text = _KEY.sub("<secret>", text)
        return _LONG.sub(lambda found: self._mark("long", found), text)

    def _mark(self, kind: str, found: re.Match[str]) -> str:
        text = found[0]
        if text in self._kept:
            return text
        count = sum(known == kind for known, _ in self._marks) + 1
        return self._marks.setdefault((kind, text), f"<{kind} {count}>")
