"""Lines over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bokeh.models import ColumnDataSource, DataRange1d

from .plots import TimeAxis, add_hover, add_legend, scale_y
from .series import Tiers, mean

__all__ = ["Line", "TimePlot"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line. Widths and dashes tell lines apart where colours cannot.

    Where two may be equal, as sent and received are with an echo, the thinner one comes later and
    so lies on top: both remain visible.

    Attributes
    ----------
    column : str
        Its column, and the name that the page paints it by.
    text : str
        What the key says.
    width : float
        Pixels.
    dash : tuple of int
        Pixels drawn and left out in turn; empty if solid.
    units : tuple of str
        Its unit, then those for a thousand, a million and so on; those of the plot if empty.
    y_range : str
        Of `TimePlot.extra_ranges`, or the plot's own.
    """

    column: str
    text: str
    width: float = 2.0
    dash: tuple[int, ...] = ()
    units: tuple[str, ...] = ()
    y_range: str = "default"


class TimePlot:
    """Numbers over time, as lines from 0 up.

    Parameters
    ----------
    axis : TimeAxis
        The time of the page it is for.
    steps : sequence of float
        Of its `Tiers`.
    name : str
        Name of the source, by which the page finds it.
    title : str
        Shown above the plot.
    units : sequence of str
        Unit of the axis, then those for a thousand, a million and so on.
    smallest : float
        Least height of the y axis.
    lines : sequence of Line
        What is drawn.
    coarsen : callable
        As for `Tiers`.
    log : bool
        Whether the y axis is logarithmic.
    series : Tiers, optional
        Points that another one like it is given; else its own.

    Attributes
    ----------
    name : str
        As passed.
    series : Tiers
        The points: epoch seconds, then one number for each line.
    source : bokeh.models.ColumnDataSource
        Filled in the page.
    root : bokeh.plotting.figure
        The plot.
    y_range : bokeh.models.DataRange1d
        Its range.
    """

    def __init__(
        self,
        axis: TimeAxis,
        steps: Sequence[float],
        name: str,
        title: str,
        units: Sequence[str],
        smallest: float,
        lines: Sequence[Line],
        *,
        coarsen: Callable[[Sequence[float]], float] = mean,
        log: bool = False,
        series: Tiers | None = None,
    ) -> None:
        self.name = name
        columns = ("time", *(line.column for line in lines))
        self.series = Tiers(columns, steps, coarsen) if series is None else series
        self.source = ColumnDataSource({column: [] for column in columns}, name=name)
        self.root = axis.new_plot(name, title, y_axis_type="log" if log else "linear")
        self.y_range = scale_y(self.root, units, smallest, log)
        ranges = {**self.extra_ranges(), "default": self.y_range}
        self.root.extra_y_ranges = {n: r for n, r in ranges.items() if n != "default"}
        drawn = {
            line.text: self.root.line(
                "time",
                line.column,
                source=self.source,
                line_width=line.width,
                line_dash=list(line.dash),
                line_join="round",
                name=line.column,
                y_range_name=line.y_range,
            )
            for line in lines
        }
        for y_name, y_range in ranges.items():  # else each would make room for all lines
            y_range.renderers = [drawn[line.text] for line in lines if line.y_range == y_name]
        add_legend(self.root, {text: [renderer] for text, renderer in drawn.items()})
        figures = [(line.text, line.column, line.units or units) for line in lines]
        add_hover(self.root, drawn[lines[0].text], figures, axis=axis)

    def extra_ranges(self) -> dict[str, DataRange1d]:
        """Give the ranges that lines name, besides the plot's own."""
        return {}
