"""How long requests took, over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..histogram import Histogram, total_of
from .moment import Moment
from .plots import TimeAxis
from .series import Tiers
from .time_plot import Line, TimePlot
from .units import NANOSECONDS

__all__ = ["Latency"]

_PERCENTS = (99.9, 99.0, 50.0)


class Latency(TimePlot):
    """Plot of percentiles of the latencies of the requests that ended at each time.

    Parameters
    ----------
    axis, steps, series
        As for `TimePlot`. Coarser points are the greatest of their time.
    """

    def __init__(self, axis: TimeAxis, steps: Sequence[float], series: Tiers | None = None) -> None:
        lines = [
            Line("p999", "p99.9", 1.5, (2, 3)),
            Line("p99", "p99", 1.5, (6, 3)),
            Line("p50", "median", 2.5),
        ]
        super().__init__(
            axis,
            steps,
            "latency",
            "Latency of requests",
            NANOSECONDS,
            0.0,
            lines,
            coarsen=max,
            log=True,
            series=series,
        )

    def update(self, moment: Moment) -> None:
        """Add the percentiles of what ended since the earlier snapshots; none if nothing did."""
        ended: Histogram = total_of(
            [
                now.latencies.since(then.latencies)
                for then, now in zip(moment.earlier, moment.later, strict=True)
            ]
        )
        found = ended.percentiles(_PERCENTS[::-1])[::-1]
        self.series.append(moment.time, *(math.nan if p is None else max(p, 1.0) for p in found))
