"""Bytes per second over time, by the way they went."""

from __future__ import annotations

from collections.abc import Sequence

from .moment import Moment
from .plots import TimeAxis
from .series import Tiers
from .time_plot import Line, TimePlot
from .units import BYTE_RATES

__all__ = ["ByKind"]


class ByKind(TimePlot):
    """Plot of the bytes per second, in both directions, as messages, streams, and one-sided.

    Parameters
    ----------
    axis, steps, series
        As for `TimePlot`.
    """

    def __init__(self, axis: TimeAxis, steps: Sequence[float], series: Tiers | None = None) -> None:
        lines = [
            Line("tagged", "messages", 3.5),
            Line("streamed", "streams", 2.0, (8, 3)),
            Line("one_sided", "put and got", 1.5, (2, 2)),
        ]
        super().__init__(
            axis, steps, "by_kind", "Throughput by kind", BYTE_RATES, 1000.0, lines, series=series
        )

    def update(self, moment: Moment) -> None:
        """Add the rates of a moment."""
        rates = moment.rates()
        streamed = sum(rate.stream_bytes_sent + rate.stream_bytes_received for rate in rates)
        one_sided = sum(rate.put_bytes + rate.get_bytes for rate in rates)
        total = sum(rate.bytes_sent + rate.bytes_received for rate in rates)
        self.series.append(moment.time, total - streamed - one_sided, streamed, one_sided)
