"""What happened to the connections, as marks on the time axis."""

from __future__ import annotations

from collections import deque

from bokeh.models import FactorRange

from ..events import EventKind
from ..text import shortened
from .moment import Moment
from .plots import TimeAxis, add_hover
from .table import Table

__all__ = ["EventStrip"]

_MOST = 500
_TEXT = 160
# Good, neutral, doubtful and bad ones have rows, colours and shapes of their own.
_LOOKS = {
    EventKind.CONNECTED: ("good", "circle"),
    EventKind.ACCEPTED: ("good", "circle"),
    EventKind.RESPONSIVE: ("good", "circle"),
    EventKind.CLOSED: ("muted", "square"),
    EventKind.UNRESPONSIVE: ("doubt", "diamond"),
    EventKind.REFUSED: ("doubt", "diamond"),
    EventKind.LOST: ("bad", "triangle"),
    EventKind.ERROR: ("bad", "x"),
}
_ROWS = {"bad": "trouble", "doubt": "doubt", "muted": "closed", "good": "opened"}


class EventStrip:
    """Marks of errors and of what happened to connections, in rows by how bad it is.

    Parameters
    ----------
    axis : TimeAxis
        The time of the page it is for; its marks are these events as well.
    series : Table, optional
        Events that another one like it is given; else its own.

    Attributes
    ----------
    name, source, root
        As of `TimePlot`.
    series : Table
        The events.
    """

    def __init__(self, axis: TimeAxis, series: Table | None = None) -> None:
        self.name = "marks"
        texts = ("row", "shape", "paint", "what", "worker", "peer", "text")
        self.series = Table(("time",), texts) if series is None else series
        self._events: deque[tuple[float, str, str, str, str, str, str, str]] = deque(maxlen=_MOST)
        self.source = axis.marks
        self.source.data = {column: [] for column in (*self.series.columns, "color")}
        rows = [*dict.fromkeys(_ROWS.values())][::-1]
        self.root = axis.new_plot(
            "events", "Events", 120, y_range=FactorRange(factors=rows, range_padding=0.2)
        )
        self.root.styles = {}  # it has a row to itself
        marks = self.root.scatter(
            "time",
            "row",
            source=self.source,
            marker="shape",
            size=9,
            line_color="color",
            fill_color="color",
            line_width=1.5,
        )
        figures = [(label, label, ()) for label in ("what", "worker", "peer", "text")]
        add_hover(self.root, marks, figures, axis=axis, mode="mouse")

    def update(self, moment: Moment) -> None:
        """Add what has happened since the last moment."""
        if not moment.events:
            return
        for name, event in moment.events:
            paint, shape = _LOOKS[event.kind]
            what, text = event.kind.value, shortened(event.text, _TEXT)
            self._events.append(
                (event.time, _ROWS[paint], shape, paint, what, name, event.peer, text)
            )
        columns = zip(*self._events, strict=True)
        self.series.replace(**dict(zip(self.series.columns, columns, strict=True)))
