"""Bounded columns of numbers: what a plot over time shows, and what of it is new."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["Series", "Tiers", "mean", "steps_for"]

LENGTH = 1200
"""Points that a tier keeps: more than that are no use on a screen."""

_COARSER = (1.0, 5.0, 30.0, 180.0, 1800.0)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def steps_for(interval: float, longest: float) -> list[float]:
    """Choose how far apart the points of each tier are.

    Parameters
    ----------
    interval : float
        Seconds between two samples, which is the first step.
    longest : float
        The longest time that is ever shown, seconds.

    Returns
    -------
    list of float
        Seconds, rising; `LENGTH` points of the last cover `longest`.
    """
    steps = [interval]
    for step in _COARSER:
        if steps[-1] * LENGTH < longest and step > interval:
            steps.append(step)
    return steps


class Series:
    """The latest points of a plot, as columns of float64.

    One thread appends and takes; any thread may ask for `all`.

    Parameters
    ----------
    columns : tuple of str
        Names of the columns.
    length : int
        How many points to keep.
    """

    def __init__(self, columns: tuple[str, ...], length: int) -> None:
        self.columns = columns
        self.length = length
        self._points: deque[tuple[float, ...]] = deque(maxlen=length)
        self._new = 0
        self._lock = threading.Lock()

    def append(self, *point: float) -> None:
        """Add one point, a number for each column."""
        with self._lock:
            self._points.append(point)
            self._new = min(self._new + 1, self.length)

    def all(self, most: int | None = None) -> dict[str, np.ndarray]:
        """Every point kept, or the latest of them, oldest first, by column."""
        with self._lock:
            count = len(self._points)
            return self._tail(count if most is None else min(most, count))

    def take(self) -> dict[str, np.ndarray]:
        """Return the points added since the last call, by column."""
        with self._lock:
            count, self._new = self._new, 0
            return self._tail(count)

    def rewrite(self, change: Callable[[tuple[float, ...]], tuple[float, ...]]) -> None:
        """Replace every point."""
        with self._lock:
            self._points = deque(map(change, self._points), maxlen=self.length)

    def __len__(self) -> int:
        return len(self._points)

    def _tail(self, count: int) -> dict[str, np.ndarray]:
        first = len(self._points) - count
        rows = [self._points[i] for i in range(first, len(self._points))]
        table = np.array(rows, dtype="f8").reshape(count, len(self.columns))
        return {name: table[:, i].copy() for i, name in enumerate(self.columns)}


class Tiers:
    """One series at several resolutions: the longer the time that is shown, the coarser.

    Memory is bounded, whatever the time: `LENGTH` points for each tier.

    Parameters
    ----------
    columns : tuple of str
        Names of the columns; the first is the time, in seconds.
    steps : sequence of float
        Seconds between the points of each tier; the first is that of what is appended.
    coarsen : callable
        Makes one number of those of a step, none of them NaN: `mean` for rates, ``max`` for what
        must not be hidden.
    """

    def __init__(
        self,
        columns: tuple[str, ...],
        steps: Sequence[float],
        coarsen: Callable[[Sequence[float]], float] = mean,
    ) -> None:
        self.columns = columns
        self.steps = tuple(steps)
        self.tiers = tuple(Series(columns, LENGTH + 1) for _ in steps)
        self._coarsen = coarsen
        self._gathered: list[list[tuple[float, ...]]] = [[] for _ in steps[1:]]

    def append(self, *point: float) -> None:
        """Add one point, a number for each column; NaN is no value."""
        self.tiers[0].append(*point)
        for gathered, series, step in zip(
            self._gathered, self.tiers[1:], self.steps[1:], strict=True
        ):
            if gathered and gathered[0][0] // step != point[0] // step:
                series.append(*self._one_of(gathered))
                gathered.clear()
            gathered.append(point)

    def tier_for(self, window: float) -> int:
        """Tell which tier shows a time of so many seconds."""
        for i, step in enumerate(self.steps):
            if window <= step * LENGTH:
                return i
        return len(self.steps) - 1

    def rewrite(self, change: Callable[[tuple[float, ...]], tuple[float, ...]]) -> None:
        """Replace every point of every tier."""
        for series in self.tiers:
            series.rewrite(change)
        self._gathered = [[change(point) for point in points] for points in self._gathered]

    def _one_of(self, points: list[tuple[float, ...]]) -> tuple[float, ...]:
        columns = list(zip(*points, strict=True))
        known = ([v for v in column if not math.isnan(v)] for column in columns[1:])
        return (columns[0][-1], *(self._coarsen(v) if v else math.nan for v in known))
