"""What all plots have in common: how they look, and the time axis that those over time share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bokeh.models import (
    Axis,
    BasicTicker,
    BoxZoomTool,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    DataRange1d,
    FixedTicker,
    HoverTool,
    LogTicker,
    Range1d,
)
from bokeh.models.annotations import Legend, LegendItem, Title
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

__all__ = [
    "TimeAxis",
    "add_hover",
    "add_legend",
    "formatter",
    "new_plot",
    "plain",
    "scale_y",
    "time_ticks",
]

_STATIC = Path(__file__).parent / "static"
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600)


def time_ticks(window: float) -> list[float]:
    """Round numbers of seconds, at most 6 of them, from `window` seconds ago until now."""
    step = next((s for s in _STEPS if window / s <= 5), window / 5)
    return [-step * i for i in range(int(window / step + 1e-9), -1, -1)]


class TimeAxis:
    """The time that the plots of one page show: they move, and are zoomed, together.

    Parameters
    ----------
    window : float
        Seconds shown.

    Attributes
    ----------
    range : bokeh.models.Range1d
        Epoch seconds; moved by the page.
    ticker : bokeh.models.FixedTicker
        Likewise.
    marks : bokeh.models.ColumnDataSource
        The ``time`` of each event, drawn as a faint line through every plot.
    """

    def __init__(self, window: float) -> None:
        self.range = Range1d(start=-window, end=0, name="time-range")
        self.ticker = FixedTicker(ticks=time_ticks(window), name="time-ticks")
        self.marks = ColumnDataSource({"time": []}, name="marks")

    def new_plot(self, name: str, title: str, height: int = 210, **options: Any) -> figure:
        """Make a plot over this time."""
        plot = new_plot(name, title, height, x_range=self.range, **options)
        plot.vspan(x="time", source=self.marks, line_width=1, name="mark", level="underlay")
        plot.xaxis.name = "time"
        plot.xaxis.ticker = self.ticker
        plot.xaxis.formatter = formatter("time_ticks.js", range=self.range)
        plot.xgrid.visible = False
        plot.add_tools(BoxZoomTool(dimensions="width"))
        return plot


def new_plot(name: str, title: str, height: int, **options: Any) -> figure:
    """Make an empty plot without colours: the page sets those, and they follow its theme."""
    plot = figure(
        name=f"{name}-plot",
        height=height,
        sizing_mode="stretch_width",
        styles={"flex": "1 1 300px", "min-width": "0"},
        tools="",
        toolbar_location=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_left=64,
        min_border_right=20,
        frame_align=False,  # else titles of plots without a key would stand lower
        lod_threshold=None,
        title=Title(text=title, text_font_size="13px", standoff=4, name=f"{name}-title"),
        **options,
    )
    for axis in plot.axis:
        plain(axis)
    return plot


def plain(axis: Axis) -> None:
    """Take what is not needed off an axis."""
    axis.axis_line_color = None
    axis.major_tick_line_color = None
    axis.minor_tick_line_color = None
    axis.major_label_text_font_size = "11px"


def scale_y(plot: figure, units: Sequence[str], smallest: float, log: bool) -> DataRange1d:
    """Give the y axis its unit, and a least height, so that nothing does not look like something.

    Parameters
    ----------
    plot : bokeh.plotting.figure
        Where.
    units : sequence of str
        The unit, then those for a thousand, a million and so on.
    smallest : float
        The least height; of no use if `log`.
    log : bool
        Whether the axis is logarithmic.

    Returns
    -------
    DataRange1d
        Its range.
    """
    if log:
        plot.yaxis.formatter = formatter("unit_ticks.js", units=list(units))
        plot.yaxis.ticker = plot.ygrid.ticker = LogTicker(desired_num_ticks=5, num_minor_ticks=0)
        y_range = DataRange1d(range_padding=0.1, default_span=2)
    else:
        plot.yaxis.formatter = formatter("rate_ticks.js", units=list(units))
        plot.yaxis.ticker = plot.ygrid.ticker = BasicTicker(desired_num_ticks=4, num_minor_ticks=0)
        y_range = DataRange1d(start=0, min_interval=smallest, range_padding=0.08)
    plot.y_range = y_range
    return y_range


def add_legend(
    plot: figure, entries: Mapping[str, list[GlyphRenderer]], *, beside: bool = False
) -> None:
    """Put a key above or beside the plot; a click on an entry hides what it stands for.

    Parameters
    ----------
    plot : bokeh.plotting.figure
        Where.
    entries : mapping of str to list of GlyphRenderer
        What each text stands for. Entry `i` is the model named ``{plot.name}-key-{i}``.
    beside : bool
        Whether it stands on the right, an entry below the other.
    """
    legend = Legend(
        items=[
            LegendItem(label=text, renderers=renderers, name=f"{plot.name}-key-{i}")
            for i, (text, renderers) in enumerate(entries.items())
        ],
        orientation="vertical" if beside else "horizontal",
        location="top_left",
        click_policy="hide",
        background_fill_color=None,
        border_line_color=None,
        inactive_fill_color=None,
        label_text_font_size="11px",
        label_height=14,
        glyph_height=14,
        glyph_width=16,
        label_standoff=4,
        spacing=2 if beside else 10,
        margin=0,
    )
    plot.add_layout(legend, "right" if beside else "above")


def add_hover(
    plot: figure,
    renderer: GlyphRenderer,
    figures: Sequence[tuple[str, str, Sequence[str]]],
    *,
    axis: TimeAxis | None = None,
    mode: Literal["mouse", "vline"] = "vline",
) -> None:
    """Show exact figures under the mouse.

    Parameters
    ----------
    plot : bokeh.plotting.figure
        Where.
    renderer : GlyphRenderer
        Of what.
    figures : sequence of (str, str, sequence of str)
        Label, column and units (as for `scale_y`) of each; no units: a text.
    axis : TimeAxis, optional
        Show the time too.
    mode : {"vline", "mouse"}
        Whether the mouse must be on the thing itself, or above or below it.
    """
    code = (_STATIC / "hover_unit.js").read_text(encoding="utf-8")
    formatters: dict[str, Any] = {
        f"@{{{column}}}": CustomJSHover(code=code, args={"units": list(units)})
        for _, column, units in figures
        if units
    }
    tooltips = [
        (label, f"@{{{column}}}{{custom}}" if units else f"@{{{column}}}")
        for label, column, units in figures
    ]
    if axis is not None:
        code = (_STATIC / "hover_time.js").read_text(encoding="utf-8")
        formatters["@{time}"] = CustomJSHover(code=code, args={"range": axis.range})
        tooltips.insert(0, ("when", "@{time}{custom}"))
    plot.add_tools(
        HoverTool(renderers=[renderer], mode=mode, tooltips=tooltips, formatters=formatters)
    )


def formatter(file: str, **args: Any) -> Any:
    """Make a formatter of ticks of a file in ``static``.

    Any, as bokeh's types ask each axis for one kind of formatter where it takes them all.
    """
    return CustomJSTickFormatter(code=(_STATIC / file).read_text(encoding="utf-8"), args=args)
