"""Bytes that are on their way, or wait to be received, over time."""

from __future__ import annotations

from collections.abc import Sequence

from .moment import Moment
from .plots import TimeAxis
from .series import Tiers
from .time_plot import Line, TimePlot
from .units import BYTES

__all__ = ["Waiting"]


class Waiting(TimePlot):
    """Plot of the bytes in flight, and of those that have arrived and nobody has received.

    Parameters
    ----------
    axis, steps, series
        As for `TimePlot`. Coarser points are the greatest of their time.
    """

    def __init__(self, axis: TimeAxis, steps: Sequence[float], series: Tiers | None = None) -> None:
        lines = [Line("in_flight", "in flight", 3.5), Line("unreceived", "unreceived", 1.5)]
        super().__init__(
            axis,
            steps,
            "waiting",
            "Waiting",
            BYTES,
            1000.0,
            lines,
            coarsen=max,
            series=series,
        )

    def update(self, moment: Moment) -> None:
        """Add what the snapshots of a moment say."""
        self.series.append(
            moment.time,
            sum(snapshot.stats.bytes_in_flight for snapshot in moment.later),
            sum(snapshot.stats.unreceived_bytes for snapshot in moment.later),
        )
