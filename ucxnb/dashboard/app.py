"""The dashboard: its components, the widget that shows them, and the thread that feeds it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..text import shortened
from ..ticker import Ticker
from .cell import close_with_cell, forget
from .components import Components
from .counters import counter_table
from .live import LiveView
from .moment import Moment, Sampler
from .watched import Played, SampleSource, Watched

__all__ = ["Dashboard"]

_MOST_POINTS = 20_000
_FULL_EVERY = 5.0
_WINDOWS = (30.0, 60.0, 300.0, 900.0, 3600.0)


class Dashboard:
    """Live plots of what workers do: traffic, latency, connections, errors, progress.

    Display it as the last line of a cell. It goes on while cells are busy. `close` frees its
    thread; so does running the cell again, and closing all its workers.

    Parameters
    ----------
    worker : Watched, sequence of Watched, or Played
        What to watch: a `UcxWorker`, or several, also those of other processes; or the player of a
        recording. They are only asked for snapshots. One that closes stays as it was,
        and the page says so.
    interval : float
        Seconds between two points, 0.02 to 60.
    window : float
        Seconds shown at first: 2 to 20,000 intervals. The page offers others.

    Attributes
    ----------
    widget : LiveView
        What is displayed; it can be put into any ipywidgets layout.

    Raises
    ------
    ValueError
        If `interval` or `window` is out of range, or there is nothing to watch.

    Notes
    -----
    The longer the window, the farther apart its points: at most 1,200 are kept for each line, and
    sent. A point of a longer window is the mean of its time where it is a rate, else the greatest.
    """

    def __init__(
        self,
        worker: Watched | Sequence[Watched] | Played,
        *,
        interval: float = 0.1,
        window: float = 60.0,
    ) -> None:
        if isinstance(worker, Played):
            watched = tuple(worker.workers)
        else:
            watched = tuple(worker) if isinstance(worker, Sequence) else (worker,)
        if not watched:
            raise ValueError("worker=[]: it takes at least one")
        if not 0.02 <= interval <= 60:
            raise ValueError(f"interval={interval!r}: it takes 0.02 to 60 seconds")
        if not 2 * interval <= window <= _MOST_POINTS * interval:
            raise ValueError(
                f"window={window!r}: it takes {2 * interval:g} to {_MOST_POINTS * interval:g} "
                f"seconds, for an interval of {interval:g}"
            )
        self._names = [each.name for each in watched]
        longest = max(window, _WINDOWS[-1])
        self._sampler: SampleSource = (
            worker.sampler(interval, longest)
            if isinstance(worker, Played)
            else Sampler(watched, interval)
        )
        self._new_components = lambda: Components(len(watched), interval, longest)
        self._components = self._new_components()
        self._latest: Moment | None = None
        windows = sorted({window, *(w for w in _WINDOWS if w >= 2 * interval)})
        self.widget = LiveView(self._components, windows, window)
        self.widget.replay = isinstance(worker, Played)
        self._full_due = 0.0
        self._full_asked = False
        self.widget.observe(self._on_asked, ["paused", "window", "measure", "drawn_as"])
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
        """Whether it was closed, or ended with its workers."""
        return not self._ticker.running

    def close(self) -> None:
        """Stop the thread, take the view off the page and free it. Twice is fine."""
        self._ticker.stop()
        self.widget.close()
        forget(self)

    def _on_asked(self, change: dict[str, Any]) -> None:
        self._full_asked = True

    def _tick(self) -> bool:
        samples = self._sampler.sample()
        if samples.anew:
            self._components = self.widget.components = self._new_components()
            self._full_asked = True
        for moment in samples.moments:
            self._components.update(moment)
            self._latest = moment
        ended = self._sampler.ended
        if ended:
            self.widget.ended = "worker closed" if len(self._names) == 1 else "all workers closed"
        elif self._latest is not None:
            self.widget.gone = _gone([s.name for s in self._latest.later if s.closed])
        if self._latest is None or not (samples.moments or self._full_asked):
            return not ended
        if not self.widget.paused or self._full_asked:
            now = time.monotonic()
            full = self._full_asked or self._components.rewritten or now >= self._full_due
            if full:
                self._full_asked = self._components.rewritten = False
                self._full_due = now + _FULL_EVERY
            self.widget.publish(self._latest.time, counter_table(self._latest), full=full)
        return not ended

    def __repr__(self) -> str:
        state = "closed" if self.closed else "paused" if self.paused else "live"
        return f"<Dashboard of {', '.join(map(repr, self._names))}, {state}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)


def _gone(names: Sequence[str]) -> str:
    """Say which of several workers have closed."""
    if len(names) > 1:
        return f"{len(names)} workers closed"
    return f"{shortened(names[0], 40)} closed" if names else ""
