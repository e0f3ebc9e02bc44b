"""Bytes per second over time."""

from __future__ import annotations

from ..stats import WorkerStats
from .rate_plot import RatePlot

__all__ = ["Throughput"]


class Throughput(RatePlot):
    """Plot of the bytes per second that a worker sends and receives.

    Parameters
    ----------
    window : float
        Seconds shown.
    length : int
        Points kept.
    """

    def __init__(self, window: float, length: int) -> None:
        units = ("B/s", "kB/s", "MB/s", "GB/s", "TB/s")
        super().__init__("throughput", "Throughput", units, 1000.0, window, length)

    def update(self, time: float, earlier: WorkerStats, later: WorkerStats) -> None:
        """Add the mean rate between two snapshots as the point at `time` (epoch seconds)."""
        rates = later.since(earlier)
        self.series.append(time, rates.bytes_sent, rates.bytes_received)
