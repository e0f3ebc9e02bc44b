"""How large the messages are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bokeh.models import ColumnDataSource, DataRange1d, FixedTicker

from ..histogram import Histogram, total_of
from .moment import Moment
from .plots import add_hover, add_legend, formatter, new_plot, scale_y
from .table import Table
from .units import PERCENT

__all__ = ["SizeHistogram"]

_LATELY = 10.0  # seconds
_ALWAYS_SHOWN = (0, 13)  # buckets: from 0 B to 4 KiB
_BUCKETS = 41  # the last is of 512 GiB and more
_TITLE = f"Message sizes, last {_LATELY:g} s"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class SizeHistogram:
    """Bars of the share of the messages that have each size: lately, and since the start.

    Parameters
    ----------
    series : Table, optional
        Figures that another one like it is given; else its own.

    Attributes
    ----------
    name, source, root
        As of `TimePlot`.
    series : Table
        A row for each size that there is, in powers of two.
    """

    def __init__(self, series: Table | None = None) -> None:
        self.name = "sizes"
        numbers = ("bucket", "sent_at", "received_at", *_SHARES, *_COUNTS)
        self.series = Table(numbers, ("size",)) if series is None else series
        self._recent: deque[tuple[float, Histogram, Histogram]] = deque()
        self.source = ColumnDataSource({column: [] for column in self.series.columns}, name="sizes")
        self.root = new_plot("sizes", _TITLE, 210, x_range=DataRange1d(range_padding=0.05))
        scale_y(self.root, PERCENT, 10.0, log=False)
        self.root.xgrid.visible = False
        self.root.xaxis.formatter = formatter("bucket_ticks.js")
        self.root.xaxis.ticker = FixedTicker(ticks=[0, *range(6, _BUCKETS, 5)])
        drawn = {}
        for way in ("sent", "received"):
            ever = self.root.vbar(
                f"{way}_at",
                0.4,
                f"{way}_ever",
                source=self.source,
                name=way,
                fill_alpha=0,
                line_alpha=0.6,
            )
            bars = self.root.vbar(
                f"{way}_at", 0.4, f"{way}_lately", source=self.source, name=way, line_alpha=0
            )
            drawn[way] = [bars, ever]
        add_legend(self.root, drawn)
        figures: list[tuple[str, str, Sequence[str]]] = [("size", "size", ())]
        for way in ("sent", "received"):
            figures += [
                (f"{way} lately", f"{way}_lately", PERCENT),
                (f"{way} in all", f"{way}_count", ("", "k", "M", "G", "T")),
            ]
        bars = self.root.vbar("bucket", 0.9, "top", source=self.source, alpha=0, name="none")
        add_hover(self.root, bars, figures)
        self.root.scatter(_ALWAYS_SHOWN, 0, alpha=0, name="none")

    def texts(self) -> dict[str, str]:
        """The title, which says why there may be nothing to see, by the name of its model."""
        return {"sizes-title": _TITLE if len(self.series) else "Message sizes: none yet"}

    def update(self, moment: Moment) -> None:
        """Look at the messages so far."""
        sent = total_of([snapshot.sizes_sent for snapshot in moment.later])
        received = total_of([snapshot.sizes_received for snapshot in moment.later])
        self._recent.append((moment.time, sent, received))
        while self._recent[0][0] < moment.time - _LATELY:
            self._recent.popleft()
        _, sent_then, received_then = self._recent[0]
        used = max(len(sent.counts), len(received.counts))
        columns = {
            "sent_lately": _shares(sent.since(sent_then), used),
            "received_lately": _shares(received.since(received_then), used),
            "sent_ever": _shares(sent, used),
            "received_ever": _shares(received, used),
            "sent_count": _padded(sent.counts, used),
            "received_count": _padded(received.counts, used),
        }
        columns["top"] = [max(column) for column in zip(*columns.values(), strict=True)]
        shown = [i for i in range(used) if columns["top"][i]]
        rows = {name: [column[i] for i in shown] for name, column in columns.items()}
        rows["top"] = [max(rows[name][i] for name in _SHARES[:4]) for i in range(len(shown))]
        self.series.replace(
            bucket=shown,
            sent_at=[i - 0.2 for i in shown],
            received_at=[i + 0.2 for i in shown],
            size=[_size_text(i) for i in shown],
            **rows,
        )


_SHARES = ("sent_lately", "received_lately", "sent_ever", "received_ever", "top")
_COUNTS = ("sent_count", "received_count")


def _padded(counts: Sequence[float], length: int) -> list[float]:
    return [*counts, *[0.0] * (length - len(counts))]


def _shares(histogram: Histogram, length: int) -> list[float]:
    """In percent."""
    total = histogram.total or 1
    return _padded([100 * count / total for count in histogram.counts], length)


def _size_text(bucket: int) -> str:
    if bucket == 0:
        return "0 B"
    low, high = (_power_text(power) for power in (bucket - 1, bucket))
    return f"{low} to less than {high}" if bucket > 1 else "1 B"


def _power_text(power: int) -> str:
    unit = min(power // 10, len(_UNITS) - 1)
    return f"{1 << (power - 10 * unit)} {_UNITS[unit]}"
