"""A bokeh layout inside one widget, kept up to date from any thread without a port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import traitlets
from bokeh.models import LayoutDOM

from .bokeh_widget import BokehWidget, static_text
from .series import Series

__all__ = ["LiveView"]


class LiveView(BokehWidget):
    """Show a bokeh layout and stream points into its sources, one message per `publish`.

    Points go one way, from one thread.

    Parameters
    ----------
    root : bokeh.models.LayoutDOM
        The layout. Its sources carry names.
    series : mapping of str to Series
        The points of each source, by its name.
    label : str
        What a screen reader says about the plots.
    """

    _esm = static_text("bokeh_widget.js", "live.js")
    _css = static_text("bokeh_widget.css", "live.css")

    paused = traitlets.Bool(help="Whether the plots stand still.").tag(sync=True)
    ended = traitlets.Unicode(help="Why nothing comes any more; empty while live.").tag(sync=True)
    snapshot = traitlets.Dict(help="All points, for a page that opens later.").tag(sync=True)

    def __init__(self, root: LayoutDOM, series: Mapping[str, Series], label: str) -> None:
        self._series = dict(series)
        self._counters: dict[str, Any] = {}
        super().__init__(root, label)

    def publish(self, counters: Mapping[str, Any], *, full: bool) -> None:
        """Send what is new to every page that shows this, in one binary message.

        Parameters
        ----------
        counters : mapping
            Texts of the table of counters, as `counter_table` makes them.
        full : bool
            Whether to send all points, which also heals a page that missed some.
        """
        self._counters = dict(counters)
        sources: list[dict[str, object]] = []
        buffers: list[bytes] = []
        for name, series in self._series.items():
            new = series.take()
            points = series.all() if full else new
            sources.append({"name": name, "columns": list(points), "length": series.length})
            buffers.extend(column.tobytes() for column in points.values())
        content = {"kind": "points", "full": full, "sources": sources, "counters": self._counters}
        self.send(content, buffers)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the synchronized state; all of it includes the points up to now."""
        if key is None and hasattr(self, "_series"):
            # Not by assignment: that would send the points to the pages that have them already.
            self._trait_values["snapshot"] = {
                "counters": self._counters,
                "sources": {
                    name: {column: data.tobytes() for column, data in series.all().items()}
                    for name, series in self._series.items()
                },
            }
        return super().get_state(key, drop_defaults)
