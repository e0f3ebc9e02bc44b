"""What the plots over time have in common."""

from __future__ import annotations

from pathlib import Path

from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CustomJSTickFormatter,
    DataRange1d,
    FixedTicker,
    Range1d,
)
from bokeh.models.annotations import Title
from bokeh.plotting import figure

from .series import Series

__all__ = ["RatePlot"]

_STATIC = Path(__file__).parent / "static"
_WIDTHS = {"sent": 3.5, "received": 1.5}
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600)


class RatePlot:
    """What is sent and received, or one of them, over the last `window` seconds, from 0 up.

    The page that shows it adds the key and sets the colours, which follow its theme. Received is
    the thinner line and on top: where both are equal, as with an echo, both remain visible.

    Parameters
    ----------
    name : str
        Name of the source, by which the page finds it.
    title : str
        Shown above the plot.
    units : tuple of str
        Unit of the axis, then those for a thousand, a million and so on.
    smallest : float
        Least height of the y axis, so that nothing at all does not look like something.
    window : float
        Seconds shown.
    length : int
        Points kept.
    lines : tuple of str
        Which lines there are: "sent", "received".

    Attributes
    ----------
    name : str
        As passed.
    series : Series
        The points: epoch seconds, then one number for each line.
    source : bokeh.models.ColumnDataSource
        Filled in the page; ``ago`` is the time relative to the latest point.
    root : bokeh.models.Plot
        The figure.
    """

    def __init__(
        self,
        name: str,
        title: str,
        units: tuple[str, ...],
        smallest: float,
        window: float,
        length: int,
        lines: tuple[str, ...] = ("sent", "received"),
    ) -> None:
        self.name = name
        self.lines = lines
        self.series = Series(("time", *lines), length)
        columns = (*self.series.columns, "ago")
        self.source = ColumnDataSource({column: [] for column in columns}, name=name)
        self.root = self._figure(name, title, units, smallest, window)

    def _figure(
        self, name: str, title: str, units: tuple[str, ...], smallest: float, window: float
    ) -> figure:
        plot = figure(
            name=f"{name}-plot",
            height=230,
            sizing_mode="stretch_width",
            styles={"flex": "1 1 300px", "min-width": "0"},
            tools="",
            toolbar_location=None,
            x_range=Range1d(start=-window, end=0),
            y_range=DataRange1d(start=0, min_interval=smallest, range_padding=0.08),
            background_fill_color=None,
            border_fill_color=None,
            outline_line_color=None,
            min_border_left=64,
            min_border_right=20,
            lod_threshold=None,
            title=Title(text=title, text_font_size="13px", standoff=8),
        )
        for column in self.lines:
            plot.line("ago", column, source=self.source, line_width=_WIDTHS[column], name=column)
        plot.xaxis.name = "time"
        plot.xaxis.ticker = FixedTicker(ticks=_time_ticks(window))
        plot.xaxis.formatter = _formatter("time_ticks.js", {})
        plot.yaxis.formatter = _formatter("rate_ticks.js", {"units": list(units)})
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=5, num_minor_ticks=0)
        plot.xgrid.visible = False
        for axis in (plot.xaxis, plot.yaxis):
            axis.axis_line_color = None
            axis.major_tick_line_color = None
            axis.minor_tick_line_color = None
            axis.major_label_text_font_size = "11px"
        return plot


def _time_ticks(window: float) -> list[float]:
    """Multiples of a round step, at most 7 of them, from `window` seconds ago until now."""
    step = next((s for s in _STEPS if window / s <= 6), window / 6)
    return [-step * i for i in range(int(window / step + 1e-9), -1, -1)]


def _formatter(file: str, args: dict[str, object]) -> CustomJSTickFormatter:
    return CustomJSTickFormatter(code=(_STATIC / file).read_text(encoding="utf-8"), args=args)
