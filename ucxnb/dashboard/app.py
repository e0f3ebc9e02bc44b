"""The dashboard: components, the widget that shows them, and the thread that feeds it."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from bokeh.models import Row

from ..ticker import Ticker
from .cell import close_with_cell, forget
from .counters import counter_table
from .live import LiveView
from .message_rate import MessageRate
from .throughput import Throughput
from .unreceived import Unreceived

if TYPE_CHECKING:
    from ..stats import WorkerStats
    from ..worker import UcxWorker

__all__ = ["Dashboard"]

_MOST_POINTS = 20_000
_SMOOTHING = 0.5
_FULL_EVERY = 5.0


class Dashboard:
    """Live plots of a worker's throughput, message rate and unreceived bytes, and its counters.

    Display it as the last line of a cell. It goes on while cells are busy. `close` frees its
    thread; so does running the cell again, and closing the worker.

    Parameters
    ----------
    worker : UcxWorker
        The worker to watch. It is only asked for its statistics.
    interval : float
        Seconds between two points, 0.02 to 60.
    window : float
        Seconds shown: 2 to 20,000 intervals.

    Attributes
    ----------
    widget : LiveView
        What is displayed; it can be put into any ipywidgets layout.

    Raises
    ------
    ValueError
        If `interval` or `window` is out of range.
    """

    def __init__(self, worker: UcxWorker, *, interval: float = 0.1, window: float = 60.0) -> None:
        if not 0.02 <= interval <= 60:
            raise ValueError(f"interval={interval!r}: it takes 0.02 to 60 seconds")
        if not 2 * interval <= window <= _MOST_POINTS * interval:
            raise ValueError(
                f"window={window!r}: it takes {2 * interval:g} to {_MOST_POINTS * interval:g} "
                f"seconds, for an interval of {interval:g}"
            )
        self._worker = worker
        length = math.ceil(window / interval) + 1
        self._components = (
            Throughput(window, length),
            MessageRate(window, length),
            Unreceived(window, length),
        )
        self.widget = LiveView(
            Row(
                children=[component.root for component in self._components],
                sizing_mode="stretch_width",
                styles={"flex-wrap": "wrap"},
                spacing=12,
            ),
            {component.name: component.series for component in self._components},
            f"Throughput, message rate and what waits to be received, over the last {window:g} "
            "seconds",
        )
        # Rates are means over half a second: between two points one message alone would look
        # like a burst.
        self._recent: deque[WorkerStats] = deque(maxlen=max(2, round(_SMOOTHING / interval) + 1))
        self._full_due = 0.0
        self._resumed = False
        self.widget.observe(self._on_paused, "paused")
        self._ticker = Ticker("ucxnb-dashboard", interval, self._tick)
        close_with_cell(self)

    @property
    def paused(self) -> bool:
        """Whether the plots stand still. Nothing is missed meanwhile."""
        return self.widget.paused

    def pause(self) -> None:
        """Let the plots stand still."""
        self.widget.paused = True

    def resume(self) -> None:
        """Let the plots go on, with what happened meanwhile."""
        self.widget.paused = False

    @property
    def closed(self) -> bool:
        """Whether it was closed, or ended with its worker."""
        return not self._ticker.running

    def close(self) -> None:
        """Stop the thread, take the view off the page and free it. Twice is fine."""
        self._ticker.stop()
        self.widget.close()
        forget(self)

    def _on_paused(self, change: dict[str, Any]) -> None:
        self._resumed = not change["new"]

    def _tick(self) -> bool:
        if self._worker.closed:
            self.widget.ended = "worker closed"
            return False
        stats = self._worker.stats()
        self._recent.append(stats)
        earlier = self._recent[0]
        for component in self._components:
            component.update(time.time(), earlier, stats)
        if not self.widget.paused:
            now = time.monotonic()
            full = self._resumed or now >= self._full_due
            if full:
                self._resumed = False
                self._full_due = now + _FULL_EVERY
            self.widget.publish(counter_table(earlier, stats), full=full)
        return True

    def __repr__(self) -> str:
        state = "closed" if self.closed else "paused" if self.paused else "live"
        return f"<Dashboard of {self._worker.name!r}, {state}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)
