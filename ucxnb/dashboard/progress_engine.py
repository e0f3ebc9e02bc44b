"""How the progress of the workers goes, over time."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.models import BasicTicker, DataRange1d, LinearAxis

from ..snapshot import Snapshot
from .moment import Moment
from .plots import TimeAxis, formatter, plain
from .series import Tiers
from .time_plot import Line, TimePlot
from .units import NANOSECONDS, PERCENT

__all__ = ["ProgressEngine", "busy_share"]

_LEAST_GAP = 1e6  # ns; the least height of its axis


def busy_share(earlier: Snapshot, later: Snapshot) -> float:
    """Tell for how much of the time somebody was awake to progress the worker.

    Parameters
    ----------
    earlier, later : Snapshot
        Of one worker.

    Returns
    -------
    float
        0 to 1.
    """
    seconds = later.stats.elapsed - earlier.stats.elapsed
    busy = later.health.busy_seconds - earlier.health.busy_seconds
    return min(1.0, max(0.0, busy / seconds)) if seconds > 0 else 0.0


class ProgressEngine(TimePlot):
    """Plot of how busy the busiest worker's progress is, and of the longest gap in any.

    Parameters
    ----------
    axis, steps, series
        As for `TimePlot`. Coarser points are the greatest of their time.
    """

    def __init__(self, axis: TimeAxis, steps: Sequence[float], series: Tiers | None = None) -> None:
        super().__init__(
            axis,
            steps,
            "progress",
            "Progress engine: busiest worker",
            PERCENT,
            100.0,
            [
                Line("busy", "busy", 2.5),
                Line("gap", "longest gap (right)", 1.5, (5, 3), NANOSECONDS, y_range="gap"),
            ],
            coarsen=max,
            series=series,
        )
        right = LinearAxis(
            y_range_name="gap",
            ticker=BasicTicker(desired_num_ticks=4, num_minor_ticks=0),
            formatter=formatter("rate_ticks.js", units=list(NANOSECONDS)),
        )
        plain(right)
        self.root.add_layout(right, "right")

    def extra_ranges(self) -> dict[str, DataRange1d]:
        """Give the ranges that lines name."""
        return {"gap": DataRange1d(start=0, min_interval=_LEAST_GAP, range_padding=0.08)}

    def update(self, moment: Moment) -> None:
        """Add the share of the time since the earlier snapshots, and the longest gap."""
        pairs = zip(moment.earlier, moment.later, strict=True)
        gaps = (snapshot.health.longest_gap for snapshot in moment.later if not snapshot.closed)
        self.series.append(
            moment.time,
            100 * max(busy_share(*pair) for pair in pairs),
            1e9 * max(gaps, default=0.0),
        )
