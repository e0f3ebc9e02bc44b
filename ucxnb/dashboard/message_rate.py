"""Messages per second over time."""

from __future__ import annotations

from ..stats import WorkerStats
from .rate_plot import RatePlot

__all__ = ["MessageRate"]


class MessageRate(RatePlot):
    """Plot of the messages per second that a worker sends and receives.

    Parameters
    ----------
    window : float
        Seconds shown.
    length : int
        Points kept.
    """

    def __init__(self, window: float, length: int) -> None:
        units = ("/s", "k/s", "M/s", "G/s")
        super().__init__("message_rate", "Message rate", units, 10.0, window, length)

    def update(self, time: float, earlier: WorkerStats, later: WorkerStats) -> None:
        """Add the mean rate between two snapshots as the point at `time` (epoch seconds)."""
        rates = later.since(earlier)
        self.series.append(time, rates.messages_sent, rates.messages_received)
