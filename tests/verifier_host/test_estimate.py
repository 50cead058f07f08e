"""Does a model fit, and what is the shortest step."""

import pytest

from p2p.errors import ResourceError
from verifier_host.estimate import MIN_KV_TOKENS, Need, estimate, floor_seconds

SMALL = Need(
    parameters=134_515_008,
    layers=30,
    kv_heads=3,
    head_size=64,
    vocabulary=49_152,
    dtype="fp32",
    max_rows=64,
)
GB = 10**9


def test_what_is_left_beside_the_weights_is_kv() -> None:
    found = estimate(SMALL, 4 * GB)

    assert found.weight_bytes == 4 * 134_515_008
    assert found.kv_bytes_per_token == 30 * 3 * 128 * 4
    assert found.total_bytes <= 3.6 * GB
    assert found.total_bytes + found.kv_bytes_per_token > 3.6 * GB


def test_bf16_halves_weights_and_kv() -> None:
    wide, narrow = estimate(SMALL, 4 * GB, 1024), estimate(_as_bf16(), 4 * GB, 1024)

    assert narrow.weight_bytes * 2 == wide.weight_bytes
    assert narrow.kv_bytes_per_token * 2 == wide.kv_bytes_per_token


def test_the_configured_kv_is_taken_if_it_fits() -> None:
    assert estimate(SMALL, 4 * GB, 2048).kv_tokens == 2048


def test_what_does_not_fit_says_what_is_short_and_what_to_change() -> None:
    with pytest.raises(ResourceError, match=r"GB short.*smaller model, or model.dtype = bf16"):
        estimate(SMALL, GB // 2)
    with pytest.raises(ResourceError, match=r"smaller model\.kv_tokens"):
        estimate(SMALL, 4 * GB, 10**9)


def test_the_edge_is_exact() -> None:
    per_token = estimate(SMALL, 4 * GB).kv_bytes_per_token
    fixed = estimate(SMALL, 4 * GB, 1)
    edge = fixed.weight_bytes + fixed.work_bytes + MIN_KV_TOKENS * per_token
    just_enough = -(-edge * 10 // 9)

    assert estimate(SMALL, just_enough).kv_tokens == MIN_KV_TOKENS
    with pytest.raises(ResourceError):
        estimate(SMALL, just_enough - per_token)


def test_the_floor_is_one_pass_over_the_weights() -> None:
    assert floor_seconds(20 * GB, 10.0 * GB) == 2.0


def _as_bf16() -> Need:
    return Need(134_515_008, 30, 3, 64, 49_152, "bf16", 64)
