"""What an operator's Prometheus reads of the engine's counts."""

from dataclasses import replace

import pytest

from verifier_host.front.metrics import SPEED_STEPS, HostMetrics, Speed
from verifier_host.messages import Gauge

NOTHING = Gauge(
    running=0, waiting=0, slots_held=0, slots_cached=0, slots_free=0, steps=0, rows_target=0,
    rows_draft=0, rows_prompt=0, rows_host=0, accepted=0, accepted_host=0, stale=0, preemptions=0,
    prefix_queries=0, prefix_hits=0, holds=0, hold_seconds=0.0, compute_seconds=0.0,
    busy_seconds=0.0, step_seconds=(), accepted_by_depth=(), budgets=(), rss_bytes=0,
)  # fmt: skip


def value(metrics: HostMetrics, name: str, **labels: str) -> float | None:
    found: float | None = metrics.registry.get_sample_value(name, labels)
    return found


def test_draft_rows_are_told_apart_by_source_and_by_what_came_of_them() -> None:
    metrics = HostMetrics("m")

    metrics.gauge(replace(NOTHING, rows_draft=100, rows_host=30, accepted=60, accepted_host=20))

    rows = {
        (source, outcome): value(metrics, "nexus_draft_rows_total", source=source, outcome=outcome)
        for source in ("host", "node")
        for outcome in ("accepted", "wasted")
    }
    assert rows == {
        ("host", "accepted"): 20,
        ("host", "wasted"): 10,
        ("node", "accepted"): 40,
        ("node", "wasted"): 30,
    }


def test_tokens_per_step_are_those_of_late_and_go_on_over_a_restart() -> None:
    metrics = HostMetrics("m")
    assert value(metrics, "nexus_tokens_per_step", model_name="m") == 0

    metrics.gauge(replace(NOTHING, rows_target=100, accepted=150))
    assert value(metrics, "nexus_tokens_per_step", model_name="m") == 2.5

    metrics.engine_down()
    metrics.gauge(replace(NOTHING, rows_target=10, accepted=15))
    assert value(metrics, "nexus_tokens_per_step", model_name="m") == 2.5


def test_what_is_long_past_no_longer_counts_in_the_speed() -> None:
    speed = Speed()
    speed.add(SPEED_STEPS, 3 * SPEED_STEPS)

    for _ in range(10):
        speed.add(SPEED_STEPS, 0)

    assert speed.tokens_per_step == pytest.approx(1, abs=0.01)
