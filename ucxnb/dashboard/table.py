"""Columns that a plot shows as a whole: bars, nodes, marks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

__all__ = ["Table"]

Column: TypeAlias = "np.ndarray | list[str]"


class Table:
    """Columns of equal length, replaced all at once.

    One thread replaces and takes; any thread may ask for `all`.

    Parameters
    ----------
    numbers : tuple of str
        Names of the columns of float64.
    texts : tuple of str
        Names of the columns of text.
    """

    def __init__(self, numbers: tuple[str, ...], texts: tuple[str, ...] = ()) -> None:
        self.numbers = numbers
        self.texts = texts
        self.columns = (*numbers, *texts)
        self._lock = threading.Lock()
        self._rows: dict[str, Column] = {name: np.empty(0) for name in numbers}
        self._rows.update({name: [] for name in texts})
        self._changed = True

    def replace(self, **columns: Sequence[float] | Sequence[str]) -> None:
        """Set every column."""
        if set(columns) != set(self.columns) or len({len(c) for c in columns.values()}) > 1:
            raise ValueError(f"it takes {self.columns}, all of one length")
        rows: dict[str, Column] = {n: np.array(columns[n], dtype="f8") for n in self.numbers}
        rows.update({name: [str(text) for text in columns[name]] for name in self.texts})
        with self._lock:
            self._changed = self._changed or not _same(rows, self._rows)
            self._rows = rows

    def all(self) -> dict[str, Column]:
        """All columns."""
        with self._lock:
            return self._rows

    def take(self) -> dict[str, Column] | None:
        """Return all columns, or None if nothing has changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, False
            return self._rows if changed else None

    def __len__(self) -> int:
        return len(next(iter(self._rows.values())))


def _same(some: dict[str, Column], others: dict[str, Column]) -> bool:
    return all(
        np.array_equal(column, others[name], equal_nan=True)
        if isinstance(column, np.ndarray)
        else column == others[name]
        for name, column in some.items()
    )
