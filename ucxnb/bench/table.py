"""The table of a measurement in a terminal, a line at a time."""

from __future__ import annotations

from .row import BenchRow, row_cells, row_head

__all__ = ["LiveTable"]

_WIDTH = 10


class LiveTable:
    """Write rows as they come, in columns of a fixed width.

    Parameters
    ----------
    limit : bool
        Whether to compare with the limit.
    """

    def __init__(self, *, limit: bool) -> None:
        self._limit = limit

    @property
    def head(self) -> str:
        """The first line."""
        return _line(row_head(limit=self._limit))

    def line(self, row: BenchRow) -> str:
        """Write one row."""
        return _line(row_cells(row, limit=self._limit))


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(cell.rjust(_WIDTH) for cell in cells)
