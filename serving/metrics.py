"""What Prometheus is told of a server, under the names that TF Serving gives it.

Dashboards and alerts written for TF Serving read these as they are. Latencies are in
microseconds, as there.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from serving.config_messages import MonitoringConfig, read_message

MONITORING_CONFIG = "monitoring.config"
DEFAULT_PATH = "/monitoring/prometheus/metrics"

_PREFIX = ":tensorflow:serving:"
_BUCKETS_US = tuple(10.0 * 1.8**power for power in range(33))  # TF Serving's


class ServerMetrics:
    """Counts and times calls; any thread may call it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = _Counts(
            f"{_PREFIX}request_count",
            "The total number of requests.",
            ("model_name", "status"),
        )
        self._loads = _Counts(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "The number of times a SavedModel was requested to be loaded.",
            ("model_path", "status"),
        )
        for counts in (self._requests, self._loads):
            self._registry.register(counts)
        self._request_latency = Histogram(
            f"{_PREFIX}request_latency",
            "Microseconds from a request's arrival to its answer.",
            ("model_name", "API", "entrypoint"),
            buckets=_BUCKETS_US,
            registry=self._registry,
        )
        self._runtime_latency = Histogram(
            f"{_PREFIX}runtime_latency",
            "Microseconds that the graph ran for a request.",
            ("model_name", "API", "runtime"),
            buckets=_BUCKETS_US,
            registry=self._registry,
        )

    def count_request(
        self, model: str, api: str, entrypoint: str, status: str, seconds: float
    ) -> None:
        """Notes a call that has been answered.

        Args:
            model: its name; that of a model that is not served counts as "".
            api: "Predict", "Classify", ...
            entrypoint: "GRPC" or "REST".
            status: name of the gRPC status.
            seconds: from its arrival to its answer.
        """
        self._requests.add(model, status)
        if status == "OK":
            labels = (model, api, entrypoint)
            self._request_latency.labels(*labels).observe(1e6 * seconds)

    def time_graph(self, model: str, api: str, seconds: float) -> None:
        """Notes how long the graph of a model ran."""
        self._runtime_latency.labels(model, api, "TF1").observe(1e6 * seconds)

    def count_load(self, path: str, is_loaded: bool) -> None:
        """Notes an attempt at loading a version."""
        self._loads.add(path, "success" if is_loaded else "fail")

    def exposition(self) -> bytes:
        """Returns everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Counts(Collector):
    """Counts under a plain name: the client's own counters would end in `_total`."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...]):
        self._facts = (name, documentation)
        self._labels = labels
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()

    def add(self, *labels: str) -> None:
        with self._lock:
            self._counts[labels] += 1

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            counts = sorted(self._counts.items())
        family = UntypedMetricFamily(*self._facts, labels=self._labels)
        for labels, count in counts:
            family.add_metric(labels, count)
        yield family


def prometheus_path(root: Path) -> str | None:
    """Returns where metrics are served, by `monitoring.config`; None where they are not.

    Raises:
        ServerStartError: if the file cannot be understood.
    """
    file = root / MONITORING_CONFIG
    if not file.exists():
        return None
    config = read_message(MonitoringConfig, file)
    if not config.prometheus_config.enable:
        return None
    return config.prometheus_config.path or DEFAULT_PATH
