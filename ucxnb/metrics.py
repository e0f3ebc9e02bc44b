"""Metrics of workers for Prometheus, by its official client library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .address import Address, parse_address
from .errors import AddressInUseError
from .histogram import Histogram

if TYPE_CHECKING:
    from .dashboard.watched import Watched

__all__ = ["MetricsServer", "WorkerCollector"]

# Fields of WorkerStats and TrafficStats, and what they are.
_COUNTERS = {
    "messages_sent": "Messages whose send completed.",
    "messages_received": "Messages that were received.",
    "bytes_sent": "Payload sent, in bytes.",
    "bytes_received": "Payload received, in bytes.",
    "stream_bytes_sent": "Those of them that went through streams.",
    "stream_bytes_received": "Those of them that went through streams.",
    "puts": "Accesses that wrote into a peer's memory.",
    "gets": "Accesses that read from a peer's memory.",
    "atomics": "Numbers that were changed in a peer's memory.",
    "put_bytes": "What was written into peers' memory, in bytes.",
    "get_bytes": "What was read from peers' memory, in bytes.",
    "errors": "Operations that failed, and connections that were lost.",
}
_GAUGES = {
    "unreceived_messages": "Messages that have arrived and wait to be received.",
    "unreceived_bytes": "Their payload, in bytes.",
    "sends_held": "Sends that wait, since the peer has too much unreceived.",
    "sends_in_flight": "Sends under way.",
    "bytes_in_flight": "Their payload, in bytes.",
}
_SIZE_POWERS = range(0, 35, 2)
_LATENCY_POWERS = range(10, 36)  # of nanoseconds: 1 µs to 34 s


class WorkerCollector(Collector):
    """Give a registry the metrics of workers, at each time it is asked.

    Parameters
    ----------
    workers : sequence of Watched
        What a dashboard takes: each has a ``name`` and a ``snapshot()``.
    """

    def __init__(self, workers: Sequence[Watched]) -> None:
        self._workers = tuple(workers)

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot of each worker, and make metrics of them."""
        snapshots = [worker.snapshot() for worker in self._workers]
        totals = [([snapshot.name], snapshot.stats) for snapshot in snapshots]
        peers = [
            ([snapshot.name, str(e.endpoint_id), e.peer_name or e.peer_address], e.stats)
            for snapshot in snapshots
            for e in snapshot.endpoints
        ]
        yield from _families("ucxnb", ["worker"], totals)
        yield from _families("ucxnb_endpoint", ["worker", "endpoint", "peer"], peers)
        connections = GaugeMetricFamily(
            "ucxnb_connections", "Connections that are open.", labels=["worker"]
        )
        busy = CounterMetricFamily(
            "ucxnb_progress_busy_seconds",
            "Time that somebody was awake to progress the worker.",
            labels=["worker"],
        )
        wake_ups = CounterMetricFamily(
            "ucxnb_progress_wake_ups", "Sleeps that an event ended.", labels=["worker"]
        )
        gap = GaugeMetricFamily(
            "ucxnb_progress_longest_gap_seconds",
            "Longest time without progress in the last seconds.",
            labels=["worker"],
        )
        for snapshot in snapshots:
            label = [snapshot.name]
            connections.add_metric(label, snapshot.stats.connections)
            busy.add_metric(label, snapshot.health.busy_seconds)
            wake_ups.add_metric(label, snapshot.health.wake_ups)
            gap.add_metric(label, snapshot.health.longest_gap)
        yield from (connections, busy, wake_ups, gap)
        for way in ("sent", "received"):
            sizes = HistogramMetricFamily(
                f"ucxnb_{way}_message_size_bytes", f"Sizes of messages {way}.", labels=["worker"]
            )
            for snapshot in snapshots:
                histogram: Histogram = getattr(snapshot, f"sizes_{way}")
                total: int = getattr(snapshot.stats, f"bytes_{way}")
                ends = [(float((1 << power) - 1), power + 1) for power in _SIZE_POWERS]
                sizes.add_metric([snapshot.name], _cumulated(histogram, ends), total)
            yield sizes
        latency = HistogramMetricFamily(
            "ucxnb_request_latency_seconds",
            "Time from start to end of requests; there is no sum.",
            labels=["worker"],
        )
        for snapshot in snapshots:
            steps = snapshot.latencies.steps
            ends = [(2.0**power * 1e-9, 1 + steps * power) for power in _LATENCY_POWERS]
            latency.add_metric([snapshot.name], _cumulated(snapshot.latencies, ends), None)
        yield latency


def _families(
    prefix: str, labels: list[str], rows: Sequence[tuple[list[str], Any]]
) -> Iterator[Metric]:
    """A metric of each field of the statistics."""
    for name, text in _COUNTERS.items():
        counter = CounterMetricFamily(f"{prefix}_{name}", text, labels=labels)
        for values, stats in rows:
            counter.add_metric(values, getattr(stats, name))
        yield counter
    for name, text in _GAUGES.items():
        gauge = GaugeMetricFamily(f"{prefix}_{name}", text, labels=labels)
        for values, stats in rows:
            gauge.add_metric(values, getattr(stats, name))
        yield gauge


def _cumulated(histogram: Histogram, ends: Iterable[tuple[float, int]]) -> list[tuple[str, float]]:
    """Counts up to some ends, each with the number of buckets that lie below it."""
    counts = histogram.counts
    buckets = [(str(end), float(sum(counts[:below]))) for end, below in ends]
    return [*buckets, ("+Inf", float(histogram.total))]


class MetricsServer:
    """Serve the metrics of workers over HTTP, at ``/metrics``, until it is closed.

    Parameters
    ----------
    workers : sequence of Watched
        As for `WorkerCollector`.
    address : str
        ``host:port`` to listen on. Who can reach it can read the names of workers and peers, and
        how much they exchange: by default only this machine can.

    Attributes
    ----------
    address : str
        As really bound.

    Raises
    ------
    AddressError, AddressInUseError
        Nothing is served.

    Notes
    -----
    A context manager. The server is ``prometheus_client.start_http_server``.
    """

    def __init__(self, workers: Sequence[Watched], address: str = "127.0.0.1:0") -> None:
        where = parse_address(address, default_host="127.0.0.1", any_port=True)
        registry = CollectorRegistry()
        registry.register(WorkerCollector(workers))
        try:
            self._server, self._thread = start_http_server(where.port, where.host, registry)
        except OSError as error:
            raise AddressInUseError(
                f"{where}: metrics cannot be served there: {error.strerror}; choose another port"
            ) from None
        self.address = str(Address(where.host, self._server.server_port))

    def close(self) -> None:
        """Stop serving. Twice is fine."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsServer on http://{self.address}/metrics>"
