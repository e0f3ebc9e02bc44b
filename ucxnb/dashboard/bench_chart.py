"""Latency and bandwidth by message size: runs laid over each other, with the limit beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import traitlets
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    DataRange1d,
    FixedTicker,
    HoverTool,
    LogTicker,
    Row,
)
from bokeh.models.annotations import Legend, LegendItem, Title
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from .bokeh_widget import BokehWidget, static_text

if TYPE_CHECKING:
    from ..bench import BenchRun

__all__ = ["COLORS", "BenchChart", "size_plot"]

COLORS = 7
"""How many colours ``bench_chart.css`` has for runs."""

# Line width and dashes of each curve; widths and dashes tell them apart where colours cannot.
_LATENCY = (("p999", 1.2, "2 4"), ("p99", 1.4, "7 3"), ("p50", 2.5, "solid"))
TIMES = ["ns", "µs", "ms", "s"]
RATES = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]


class BenchChart(BokehWidget):
    """Show runs in two plots with logarithmic axes. Any thread may change what is shown.

    The page fills the sources, sets the colours, which follow its theme, and can save a picture.
    """

    _esm = static_text("bokeh_widget.js", "size_chart.js", "bench_chart.js")
    _css = static_text("bokeh_widget.css", "bench_chart.css")

    runs: Any = traitlets.List(help="What is shown.").tag(sync=True)

    def __init__(self) -> None:
        latency = size_plot("latency", "Latency: half a round trip", TIMES)
        lines = [_add_lines(latency, *curve) for curve in _LATENCY]
        _add_legend(latency, lines[-1], _add_lines(latency, "limit_latency", 1.8, "6 4"))
        _add_points(
            latency,
            "latency_points",
            [("p50", "@p50"), ("p99", "@p99"), ("p99.9", "@p999"), ("limit", "@limit")],
        )
        bandwidth = size_plot("bandwidth", "Bandwidth: one way", RATES)
        lines = [_add_lines(bandwidth, "rate", 2.5, "solid")]
        _add_legend(bandwidth, *lines, _add_lines(bandwidth, "limit_bandwidth", 1.8, "6 4"))
        _add_points(
            bandwidth,
            "bandwidth_points",
            [("bandwidth", "@bandwidth"), ("messages", "@messages"), ("limit", "@limit")],
        )
        super().__init__(
            Row(
                children=[latency, bandwidth],
                sizing_mode="stretch_width",
                styles={"flex-wrap": "wrap"},
                spacing=12,
            ),
            "Latency and bandwidth by message size",
        )

    def show(self, runs: Sequence[tuple[BenchRun, int]]) -> None:
        """Show these runs, and nothing else.

        Parameters
        ----------
        runs : sequence of (BenchRun, int)
            Each with the number of its colour, below `COLORS`.
        """
        self.runs = [
            {"name": run.name, "color": color, "rows": [asdict(row) for row in run.rows]}
            for run, color in runs
        ]

    def download(self, name: str, text: str) -> None:
        """Hand a file to whoever looks at this in a browser.

        Parameters
        ----------
        name : str
            Its name.
        text : str
            What is in it.
        """
        self.send({"kind": "download", "name": name, "text": text})

    def save_picture(self, name: str) -> None:
        """Hand both plots as a PNG to whoever looks at this in a browser.

        Parameters
        ----------
        name : str
            Name of the file.
        """
        self.send({"kind": "picture", "name": name})


def size_plot(name: str, title: str, units: list[str]) -> figure:
    """Make an empty plot over message size, both axes logarithmic."""
    plot = figure(
        name=f"{name}-plot",
        height=320,
        sizing_mode="stretch_width",
        styles={"flex": "1 1 420px", "min-width": "0"},
        tools="",
        toolbar_location=None,
        x_axis_type="log",
        y_axis_type="log",
        x_range=DataRange1d(range_padding=0.06),
        y_range=DataRange1d(range_padding=0.12),
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_left=64,
        min_border_right=20,
        title=Title(text=title, text_font_size="13px", standoff=8),
    )
    sizes = FixedTicker(ticks=[], name=f"{name}-sizes")
    plot.xaxis.ticker = plot.xgrid.ticker = sizes
    plot.xaxis.formatter = CustomJSTickFormatter(code=static_text("size_ticks.js"))
    decades = LogTicker(desired_num_ticks=6, num_minor_ticks=0)
    plot.yaxis.ticker = plot.ygrid.ticker = decades
    plot.yaxis.formatter = CustomJSTickFormatter(
        code=static_text("unit_ticks.js"), args={"units": units}
    )
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_line_color = None
        axis.major_tick_line_color = None
        axis.minor_tick_line_color = None
        axis.major_label_text_font_size = "11px"
    return plot


def _add_lines(plot: figure, name: str, width: float, dash: str) -> GlyphRenderer:
    source = ColumnDataSource({"xs": [], "ys": [], "color": [], "run": []}, name=name)
    return plot.multi_line(
        "xs",
        "ys",
        source=source,
        line_color="color",
        line_width=width,
        line_dash=dash,
        line_join="round",
    )


def _add_points(plot: figure, name: str, figures: list[tuple[str, str]]) -> None:
    columns = ["x", "y", "color", "run", "size", *(field[1:] for _, field in figures)]
    source = ColumnDataSource({column: [] for column in columns}, name=name)
    points = plot.scatter("x", "y", source=source, size=7, fill_color="color", line_color="color")
    plot.add_tools(
        HoverTool(renderers=[points], tooltips=[("run", "@run"), ("size", "@size"), *figures])
    )


def _add_legend(plot: figure, *lines: GlyphRenderer) -> None:
    # An item for each: those of one item must share a source.
    legend = Legend(
        items=[LegendItem(label={"field": "run"}, renderers=[line]) for line in lines],
        location="bottom_right",
        background_fill_color=None,
        border_line_color=None,
        label_text_font_size="12px",
        spacing=2,
        glyph_width=26,
    )
    plot.add_layout(legend)
