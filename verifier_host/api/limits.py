"""What one key may take: requests at a time, requests a minute, tokens a minute. Pure: `now` is an
argument."""

from dataclasses import dataclass

from p2p.errors import TooManyRequests
from verifier_host.api.keys import Key

MINUTE = 60.0
CONCURRENT_RETRY_SECONDS = 2.0  # chosen: about one short answer


@dataclass(slots=True)
class _Account:
    running: int = 0
    requests: float = 0.0  # used up and not refilled yet
    tokens: float = 0.0
    at: float = 0.0


class Meter:
    """Counts what each key has used. Tokens are charged when a request ends, since only then their
    number is known; a key that has overdrawn waits until its minute has refilled."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def enter(self, key: Key, now: float) -> None:
        """Count a request in, to be counted out by `leave`.

        Raises:
            TooManyRequests: the key is at one of its limits; nothing was counted.
        """
        account = self._refilled(key, now)
        if key.concurrent and account.running >= key.concurrent:
            raise TooManyRequests(
                f"this key may run {key.concurrent} requests at a time", CONCURRENT_RETRY_SECONDS
            )
        rate = key.requests_per_minute
        if rate and account.requests + 1 > rate:
            seconds = (account.requests + 1 - rate) * MINUTE / rate
            raise TooManyRequests(f"this key may send {rate} requests a minute", seconds)
        limit = key.tokens_per_minute
        if limit and account.tokens >= limit:
            seconds = (account.tokens - limit + 1) * MINUTE / limit
            raise TooManyRequests(f"this key may use {limit} tokens a minute", seconds)
        account.running += 1
        account.requests += 1

    def leave(self, key: Key, tokens: int, now: float) -> None:
        """Count a request out, with the tokens of its prompt and its answer."""
        account = self._refilled(key, now)
        account.running -= 1
        account.tokens += tokens
        if not account.running and account.requests <= 0 and account.tokens <= 0:
            del self._accounts[key.id]

    def _refilled(self, key: Key, now: float) -> _Account:
        account = self._accounts.setdefault(key.id, _Account(at=now))
        minutes = (now - account.at) / MINUTE
        account.at = now
        account.requests = max(0.0, account.requests - minutes * key.requests_per_minute)
        account.tokens = max(0.0, account.tokens - minutes * key.tokens_per_minute)
        if not key.requests_per_minute:
            account.requests = 0.0
        if not key.tokens_per_minute:
            account.tokens = 0.0
        return account
