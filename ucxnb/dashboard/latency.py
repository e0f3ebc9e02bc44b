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
_TITLE = "Latency of requests"
_ALWAYS_SHOWN = (1e3, 1e5)  # nanoseconds


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
            _TITLE,
            NANOSECONDS,
            0.0,
            lines,
            coarsen=max,
            log=True,
            series=series,
        )
        self._none_yet = True
        points = [  # what stands alone between two gaps is no line
            self.root.scatter("time", line.column, source=self.source, size=3, name=line.column)
            for line in lines
        ]
        bounds = self.root.scatter([0, 0], _ALWAYS_SHOWN, alpha=0, name="none")
        self.y_range.renderers = [*points, bounds]

    def update(self, moment: Moment) -> None:
        """Add the percentiles of what ended since the earlier snapshots; none if nothing did."""
        ended: Histogram = total_of(
            [
                now.latencies.since(then.latencies)
                for then, now in zip(moment.earlier, moment.later, strict=True)
            ]
        )
        self._none_yet &= ended.total == 0
        found = ended.percentiles(_PERCENTS[::-1])[::-1]
        self.series.append(moment.time, *(math.nan if p is None else max(p, 1.0) for p in found))

    def texts(self) -> dict[str, str]:
        """The title, which says why there may be nothing to see, by the name of its model."""
        return {"latency-title": f"{_TITLE}: none yet" if self._none_yet else _TITLE}
