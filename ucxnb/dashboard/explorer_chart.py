"""Protocols over message size, with what UCX expects of them and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import traitlets
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LogAxis,
    Range1d,
    Row,
)
from bokeh.plotting import figure

from ..protocols import describe_protocol, time_text
from .bench_chart import RATES, TIMES, size_plot
from .bokeh_widget import BokehWidget, static_text

if TYPE_CHECKING:
    from ..explorer import Profile
    from ..protocols import ProtocolRange

__all__ = ["ExplorerChart"]

_LARGEST = 4 << 20  # bytes; the axis goes so far at least


class ExplorerChart(BokehWidget):
    """Show profiles laid over each other. Any thread may change what is shown.

    The bands behind them, the thresholds and UCX's estimate are those of one profile.
    """

    _esm = static_text("bokeh_widget.js", "size_chart.js", "explorer_chart.js")
    _css = static_text("bokeh_widget.css", "bench_chart.css", "explorer_chart.css")

    profiles: Any = traitlets.List(help="What was measured.").tag(sync=True)
    bands: Any = traitlets.List(help="The protocols of one profile, by size.").tag(sync=True)
    expected: Any = traitlets.List(help="What UCX expects there.").tag(sync=True)
    of: Any = traitlets.Unicode(help="Name of that profile.").tag(sync=True)

    def __init__(self) -> None:
        plots = [
            size_plot("explorer-latency", "Latency", TIMES),
            size_plot("explorer-bandwidth", "Bandwidth: many at once", RATES),
        ]
        # One range: what one plot shows is what the other shows.
        sizes = Range1d(1, _LARGEST, name="explorer-range")
        for plot, name in zip(plots, ("latency", "bandwidth"), strict=True):
            plot.x_range = sizes
            _add_bands(plot, name)
            _add_lines(plot, name)
        super().__init__(
            Row(
                children=plots,
                sizing_mode="stretch_width",
                styles={"flex-wrap": "wrap"},
                spacing=12,
            ),
            "Protocols by message size, with latency and bandwidth; the table below has them",
        )

    def show(
        self,
        profiles: Sequence[tuple[Profile, int]],
        of: Profile | None,
        latency_of: str,
        memory: str = "host",
    ) -> None:
        """Show these profiles, and nothing else.

        Parameters
        ----------
        profiles : sequence of (Profile, int)
            Each with the number of its colour, below `COLORS`.
        of : Profile or None
            Whose protocols and estimates are shown.
        latency_of : str
            What a latency is, in words.
        memory : str
            Where the buffers lie whose protocols are shown.
        """
        rows = () if of is None else of.explanation.of(of.operation, memory)
        with self.hold_sync():
            self.profiles = [
                {
                    "name": profile.name,
                    "color": color,
                    "points": [asdict(point) for point in profile.points],
                    "latency_of": latency_of,
                }
                for profile, color in profiles
            ]
            self.bands = [_band(row) for row in rows]
            self.expected = _expected(rows)
            self.of = "" if of is None else of.name


def _band(row: ProtocolRange) -> dict[str, Any]:
    first = row.expected(max(1, row.first))
    last = None if row.last is None else row.expected(row.last)
    expects = " to ".join(time_text(time) for time in (first, last) if time is not None)
    return {
        "first": row.first,
        "last": row.last,
        "sizes": row.sizes,
        "protocol": ("(?) " if row.assumed else "") + row.protocol,
        "kind": _kind(row.protocol),
        "lane": row.lane,
        "words": describe_protocol(row.protocol),
        "expects": expects or "UCX does not say",
    }


def _kind(protocol: str) -> str:
    """Which colour a protocol has: what decides how fast it is."""
    for kind, words in (
        ("rendezvous", "rendezvous"),
        ("emulated", "emulation"),
        ("zero", "zero-copy"),
        ("pieces", "frag"),
        ("short", "short"),
        ("copy", "copy"),
    ):
        if words in protocol:
            return kind
    return "other"


def _expected(rows: Sequence[ProtocolRange]) -> list[tuple[float, float]]:
    """Sizes and seconds, with both ends of each range, to show the steps."""
    line: list[tuple[float, float]] = []
    for row in rows:
        for estimate in row.estimates:
            first = max(1, estimate.first)
            last = _LARGEST if estimate.last is None else min(_LARGEST, estimate.last)
            steps = {1 << power for power in range(first.bit_length(), last.bit_length())}
            line += [
                (size, estimate.chosen.time_of(size))
                for size in sorted(steps | {first, last})
                if first <= size <= last
            ]
    return line


def _add_bands(plot: figure, name: str) -> None:
    columns = ["x0", "x1", "color", "sizes", "protocol", "words", "lane", "expects"]
    source = ColumnDataSource({column: [] for column in columns}, name=f"explorer-{name}-bands")
    bands = plot.vstrip(
        x0="x0", x1="x1", source=source, fill_color="color", fill_alpha=0.22, line_color=None
    )
    plot.add_tools(
        HoverTool(
            renderers=[bands],
            point_policy="follow_mouse",
            tooltips=(
                "<div style='max-width:320px'><b>@protocol</b><br>@sizes bytes over @lane<br>"
                "@words<br>UCX expects: @expects</div>"
            ),
        )
    )
    edges = ColumnDataSource({"x": [], "color": []}, name=f"explorer-{name}-edges")
    plot.vspan(x="x", source=edges, line_color="color", line_width=1, line_dash="3 3")
    thresholds = LogAxis(
        ticker=FixedTicker(ticks=[], name=f"explorer-{name}-thresholds"),
        formatter=CustomJSTickFormatter(code=static_text("threshold_ticks.js")),
        axis_line_color=None,
        major_tick_line_color=None,
        minor_tick_line_color=None,
        major_label_text_font_size="11px",
    )
    plot.add_layout(thresholds, "above")


def _add_lines(plot: figure, name: str) -> None:
    lines = ColumnDataSource(
        {"xs": [], "ys": [], "color": [], "dash": [], "width": []}, name=f"explorer-{name}-lines"
    )
    plot.multi_line(
        "xs",
        "ys",
        source=lines,
        line_color="color",
        line_width="width",
        line_dash="dash",
        line_join="round",
    )
    columns = ["x", "y", "color", "run", "size", "value"]
    points = ColumnDataSource({column: [] for column in columns}, name=f"explorer-{name}-points")
    dots = plot.scatter("x", "y", source=points, size=7, fill_color="color", line_color="color")
    plot.add_tools(
        HoverTool(renderers=[dots], tooltips=[("run", "@run"), ("size", "@size"), (name, "@value")])
    )
    # The bands have no height, so that only these decide what the axis shows.
    plot.y_range.renderers = [dots, *plot.renderers[-2:-1]]
