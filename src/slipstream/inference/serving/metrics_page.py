"""Counters and timings of a server in Prometheus' format."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class ServerMetrics:
    """The metrics at `/metrics`: requests by path and status, their durations, batches and waiting times."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "slipstream_requests", "Requests answered", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "slipstream_request_seconds",
            "Seconds from a request to its answer",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.rows = Histogram(
            "slipstream_batch_rows", "Rows computed together", buckets=ROWS, registry=self.registry
        )
        self.waits = Histogram(
            "slipstream_wait_seconds",
            "Seconds that a request waited for its batch",
            buckets=SECONDS,
            registry=self.registry,
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def batch(self, rows: int, waits: Sequence[float]) -> None:
        """Count a batch with its rows and the seconds that each request waited for it."""
        self.rows.observe(rows)
        for seconds in waits:
            self.waits.observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
