"""The plots of a dashboard: their data, and how they are laid out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from bokeh.models import Column, LayoutDOM, Row
from bokeh.plotting import figure

from .breakdown import Breakdown, Measure, Style
from .by_kind import ByKind
from .endpoint_map import EndpointMap
from .event_strip import EventStrip
from .latency import Latency
from .message_rate import MessageRate
from .moment import Moment
from .plots import TimeAxis
from .progress_engine import ProgressEngine
from .series import Tiers, steps_for
from .size_histogram import SizeHistogram
from .table import Table
from .throughput import Throughput
from .waiting import Waiting

__all__ = ["Components"]

Feed = Tiers | Table
_TABLES_EVERY = 0.5


class _Component(Protocol):
    name: str
    root: figure

    @property
    def series(self) -> Feed: ...

    def update(self, moment: Moment) -> None: ...


class Components:
    """Every plot of a dashboard, with its data, which any number of layouts draw.

    Parameters
    ----------
    workers : int
        How many are watched.
    interval : float
        Seconds between two moments.
    longest : float
        Seconds shown at most.

    Attributes
    ----------
    feeds : mapping of str to Tiers or Table
        What each source shows, by its name.
    steps : tuple of float
        Seconds between the points of each tier.
    """

    def __init__(self, workers: int, interval: float, longest: float) -> None:
        self.steps = tuple(steps_for(interval, longest))
        self._several = workers > 1
        self._tables_due = 0.0
        self.feeds: dict[str, Feed] = {}
        self._components = self._make(TimeAxis(longest), "bytes", "lines")
        self.feeds.update({component.name: component.series for component in self._components})
        self._breakdowns = [c for c in self._components if isinstance(c, Breakdown)]
        for component in self._components:
            if isinstance(component, EndpointMap):
                self.feeds["nodes"] = component.nodes

    @property
    def rewritten(self) -> bool:
        """Whether points of the past have changed since this was last set to False."""
        return any(breakdown.rewritten for breakdown in self._breakdowns)

    @rewritten.setter
    def rewritten(self, value: bool) -> None:
        for breakdown in self._breakdowns:
            breakdown.rewritten = value

    def update(self, moment: Moment) -> None:
        """Add a moment to every plot's data; what is not over time changes twice a second."""
        due = moment.time >= self._tables_due or bool(moment.events)
        if due:
            self._tables_due = moment.time + _TABLES_EVERY
        for component in self._components:
            if due or isinstance(component.series, Tiers):
                component.update(moment)

    def texts(self) -> dict[str, str]:
        """Texts in the plots that change, by the names of their models."""
        return {
            name: text
            for component in self._components
            if isinstance(component, Breakdown | Latency | SizeHistogram)
            for name, text in component.texts().items()
        }

    def layout(self, window: float, measure: Measure, style: Style) -> LayoutDOM:
        """Lay the plots out for one page.

        Parameters
        ----------
        window : float
            Seconds shown at first.
        measure, style
            As for `Breakdown`.

        Returns
        -------
        LayoutDOM
            New models; the page fills their sources from `feeds`.
        """
        *plots, events = self._make(TimeAxis(window), measure, style)
        grid = Row(
            children=[plot.root for plot in plots],
            sizing_mode="stretch_width",
            styles={"flex-wrap": "wrap"},
            spacing=12,
        )
        return Column(children=[grid, events.root], sizing_mode="stretch_width", spacing=4)

    def _make(self, axis: TimeAxis, measure: Measure, style: Style) -> list[_Component]:
        feeds: Mapping[str, Feed] = self.feeds
        tiers = {name: feed for name, feed in feeds.items() if isinstance(feed, Tiers)}
        tables = {name: feed for name, feed in feeds.items() if isinstance(feed, Table)}

        def breakdown(whose: Literal["connection", "worker"]) -> Breakdown:
            series = tiers.get(f"by_{whose}")
            return Breakdown(axis, self.steps, whose, measure=measure, style=style, series=series)

        return [
            Throughput(axis, self.steps, tiers.get("throughput")),
            MessageRate(axis, self.steps, tiers.get("message_rate")),
            Latency(axis, self.steps, tiers.get("latency")),
            ByKind(axis, self.steps, tiers.get("by_kind")),
            Waiting(axis, self.steps, tiers.get("waiting")),
            SizeHistogram(tables.get("sizes")),
            EndpointMap(tables.get("edges"), tables.get("nodes")),
            breakdown("connection"),
            ProgressEngine(axis, self.steps, tiers.get("progress")),
            *([breakdown("worker")] if self._several else []),
            EventStrip(axis, tables.get("marks")),
        ]
