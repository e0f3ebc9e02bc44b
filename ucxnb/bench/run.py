"""A whole measurement as a value: to show, to save, to take into pandas."""

from __future__ import annotations

import csv
import html
import io
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import UcxnbError
from .row import BenchRow, row_cells, row_head

__all__ = ["BenchRun", "runs_to_csv", "runs_to_pandas"]

_COLUMNS = (
    "run",
    "transports",
    "nbytes",
    "rounds",
    "p50_us",
    "p99_us",
    "p999_us",
    "message_rate",
    "bandwidth",
    "limit_us",
    "limit_rate",
    "limit_bandwidth",
)


@dataclass(frozen=True, slots=True)
class BenchRun:
    """The rows of one measurement, and what it was of.

    Attributes
    ----------
    name : str
        What it is called.
    rows : tuple of BenchRow
        One for each size that was measured.
    transports : tuple of str
        What UCX used, as ``"transport/device"``.
    peer : str
        Who was measured with.
    machine : str
        Where it was measured.
    started : float
        When, seconds since the epoch.
    note : str
        What the reader should know, such as why there is no limit; may be empty.
    """

    name: str
    rows: tuple[BenchRow, ...] = ()
    transports: tuple[str, ...] = ()
    peer: str = ""
    machine: str = ""
    started: float = field(default_factory=time.time)
    note: str = ""

    def with_row(self, row: BenchRow) -> BenchRun:
        """Return the same run with one more row.

        Parameters
        ----------
        row : BenchRow
            The new one.

        Returns
        -------
        BenchRun
        """
        return replace(self, rows=(*self.rows, row))

    @property
    def text(self) -> str:
        """As a table for a terminal."""
        lines = self._lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )

    def to_csv(self, path: str | PathLike[str] | None = None) -> str:
        """Write the rows as CSV, in bytes, microseconds and bytes a second.

        Parameters
        ----------
        path : path-like, optional
            File to write, too.

        Returns
        -------
        str
            The text.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        return runs_to_csv([self], path)

    def to_pandas(self) -> Any:
        """Give the rows as a table of pandas.

        Returns
        -------
        pandas.DataFrame
            Columns as in `to_csv`.

        Raises
        ------
        UcxnbError
            pandas is not installed.
        """
        return runs_to_pandas([self])

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Write everything as JSON, which `from_json` reads.

        Parameters
        ----------
        path : path-like, optional
            File to write, too.

        Returns
        -------
        str
            The text.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        text = json.dumps(asdict(self), indent=1)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | PathLike[str]) -> BenchRun:
        """Read what `to_json` wrote.

        Parameters
        ----------
        source : str or path-like
            The text itself, which starts with ``{``, or a file.

        Returns
        -------
        BenchRun

        Raises
        ------
        UcxnbError
            It is no such text.
        OSError
            The file cannot be read.
        """
        try:
            text = str(source)
            if not text.lstrip().startswith("{"):
                text = Path(source).read_text(encoding="utf-8")
            values = json.loads(text)
            rows = tuple(BenchRow(**row) for row in values.pop("rows"))
            transports = tuple(values.pop("transports"))
            return cls(rows=rows, transports=transports, **values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UcxnbError(f"this is no saved benchmark of ucxnb: {error!r:.200}") from None

    def _lines(self) -> list[tuple[str, ...]]:
        limit = any(row.limit_us is not None for row in self.rows)
        return [row_head(limit=limit), *(row_cells(row, limit=limit) for row in self.rows)]

    def _repr_html_(self) -> str:
        about = ", ".join(filter(None, [self.peer, *self.transports, self.machine]))
        note = f"<br><em>{html.escape(self.note)}</em>" if self.note else ""
        caption = f"<b>{html.escape(self.name)}</b> {html.escape(about)}{note}"
        lines = "".join(
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
            for tag, cells in zip(["th", *["td"] * len(self.rows)], self._lines(), strict=True)
        )
        return f"<table><caption>{caption}</caption>{lines}</table>"


def runs_to_csv(runs: Iterable[BenchRun], path: str | PathLike[str] | None = None) -> str:
    """Write the rows of several runs as one table, as `BenchRun.to_csv` does."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in _records(runs):
        writer.writerow("" if value is None else value for value in record)
    if path is not None:
        Path(path).write_text(text.getvalue(), encoding="utf-8")
    return text.getvalue()


def runs_to_pandas(runs: Iterable[BenchRun]) -> Any:
    """Give the rows of several runs as one table, as `BenchRun.to_pandas` does."""
    try:
        import pandas as pd
    except ImportError:
        raise UcxnbError(
            "pandas is not installed: pip install pandas, or take `to_csv` instead"
        ) from None
    return pd.DataFrame.from_records(list(_records(runs)), columns=list(_COLUMNS))


def _records(runs: Iterable[BenchRun]) -> Iterator[tuple[Any, ...]]:
    own = [f.name for f in fields(BenchRow)]
    for run in runs:
        for row in run.rows:
            values = {name: getattr(row, name) for name in (*own, "bandwidth", "limit_bandwidth")}
            values |= {"run": run.name, "transports": " ".join(run.transports)}
            yield tuple(values[name] for name in _COLUMNS)
