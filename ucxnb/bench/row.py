"""The figures of one message size, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from ..text import size_text

__all__ = ["BenchRow", "row_cells", "row_head"]

_HEAD = ("size", "p50 us", "p99 us", "p99.9 us", "messages/s", "MB/s")
_LIMIT_HEAD = ("limit us", "ratio", "limit MB/s", "ratio")

_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class BenchRow:
    """What a connection reached with messages of one size.

    Attributes
    ----------
    nbytes : int
        Size of each message, bytes.
    rounds : int
        Round trips that the percentiles are of; p99.9 needs a thousand to mean something.
    p50_us, p99_us, p999_us : float
        Half a round trip, microseconds: what 50 %, 99 % and 99.9 % of them stayed below.
    message_rate : float or None
        Messages a second, one way; None with a peer that only echoes.
    limit_us, limit_rate : float or None
        The median and the message rate of ``ucx_perftest``; None if it was not run.
    """

    nbytes: int
    rounds: int
    p50_us: float
    p99_us: float
    p999_us: float
    message_rate: float | None = None
    limit_us: float | None = None
    limit_rate: float | None = None

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second, one way."""
        return None if self.message_rate is None else self.message_rate * self.nbytes

    @property
    def limit_bandwidth(self) -> float | None:
        """Bytes a second of ``ucx_perftest``, one way."""
        return None if self.limit_rate is None else self.limit_rate * self.nbytes


def row_head(*, limit: bool) -> tuple[str, ...]:
    """Titles of the columns that `row_cells` fills."""
    return _HEAD + _LIMIT_HEAD if limit else _HEAD


def row_cells(row: BenchRow, *, limit: bool) -> tuple[str, ...]:
    """Write a row for people, with or without the columns that compare it with the limit."""
    cells = (
        size_text(row.nbytes),
        _number(row.p50_us),
        _number(row.p99_us),
        _number(row.p999_us),
        _NOTHING if row.message_rate is None else f"{row.message_rate:,.0f}",
        _number(row.bandwidth, 1e6),
    )
    if not limit:
        return cells
    return (
        *cells,
        _number(row.limit_us),
        _ratio(row.p50_us, row.limit_us),
        _number(row.limit_bandwidth, 1e6),
        _ratio(row.message_rate, row.limit_rate),
    )


def _number(value: float | None, unit: float = 1.0) -> str:
    if value is None:
        return _NOTHING
    value /= unit
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{2 if value < 100 else 1}f}"


def _ratio(value: float | None, limit: float | None) -> str:
    return _NOTHING if value is None or not limit else f"{value / limit:.2f}"
