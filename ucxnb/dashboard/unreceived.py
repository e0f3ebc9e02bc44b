"""Bytes that wait to be received, over time."""

from __future__ import annotations

from ..stats import WorkerStats
from .rate_plot import RatePlot

__all__ = ["Unreceived"]


class Unreceived(RatePlot):
    """Plot of what has arrived at a worker and nobody has received.

    Parameters
    ----------
    window : float
        Seconds shown.
    length : int
        Points kept.
    """

    def __init__(self, window: float, length: int) -> None:
        units = ("B", "kB", "MB", "GB", "TB")
        super().__init__(
            "unreceived", "Unreceived", units, 1000.0, window, length, lines=("received",)
        )

    def update(self, time: float, earlier: WorkerStats, later: WorkerStats) -> None:
        """Add what the later snapshot says as the point at `time` (epoch seconds)."""
        self.series.append(time, later.unreceived_bytes)
