"""API keys on disk, and what one key may take."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from p2p.errors import BadKey, ConfigError, TooManyRequests
from verifier_host.api.keys import ANYONE, KeyBook, find, mint
from verifier_host.api.limits import Meter


def test_a_minted_key_is_found_by_its_secret_and_not_stored(tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys")
    secret, key = mint("ann", 1)
    book.add(key)

    assert find(book.keys(), secret) == key
    assert secret.startswith("nx-")
    assert len(secret) == 46
    assert secret not in (tmp_path / "keys").read_text()


def test_another_secret_is_refused(tmp_path: Path) -> None:
    _, key = mint("ann", 1)

    for wrong in ("", "nx-", mint("bob", 1)[0], "x" * 10_000, "\ud800"):
        with pytest.raises(BadKey):
            find([key], wrong)


def test_a_secret_is_not_accepted_with_a_tail() -> None:
    secret, key = mint("ann", 1)

    with pytest.raises(BadKey):
        find([key], secret + "x")


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    KeyBook(path).add(mint("ann", 1)[1])

    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        KeyBook(path).keys()


def test_a_running_host_sees_what_another_process_revokes(tmp_path: Path) -> None:
    served, operator = KeyBook(tmp_path / "keys"), KeyBook(tmp_path / "keys")
    secret, key = mint("ann", 1)
    operator.add(key)
    assert find(served.keys(), secret) == key

    operator.revoke("ann")

    with pytest.raises(BadKey):
        find(served.keys(), secret)


def test_a_key_is_revoked_by_id_or_by_a_name_that_is_unique(tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys")
    keys = [mint(name, 1)[1] for name in ("ann", "ann", "bob")]
    for key in keys:
        book.add(key)

    with pytest.raises(ConfigError, match="2 keys"):
        book.revoke("ann")
    with pytest.raises(ConfigError, match="no key"):
        book.revoke("carl")
    assert book.revoke(keys[0].id) == keys[0]
    assert book.revoke("bob") == keys[2]
    assert book.keys() == (keys[1],)


def test_a_missing_file_has_no_keys(tmp_path: Path) -> None:
    assert KeyBook(tmp_path / "keys").keys() == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "{}",
        "[1]",
        '[{"id": "x"}]',
        '[{"id": "x", "digest": "zz", "name": "n", "created": 1}]',
        '[{"id": "x", "digest": "00", "name": "n", "created": 1}]',
        '[{"id": "x", "digest": "00", "name": "n", "created": 1, "new": 2}]',
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match="keys"):
        KeyBook(path).keys()


def test_keys_keep_their_limits(tmp_path: Path) -> None:
    template = replace(ANYONE, draft=False, models=("m",), concurrent=1, tokens_per_minute=9)
    _, key = mint("ann", 7, template)
    KeyBook(tmp_path / "keys").add(key)

    assert KeyBook(tmp_path / "keys").keys() == (key,)
    assert json.loads((tmp_path / "keys").read_text())[0]["models"] == ["m"]


def test_a_key_without_limits_is_never_refused() -> None:
    meter = Meter()

    for _ in range(1000):
        meter.enter(ANYONE, 0.0)
        meter.leave(ANYONE, 10**9, 0.0)


def test_requests_at_a_time_are_bounded() -> None:
    meter, key = Meter(), replace(ANYONE, concurrent=2)
    meter.enter(key, 0.0)
    meter.enter(key, 0.0)

    with pytest.raises(TooManyRequests, match="2 requests at a time"):
        meter.enter(key, 0.0)

    meter.leave(key, 0, 1.0)
    meter.enter(key, 1.0)


def test_requests_a_minute_are_bounded_and_refill() -> None:
    meter, key = Meter(), replace(ANYONE, requests_per_minute=2)
    for _ in range(2):
        meter.enter(key, 0.0)
        meter.leave(key, 0, 0.0)

    with pytest.raises(TooManyRequests) as caught:
        meter.enter(key, 0.0)

    assert caught.value.retry_seconds == pytest.approx(30.0)
    meter.enter(key, 30.0)


def test_a_key_that_overdraws_its_tokens_waits_until_they_are_refilled() -> None:
    meter, key = Meter(), replace(ANYONE, tokens_per_minute=60)
    meter.enter(key, 0.0)
    meter.leave(key, 100, 0.0)

    with pytest.raises(TooManyRequests) as caught:
        meter.enter(key, 0.0)

    assert caught.value.retry_seconds == pytest.approx(41.0)
    meter.enter(key, 41.0)


def test_one_key_does_not_pay_for_another() -> None:
    meter = Meter()
    ann = replace(ANYONE, id="ann", concurrent=1)
    bob = replace(ANYONE, id="bob", concurrent=1)

    meter.enter(ann, 0.0)

    meter.enter(bob, 0.0)
