"""API keys: minted once, kept as SHA-256 (they are random, so no slow hash is needed), checked.

The file is read again when it changes, so that `keys revoke` ends a key of a running host.
"""

import hashlib
import hmac
import json
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from p2p.errors import BadKey, ConfigError
from p2p.paths import write_private

PREFIX = "nx-"
SECRET_BYTES = 32
MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Key:
    """What a key may do. A limit of 0 is none; no `models` means every model.

    Attributes:
        id: names it in `keys list` and logs; not secret.
        digest: SHA-256 of the whole key, hex.
        draft: its requests may be shown to drafting nodes.
    """

    id: str
    digest: str
    name: str
    created: int
    draft: bool = True
    models: tuple[str, ...] = ()
    concurrent: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0

    @property
    def namespace(self) -> bytes:
        """Parts prefix caches: another key's prompts must not show in response times."""
        return bytes.fromhex(self.digest)


ANYONE = Key(id="anyone", digest="00" * 32, name="no key", created=0)


def mint(name: str, created: int, template: Key = ANYONE) -> tuple[str, Key]:
    """Return a new secret, to be shown once, and its key with `template`'s limits."""
    secret = PREFIX + urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    digest = _digest(secret)
    values = asdict(template) | {
        "id": digest[:8],
        "digest": digest,
        "name": name,
        "created": created,
    }
    return secret, Key(**values)


def find(keys: Sequence[Key], secret: str) -> Key:
    """Return the key of `secret`, looking at every key so that the time says nothing.

    Raises:
        BadKey: it is none of them.
    """
    digest = _digest(secret)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    if found is None:
        raise BadKey("this API key is not known here; the operator makes one: nexus-verifier keys")
    return found


class KeyBook:
    """The keys in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: tuple[Key, ...] = ()
        self._seen: tuple[int, int, int] | None = None

    def keys(self) -> tuple[Key, ...]:
        """Return all keys; a missing file has none.

        Raises:
            ConfigError: the file cannot be used, or others may read it.
        """
        try:
            state = self._path.stat()
        except FileNotFoundError:
            self._keys, self._seen = (), None
            return ()
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read ({error.strerror})") from error
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen != self._seen:
            if os.name == "posix" and state.st_mode & 0o077:
                raise ConfigError(
                    f"{self._path}: mode {state.st_mode & 0o777:o}, others may read it;"
                    f" expected 600. Run: chmod 600 {self._path}"
                )
            self._keys = self._read()
            self._seen = seen
        return self._keys

    def add(self, key: Key) -> None:
        """Add a key. `ConfigError` past `MAX_KEYS`."""
        keys = self.keys()
        if len(keys) >= MAX_KEYS:
            raise ConfigError(f"{self._path}: holds {len(keys)} keys; {MAX_KEYS} are possible")
        self._write((*keys, key))

    def revoke(self, id: str) -> Key:
        """Remove the key with this id or name and return it.

        Raises:
            ConfigError: no key, or several, go by it.
        """
        keys = self.keys()
        found = [key for key in keys if id in (key.id, key.name)]
        if len(found) != 1:
            count = "no key" if not found else f"{len(found)} keys"
            raise ConfigError(f"{count} with id or name {id!r}; see: nexus-verifier keys list")
        self._write(tuple(key for key in keys if key is not found[0]))
        return found[0]

    def _read(self) -> tuple[Key, ...]:
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._path}: cannot be read as a key file") from error
        if not isinstance(rows, list):
            raise ConfigError(f"{self._path}: expected a list of keys")
        return tuple(self._key(place, row) for place, row in enumerate(rows, 1))

    def _key(self, place: int, row: object) -> Key:
        names = {field.name for field in fields(Key)}
        try:
            if not isinstance(row, dict) or not row.keys() <= names:
                raise ValueError("unknown fields")
            key = Key(**{**row, "models": tuple(row.get("models", ()))})
            if len(key.namespace) != 32:
                raise ValueError("digest")
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self._path}: key {place} is not one this version wrote") from error
        return key

    def _write(self, keys: tuple[Key, ...]) -> None:
        write_private(self._path, json.dumps([asdict(key) for key in keys], indent=1).encode())
        self._seen = None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
