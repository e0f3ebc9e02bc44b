"""Whose traffic it is: the busiest connections, or workers, over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from bokeh.models import ColumnDataSource
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from ..stats import Rates
from ..text import shortened
from .moment import Moment
from .plots import TimeAxis, add_hover, add_legend, scale_y
from .series import Tiers
from .units import BYTE_RATES, RATES

__all__ = ["Breakdown"]

Measure = Literal["bytes", "messages"]
Style = Literal["lines", "stacked"]
_Key = tuple[int, int]  # worker, and endpoint or 0

_SLOTS = 6  # that are shown by themselves; all others are one more
_DASHES = ("solid", [6, 3], [2, 3], [8, 3, 2, 3], [12, 3], [4, 4], [1, 2])
_NAME = 24  # characters of one in the key
_DECAY = 0.98  # of what one has moved, at each moment
_MUCH_BUSIER = 2.0


class Breakdown:
    """Plot of the traffic of the busiest of many, both directions together.

    Each of the busiest has a line of its own for as long as it stays among them. When it makes
    room for another, its past joins that of the others.

    Parameters
    ----------
    axis : TimeAxis
        The time of the page it is for.
    steps : sequence of float
        Of its `Tiers`.
    whose : {"connection", "worker"}
        What the traffic is broken down by.
    measure : {"bytes", "messages"}
        What is drawn; both are kept.
    style : {"lines", "stacked"}
        How.
    series : Tiers, optional
        Points that another one like it is given; else its own.

    Attributes
    ----------
    name, series, source, root
        As of `TimePlot`.
    rewritten : bool
        Whether points of the past have changed since this was last set to False.
    """

    def __init__(
        self,
        axis: TimeAxis,
        steps: Sequence[float],
        whose: Literal["connection", "worker"],
        *,
        measure: Measure = "bytes",
        style: Style = "lines",
        series: Tiers | None = None,
    ) -> None:
        self.name = f"by_{whose}"
        self.rewritten = False
        self._whose = whose
        columns = ("time", *_columns("bytes"), *_columns("messages"))
        self.series = Tiers(columns, steps) if series is None else series
        self._slots: list[_Key | None] = [None] * _SLOTS
        self._names: dict[_Key, str] = {}
        self._moved: dict[_Key, float] = {}
        self.source = ColumnDataSource({column: [] for column in columns}, name=self.name)
        what, units = ("Throughput", BYTE_RATES) if measure == "bytes" else ("Messages", RATES)
        self.root = axis.new_plot(self.name, f"{what} by {whose}")
        scale_y(self.root, units, 1000.0 if measure == "bytes" else 10.0, log=False)
        drawn = self._draw(self.root, _columns(measure), style)
        self.root.styles = {"flex": "1 1 612px", "min-width": "0"}
        key = {str(i): [renderer] for i, renderer in enumerate(drawn)}
        add_legend(self.root, key, beside=True)
        if style == "lines":
            for renderer in drawn:
                figures = [(self._whose, renderer.glyph.y, units)]
                add_hover(self.root, renderer, figures, axis=axis, mode="mouse")

    def _draw(self, plot: figure, columns: Sequence[str], style: Style) -> list[GlyphRenderer]:
        if style == "stacked":
            areas: list[GlyphRenderer] = plot.varea_stack(
                list(columns), x="time", source=self.source, fill_alpha=0.75
            )
            for i, area in enumerate(areas):
                area.name = f"slot-{i}"
            return areas
        return [
            plot.line(
                "time",
                column,
                source=self.source,
                name=f"slot-{i}",
                line_width=2,
                line_dash=_DASHES[i],
                line_join="round",
            )
            for i, column in enumerate(columns)
        ]

    def update(self, moment: Moment) -> None:
        """Add the rates of a moment."""
        shares = dict(self._shares(moment))
        self._assign(shares)
        nbytes, messages = [0.0] * (_SLOTS + 1), [0.0] * (_SLOTS + 1)
        for key, rates in shares.items():
            slot = self._slots.index(key) if key in self._slots else _SLOTS
            nbytes[slot] += rates.bytes_sent + rates.bytes_received
            messages[slot] += rates.message_rate()
        self.series.append(moment.time, *nbytes, *messages)

    def texts(self) -> dict[str, str]:
        """What the entries of the key say, by the names of their models; none for unused ones."""
        names = [self._names.get(key, "") if key else "" for key in self._slots]
        others = "others" if len(self._moved) > sum(map(bool, self._slots)) else ""
        return {
            f"{self.root.name}-key-{i}": shortened(name, _NAME)
            for i, name in enumerate([*names, others])
        }

    def _shares(self, moment: Moment) -> Iterator[tuple[_Key, Rates]]:
        if self._whose == "worker":
            for i, (now, rates) in enumerate(zip(moment.later, moment.rates(), strict=True)):
                self._names[i, 0] = now.name
                yield (i, 0), rates
            return
        several = len(moment.later) > 1
        for i, (then, now) in enumerate(zip(moment.earlier, moment.later, strict=True)):
            before = {endpoint.endpoint_id: endpoint.stats for endpoint in then.endpoints}
            for endpoint in now.endpoints:
                key = (i, endpoint.endpoint_id)
                if key not in self._names:
                    name = f"{endpoint.endpoint_id} {endpoint.peer_name or endpoint.peer_address}"
                    self._names[key] = f"{now.name}: {name}" if several else name
                earlier = before.get(endpoint.endpoint_id)
                yield key, endpoint.stats.since(earlier) if earlier else Rates()

    def _assign(self, shares: dict[_Key, Rates]) -> None:
        """Give the busiest a slot."""
        for key, rates in shares.items():
            moved = rates.bytes_sent + rates.bytes_received + rates.message_rate()
            self._moved[key] = self._moved.get(key, 0.0) * _DECAY + moved
        for key in [key for key in self._moved if key not in shares]:  # its connection has ended
            self._moved[key] *= _DECAY
            if self._moved[key] < 1.0 and key not in self._slots:
                del self._moved[key], self._names[key]
        waiting = [key for key in self._moved if key not in self._slots]
        for key in sorted(waiting, key=self._moved.__getitem__, reverse=True):
            slot = min(range(_SLOTS), key=lambda i: self._moved.get(self._slots[i], -1.0))  # type: ignore[arg-type]
            held = self._slots[slot]
            if held is not None:
                if self._moved[key] <= _MUCH_BUSIER * self._moved[held]:
                    return
                self._join_others(slot)
            self._slots[slot] = key

    def _join_others(self, slot: int) -> None:
        def moved(point: tuple[float, ...]) -> tuple[float, ...]:
            values = list(point)
            for first in (1, 2 + _SLOTS):  # bytes, messages
                values[first + _SLOTS] += values[first + slot]
                values[first + slot] = 0.0
            return tuple(values)

        self.series.rewrite(moved)
        self.rewritten = True


def _columns(measure: Measure) -> list[str]:
    return [f"{measure}_{i}" for i in range(_SLOTS + 1)]
