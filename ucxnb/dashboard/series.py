"""Bounded columns of numbers: what a plot shows, and what of it is new."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

__all__ = ["Series"]


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

    def all(self) -> dict[str, np.ndarray]:
        """Every point kept, oldest first, by column."""
        with self._lock:
            return self._tail(len(self._points))

    def take(self) -> dict[str, np.ndarray]:
        """Return the points added since the last call, by column."""
        with self._lock:
            count, self._new = self._new, 0
            return self._tail(count)

    def __len__(self) -> int:
        return len(self._points)

    def _tail(self, count: int) -> dict[str, np.ndarray]:
        first = len(self._points) - count
        rows = [self._points[i] for i in range(first, len(self._points))]
        table = np.array(rows, dtype="f8").reshape(count, len(self.columns))
        return {name: table[:, i].copy() for i, name in enumerate(self.columns)}
