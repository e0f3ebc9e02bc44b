"""The picture of a cluster: a table of its workers, and heat maps of what is between each two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    LogColorMapper,
    LogTicker,
    Range1d,
    Row,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from ..dashboard.bokeh_widget import BokehWidget, static_text
from ..dashboard.plots import formatter, new_plot
from ..dashboard.units import BYTE_RATES, NANOSECONDS
from .rows import COLUMNS

__all__ = ["MAPS", "ClusterView"]

MAPS = ("traffic", "transports", "latency", "bandwidth")
"""The heat maps; a row sends to a column."""

_TITLES = {
    "traffic": ("Traffic, row to column", BYTE_RATES),
    "latency": ("Latency of 8 B", NANOSECONDS),
    "bandwidth": ("Bandwidth of 1 MiB, row to column", BYTE_RATES),
}
_NOTHING = "rgba(0, 0, 0, 0)"


class ClusterView(BokehWidget):
    """Show a cluster; one binary message per `publish`, from one thread.

    The page asks for a measurement, or to stop it, by a message to the kernel.
    """

    _esm = static_text("bokeh_widget.js", "store_view.js", "cluster.js")
    _css = static_text("bokeh_widget.css", "live.css", "cluster.css")

    paused = traitlets.Bool(help="Whether it stands still.").tag(sync=True)
    ended = traitlets.Unicode(help="Why nothing comes any more; empty while live.").tag(sync=True)
    measuring = traitlets.Bool(help="Whether pairs are being measured.").tag(sync=True)
    progress = traitlets.Unicode(help="How far that is.").tag(sync=True)
    interval = traitlets.Float(help="Seconds between two messages.").tag(sync=True)
    columns = traitlets.List(list(COLUMNS), help="Of the table.").tag(sync=True)
    snapshot = traitlets.Dict(help="The latest, for a page that opens later.").tag(sync=True)

    def __init__(self, interval: float) -> None:
        self._content: dict[str, Any] = {}
        self._maps: dict[str, np.ndarray] = {}
        names = ColumnDataSource({"name": []}, name="names")
        words = ColumnDataSource({"word": []}, name="words")
        super().__init__(
            Row(
                children=[_heat_map(name, names, words) for name in MAPS],
                sizing_mode="stretch_width",
                styles={"flex-wrap": "wrap"},
                spacing=12,
            ),
            "Heat maps of traffic, transports, latency and bandwidth between each two workers; the "
            "table above has the figures of each worker",
        )
        self.interval = interval

    def publish(self, content: Mapping[str, Any], maps: Mapping[str, np.ndarray]) -> None:
        """Show a moment.

        Parameters
        ----------
        content : mapping
            ``rows``, each with its ``state`` and ``cells``; the ``names`` of rows and columns of
            the maps; the ``words`` of the transports, and the ``families`` that paint them; a
            ``summary``.
        maps : mapping of str to numpy.ndarray
            A square for each of `MAPS`, float32; nan where there is nothing.
        """
        self._content, self._maps = dict(content), dict(maps)
        self.send(
            {"kind": "cluster", "maps": list(maps), **self._content},
            [np.ascontiguousarray(square, "f4").tobytes() for square in maps.values()],
        )

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the synchronized state; all of it includes what is shown now."""
        if key is None and hasattr(self, "_maps"):
            # Not by assignment: that would send it to the pages that have it already.
            maps = {n: np.ascontiguousarray(m, "f4").tobytes() for n, m in self._maps.items()}
            self._trait_values["snapshot"] = {**self._content, "squares": maps}
        return super().get_state(key, drop_defaults)


def _heat_map(name: str, names: ColumnDataSource, words: ColumnDataSource) -> figure:
    title, units = _TITLES.get(name, ("Transports", ()))
    plot = new_plot(
        name,
        title,
        300,
        x_range=Range1d(start=0, end=1, name=f"{name}-x"),
        y_range=Range1d(start=1, end=0, name=f"{name}-y"),
    )
    plot.grid.visible = False
    plot.min_border_left = 30
    plot.min_border_right = 70 if units else 10
    ticker = FixedTicker(ticks=[], name=f"{name}-ticks")
    for axis in plot.axis:
        axis.ticker = ticker
        axis.formatter = formatter("rank_ticks.js")
    source = ColumnDataSource({"image": [np.full((1, 1), np.nan, "f4")], "size": [1]}, name=name)
    options: dict[str, Any] = {"nan_color": _NOTHING, "name": f"{name}-colors"}
    mapper = (
        LogColorMapper(palette=Viridis256, low=1, high=10, **options)
        if units
        else LinearColorMapper(palette=["#000000"], low=-0.5, high=0.5, **options)
    )
    cells = plot.image("image", x=0, y=0, dw="size", dh="size", source=source, color_mapper=mapper)
    if units:
        bar = ColorBar(
            color_mapper=mapper,
            ticker=LogTicker(desired_num_ticks=5, num_minor_ticks=0),
            formatter=formatter("unit_ticks.js", units=list(units)),
            width=10,
            label_standoff=6,
            padding=4,
            background_fill_color=None,
            bar_line_color=None,
            major_tick_line_color=None,
            major_label_text_font_size="11px",
        )
        plot.add_layout(bar, "right")
    value = CustomJSHover(
        code=static_text("hover_unit.js" if units else "hover_word.js"),
        args={"units": list(units)} if units else {"words": words},
    )
    place = CustomJSHover(code=static_text("hover_rank.js"), args={"names": names})
    figures = [
        ("from", "$y{custom}"),
        ("to", "$x{custom}"),
        (name, "@image{custom}"),
    ]
    plot.add_tools(
        HoverTool(
            renderers=[cells],
            tooltips=figures,
            formatters={"$x": place, "$y": place, "@image": value},
        )
    )
    return plot
