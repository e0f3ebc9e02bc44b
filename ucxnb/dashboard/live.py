"""The plots of a dashboard inside one widget, kept up to date from any thread without a port."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import traitlets
from bokeh.embed import json_item

from .bokeh_widget import BokehWidget, static_text
from .components import Components
from .series import Series, Tiers
from .table import Table

if TYPE_CHECKING:
    from .breakdown import Measure, Style

__all__ = ["LiveView"]

_MEASURES = ("bytes", "messages")
_STYLES = ("lines", "stacked")


class LiveView(BokehWidget):
    """Show the plots of a dashboard and stream points into them, one message per `publish`.

    Points go one way, from one thread.

    Parameters
    ----------
    components : Components
        The plots.
    windows : sequence of float
        Seconds that can be chosen to be shown.
    window : float
        Seconds shown at first, one of them.

    Attributes
    ----------
    components : Components
        As passed; others, of as many workers, can take their place.
    """

    _esm = static_text("bokeh_widget.js", "store_view.js", "live.js")
    _css = static_text("bokeh_widget.css", "live.css")

    paused = traitlets.Bool(help="Whether the plots stand still.").tag(sync=True)
    ended = traitlets.Unicode(help="Why nothing comes any more; empty while live.").tag(sync=True)
    replay = traitlets.Bool(help="Whether it is a recording.").tag(sync=True)
    gone = traitlets.Unicode(help="Which of several workers have closed.").tag(sync=True)
    interval = traitlets.Float(help="Seconds between two messages.").tag(sync=True)
    windows = traitlets.List(traitlets.Float(), help="Seconds to choose from.").tag(sync=True)
    window = traitlets.Float(help="Seconds shown.").tag(sync=True)
    measure = traitlets.Enum(_MEASURES, "bytes", help="What breakdowns count.").tag(sync=True)
    # "style" would be that of ipywidgets.
    drawn_as = traitlets.Enum(_STYLES, "lines", help="How breakdowns are drawn.").tag(sync=True)
    snapshot = traitlets.Dict(help="All points, for a page that opens later.").tag(sync=True)

    def __init__(self, components: Components, windows: Sequence[float], window: float) -> None:
        self.components = components
        self._content: dict[str, Any] = {"now": 0.0, "counters": {}, "texts": {}}
        super().__init__(
            components.layout(window, "bytes", "lines"),
            "Plots of traffic, latency, connections, sizes, events and progress over time; the "
            "table beside them has the present figures",
        )
        self.set_trait("windows", list(windows))
        self.interval = components.steps[0]
        self.window = window
        self.observe(self._lay_out_again, ["measure", "drawn_as"])

    def publish(self, now: float, counters: Mapping[str, Any], *, full: bool) -> None:
        """Send what is new to every page that shows this, in one binary message.

        Parameters
        ----------
        now : float
            The end of the time that is shown, epoch seconds.
        counters : mapping
            Texts of the table of counters, as `counter_table` makes them.
        full : bool
            Whether to send all points, which also heals a page that missed some.
        """
        self._content = {
            "now": now,
            "counters": dict(counters),
            "texts": self.components.texts(),
        }
        sources: list[dict[str, object]] = []
        numbers_of_all: list[bytes] = []  # one buffer: each costs kernel and page as much as all
        window = self.window
        for name, feed in self.components.feeds.items():
            columns: Mapping[str, Any] | None
            if isinstance(feed, Tiers):
                series, length = _shown(feed, window)
                columns = series.take()
                if full:
                    columns = series.all(length)
            else:
                length = 0
                columns = feed.take()
                if full:
                    columns = feed.all()
            if columns is None:
                continue
            count = len(next(iter(columns.values())))
            if not (full or count or not length):
                continue
            numbers = {n: c for n, c in columns.items() if isinstance(c, np.ndarray)}
            texts = {n: c for n, c in columns.items() if n not in numbers}
            sources.append(
                {
                    "name": name,
                    "columns": list(numbers),
                    "count": count,
                    "texts": texts,
                    "length": length,
                }
            )
            numbers_of_all.extend(column.tobytes() for column in numbers.values())
        self.send(
            {"kind": "points", "full": full, "sources": sources, **self._content},
            [b"".join(numbers_of_all)],
        )

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the synchronized state; all of it includes the points up to now."""
        if key is None and hasattr(self, "components"):
            # Not by assignment: that would send the points to the pages that have them already.
            self._trait_values["snapshot"] = {
                **self._content,
                "sources": {
                    name: self._packed(feed) for name, feed in self.components.feeds.items()
                },
            }
        return super().get_state(key, drop_defaults)

    def _packed(self, feed: Tiers | Table) -> dict[str, object]:
        if isinstance(feed, Tiers):
            series, length = _shown(feed, self.window)
            columns: Mapping[str, Any] = series.all(length)
        else:
            columns = feed.all()
        return {n: c.tobytes() if isinstance(c, np.ndarray) else c for n, c in columns.items()}

    def _lay_out_again(self, change: dict[str, Any]) -> None:
        layout = self.components.layout(
            self.window, cast("Measure", self.measure), cast("Style", self.drawn_as)
        )
        self.item = json.dumps(json_item(layout))


def _shown(tiers: Tiers, window: float) -> tuple[Series, int]:
    """The tier for a window, and how many of its points that shows."""
    tier = tiers.tier_for(window)
    return tiers.tiers[tier], int(window / tiers.steps[tier]) + 2
