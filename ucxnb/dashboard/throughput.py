"""Bytes per second over time."""

from __future__ import annotations

from collections.abc import Sequence

from .moment import Moment
from .plots import TimeAxis
from .series import Tiers
from .time_plot import Line, TimePlot
from .units import BYTE_RATES

__all__ = ["Throughput"]


class Throughput(TimePlot):
    """Plot of the bytes per second that all workers together send and receive.

    Parameters
    ----------
    axis, steps, series
        As for `TimePlot`.
    """

    def __init__(self, axis: TimeAxis, steps: Sequence[float], series: Tiers | None = None) -> None:
        lines = [Line("sent", "sent", 3.5), Line("received", "received", 1.5)]
        super().__init__(
            axis, steps, "throughput", "Throughput", BYTE_RATES, 1000.0, lines, series=series
        )

    def update(self, moment: Moment) -> None:
        """Add the rates of a moment."""
        rates = moment.rates()
        self.series.append(
            moment.time,
            sum(rate.bytes_sent for rate in rates),
            sum(rate.bytes_received for rate in rates),
        )
