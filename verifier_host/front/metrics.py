"""The host's metrics, under vLLM's names where it has one. Labels never hold keys or peers."""

import math
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from verifier_host import messages

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_MODEL = ("model_name",)
SPEED_STEPS = 512  # over which τ is averaged; chosen: seconds of a busy host


class HostMetrics:
    """Counters of the front, and what the engine counts in its `Gauge` messages."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._engine = _EngineCollector(model)
        self.registry.register(self._engine)
        self._prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens admitted.")
        self._generated = self._counter("vllm:generation_tokens", "Tokens generated.")
        self._drafts = self._counter("vllm:spec_decode_num_drafts", "Steps with draft rows.")
        self._success = Counter(
            "vllm:request_success",
            "Choices that ended, by reason.",
            (*_MODEL, "finished_reason"),
            registry=self.registry,
        )
        self._first = self._histogram(
            "vllm:time_to_first_token_seconds", "From request to its first token."
        )
        self._between = self._histogram(
            "vllm:inter_token_latency_seconds", "Between tokens of one choice."
        )
        self._whole = self._histogram(
            "vllm:e2e_request_latency_seconds", "From request to the last token of a choice."
        )
        self._queue = self._histogram(
            "vllm:request_queue_time_seconds", "From request to its room in the engine."
        )
        self._refused = Counter(
            "nexus_refused",
            "Requests, frames and streams refused, by code.",
            ("code",),
            registry=self.registry,
        )
        self._nodes = Gauge(
            "nexus_nodes", "Nodes connected, handshake done.", registry=self.registry
        )
        self._exact = Gauge(
            "nexus_exact", "1: the engine is row-invariant.", _MODEL, registry=self.registry
        )
        self._restarts = Counter(
            "nexus_engine_restarts", "Times the engine was started again.", registry=self.registry
        )

    def begun(self, prompt_tokens: int) -> None:
        self._prompt_tokens.labels(self._model).inc(prompt_tokens)

    def first_token(self, seconds: float) -> None:
        """A choice got its first token."""
        self._first.labels(self._model).observe(seconds)

    def admitted(self, seconds: float) -> None:
        """A choice has room in the engine, so long after it came."""
        self._queue.labels(self._model).observe(seconds)

    def committed(self, tokens: int, seconds: float | None, has_drafts: bool) -> None:
        """Some tokens of one choice are final, `seconds` after those before."""
        self._generated.labels(self._model).inc(tokens)
        if has_drafts:
            self._drafts.labels(self._model).inc()
        if seconds is not None:
            for _ in range(tokens):
                self._between.labels(self._model).observe(seconds / tokens)

    def finished(self, reason: str, seconds: float) -> None:
        self._success.labels(self._model, reason).inc()
        self._whole.labels(self._model).observe(seconds)

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def nodes(self, count: int) -> None:
        self._nodes.set(count)

    def engine_up(self, is_exact: bool) -> None:
        self._exact.labels(self._model).set(int(is_exact))

    def engine_down(self) -> None:
        self._restarts.inc()
        self._engine.restart()

    def gauge(self, gauge: messages.Gauge) -> None:
        self._engine.hear(gauge)

    def waiting(self, count: int) -> None:
        self._engine.waiting_in_front = count

    def _counter(self, name: str, help: str) -> Counter:
        return Counter(name, help, _MODEL, registry=self.registry)

    def _histogram(self, name: str, help: str) -> Histogram:
        return Histogram(name, help, _MODEL, buckets=_SECONDS, registry=self.registry)


class Speed:
    """τ of late: tokens that a session gets from a step behind its prompt, drafted or not."""

    def __init__(self) -> None:
        self._steps = 0.0
        self._accepted = 0.0

    def add(self, steps: int, accepted: int) -> None:
        """Learn from so many more steps, each session's counted apart."""
        kept = math.exp(-steps / SPEED_STEPS)
        self._steps = self._steps * kept + steps
        self._accepted = self._accepted * kept + accepted

    @property
    def tokens_per_step(self) -> float:
        return 1.0 + self._accepted / self._steps if self._steps else 0.0


class _EngineCollector(Collector):
    """Shows the engine's latest counts; its counters go on over a restart."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._before: dict[str, float] = {}
        self._speed = Speed()
        self.latest: messages.Gauge | None = None
        self.waiting_in_front = 0

    def hear(self, gauge: messages.Gauge) -> None:
        before = self.latest
        self._speed.add(
            gauge.rows_target - (before.rows_target if before else 0),
            gauge.accepted - (before.accepted if before else 0),
        )
        self.latest = gauge

    def restart(self) -> None:
        self._before = dict(self._totals())
        self.latest = None

    def collect(self) -> list[Metric]:
        gauge = self.latest
        held = gauge.slots_held + gauge.slots_cached if gauge else 0
        slots = held + gauge.slots_free if gauge else 0
        simple = {
            "vllm:num_requests_running": gauge.running if gauge else 0,
            "vllm:num_requests_waiting": max(
                gauge.waiting if gauge else 0, self.waiting_in_front if not gauge else 0
            ),
            "vllm:kv_cache_usage_perc": held / slots if slots else 0.0,
            "nexus_engine_rss_bytes": gauge.rss_bytes if gauge else 0,
            "nexus_tokens_per_step": self._speed.tokens_per_step,
        }
        metrics: list[Metric] = [self._gauge(name, value) for name, value in simple.items()]
        metrics += [self._counter(name, value) for name, value in self._totals().items()]
        return [*metrics, self._steps(), self._rows(), self._draft_rows(), self._depths()]

    def _totals(self) -> Mapping[str, float]:
        gauge = self.latest
        now = {
            "vllm:prefix_cache_queries": gauge.prefix_queries if gauge else 0,
            "vllm:prefix_cache_hits": gauge.prefix_hits if gauge else 0,
            "vllm:num_preemptions": gauge.preemptions if gauge else 0,
            "vllm:spec_decode_num_draft_tokens": gauge.rows_draft if gauge else 0,
            "vllm:spec_decode_num_accepted_tokens": gauge.accepted if gauge else 0,
            "nexus_steps": gauge.steps if gauge else 0,
            "nexus_stale_guesses": gauge.stale if gauge else 0,
            "nexus_holds": gauge.holds if gauge else 0,
            "nexus_hold_seconds": gauge.hold_seconds if gauge else 0,
            "nexus_compute_seconds": gauge.compute_seconds if gauge else 0,
            "nexus_busy_seconds": gauge.busy_seconds if gauge else 0,
        }
        return {name: value + self._before.get(name, 0) for name, value in now.items()}

    def _gauge(self, name: str, value: float) -> Metric:
        metric = GaugeMetricFamily(name, name, labels=_MODEL)
        metric.add_metric([self._model], value)
        return metric

    def _counter(self, name: str, value: float) -> Metric:
        metric = CounterMetricFamily(name, name, labels=_MODEL)
        metric.add_metric([self._model], value)
        return metric

    def _steps(self) -> Metric:
        metric = GaugeMetricFamily(
            "nexus_step_seconds", "Median of late steps, by rows.", labels=("rows",)
        )
        for rows, seconds in self.latest.step_seconds if self.latest else ():
            metric.add_metric([str(rows)], seconds)
        return metric

    def _rows(self) -> Metric:
        metric = CounterMetricFamily(
            "nexus_rows", "Rows computed, by source (of this worker).", labels=("source",)
        )
        if self.latest:
            metric.add_metric(["target"], self.latest.rows_target)
            metric.add_metric(["draft"], self.latest.rows_draft)
            metric.add_metric(["prompt"], self.latest.rows_prompt)
        return metric

    def _draft_rows(self) -> Metric:
        metric = CounterMetricFamily(
            "nexus_draft_rows",
            "Draft rows by who had guessed them, the host alone or a node, and by what came of them"
            " (of this worker).",
            labels=("source", "outcome"),
        )
        if gauge := self.latest:
            nodes = gauge.rows_draft - gauge.rows_host, gauge.accepted - gauge.accepted_host
            for source, (rows, accepted) in {
                "host": (gauge.rows_host, gauge.accepted_host),
                "node": nodes,
            }.items():
                metric.add_metric([source, "accepted"], accepted)
                metric.add_metric([source, "wasted"], rows - accepted)
        return metric

    def _depths(self) -> Metric:
        metric = CounterMetricFamily(
            "vllm:spec_decode_num_accepted_tokens_per_pos",
            "Accepted draft tokens, by depth (of this worker).",
            labels=(*_MODEL, "position"),
        )
        for depth, count in enumerate(self.latest.accepted_by_depth if self.latest else ()):
            metric.add_metric([self._model, str(depth)], count)
        return metric
