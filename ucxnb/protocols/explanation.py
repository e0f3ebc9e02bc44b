"""What UCX chose for an endpoint: its lanes, and a protocol for each operation and size."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ArgumentError, UcxnbError
from ..html_table import html_table
from ..text import shown, size_text
from ..transports import describe_transport
from .table import Lane, ProtocolRange, read_printed
from .words import describe_protocol

__all__ = ["Explanation", "explain_printed", "time_text"]

_HEAD = ("size", "protocol", "lane", "UCX expects")
_COLUMNS = (
    "operation",
    "variant",
    "memory",
    "far_memory",
    "first",
    "last",
    "protocol",
    "assumed",
    "lane",
    "probed",
    "expected_us_first",
    "expected_us_last",
)


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What UCX chose for an endpoint, at one moment.

    Shown as a table in a notebook, as `text` in a terminal, and as `to_pandas`.

    Attributes
    ----------
    endpoint_id : int
        Of the connection.
    peer : str
        Its name and address. The name comes from the peer: do not trust it.
    ucx_version : str
        Of the UCX that chose.
    lanes : tuple of Lane
        The transports in use.
    ranges : tuple of ProtocolRange
        A row for each operation and range of sizes. UCX chooses when an operation is first used
        on a connection: tags are always there, the others after that.
    unknown : tuple of str
        Lines of UCX's that were not understood, as they were: this UCX prints otherwise.
    notes : tuple of str
        What the reader should know.
    printed : str
        All that UCX printed.
    """

    endpoint_id: int
    peer: str
    ucx_version: str
    lanes: tuple[Lane, ...]
    ranges: tuple[ProtocolRange, ...]
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    printed: str = ""

    def of(
        self, operation: str, memory: str = "host", variant: str = ""
    ) -> tuple[ProtocolRange, ...]:
        """Give the rows of one operation, by size.

        Parameters
        ----------
        operation : str
            As `ProtocolRange.operation`.
        memory : str
            Where the buffer lies.
        variant : str
            As `ProtocolRange.variant`.

        Returns
        -------
        tuple of ProtocolRange
            Empty if UCX told nothing of it.
        """
        wanted = operation, variant, memory
        rows = [row for row in self.ranges if row.key[:3] == wanted]
        far = rows[0].far_memory if rows else ""
        return tuple(sorted((r for r in rows if r.far_memory == far), key=lambda r: r.first))

    def at(self, nbytes: int, operation: str = "tag", memory: str = "host") -> ProtocolRange | None:
        """Give the row that messages of one size take.

        Parameters
        ----------
        nbytes : int
            Their size.
        operation, memory : str
            As for `of`.

        Returns
        -------
        ProtocolRange or None
            None if UCX told nothing of it.

        Raises
        ------
        ArgumentError
            `nbytes` is no size.
        """
        if type(nbytes) is not int or nbytes < 0:
            raise ArgumentError(f"nbytes={shown(nbytes)}: it takes a number of bytes")
        return next((row for row in self.of(operation, memory) if row.holds(nbytes)), None)

    def why(self, nbytes: int, operation: str = "tag", memory: str = "host") -> str:
        """Say in plain words what happens to a message of one size, and what UCX weighed.

        Parameters
        ----------
        nbytes : int
            Its size.
        operation, memory : str
            As for `of`.

        Returns
        -------
        str
            A few lines.

        Raises
        ------
        ArgumentError
            `nbytes` is no size.
        """
        row = self.at(nbytes, operation, memory)
        if row is None:
            return f"UCX has not chosen yet for {operation} from {memory} memory: use it once."
        lines = [f"{size_text(nbytes)}, {operation}: {row.protocol} over {row.lane or 'nothing'}."]
        if told := describe_protocol(row.protocol):
            lines.append(told)
        for estimate in row.estimates:
            if estimate.first <= nbytes and (estimate.last is None or nbytes <= estimate.last):
                chosen, *others = estimate.candidates
                lines.append(
                    f"UCX expects {time_text(chosen.time_of(nbytes))} of it ({chosen.name})"
                    + "".join(
                        f"; {time_text(other.time_of(nbytes))} of {other.name}"
                        for other in sorted(others, key=lambda c: c.time_of(nbytes))
                    )
                    + "."
                )
        if row.assumed:
            lines.append("It depends on what the peer chooses: UCX marks it (?).")
        return "\n".join(lines)

    @property
    def text(self) -> str:
        """As tables for a terminal."""
        lines = [self._title]
        lines += [f"  lane {lane.index}: {words}" for lane, words in self._lane_words()]
        for title, rows in self._tables():
            cells: list[tuple[str, ...]] = [_HEAD, *map(_cells, rows)]
            if not any(line[3] for line in cells[1:]):
                cells = [line[:3] for line in cells]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            lines += ["", title]
            for line in cells:
                padded = [line[0].rjust(widths[0]), *map(str.ljust, line[1:], widths[1:])]
                lines.append("  " + "  ".join(padded).rstrip())
        for note in self._all_notes():
            lines += ["", note]
        lines += [f"  {line}" for line in self.unknown]
        return "\n".join(lines)

    def to_pandas(self) -> Any:
        """Give the rows as a table of pandas.

        Returns
        -------
        pandas.DataFrame
            Sizes in bytes, ``last`` is ``<NA>`` where there is no end; what UCX expects at both
            ends of each range in microseconds, NaN if it did not tell.

        Raises
        ------
        UcxnbError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UcxnbError(
                "pandas is not installed: pip install pandas, or take `ranges` instead"
            ) from None
        records = []
        for row in self.ranges:
            ends = [row.first, row.last]
            expected = [None if size is None else row.expected(size) for size in ends]
            micro = [None if time is None else time * 1e6 for time in expected]
            values = [*row.key, *ends, row.protocol, row.assumed, row.lane, row.probed, *micro]
            records.append(values)
        table = pd.DataFrame.from_records(records, columns=list(_COLUMNS))
        types = {"first": "Int64", "last": "Int64"}
        return table.astype(types | dict.fromkeys(_COLUMNS[-2:], "float64"))

    def with_probe(self, probe: Explanation) -> Explanation:
        """Add what another endpoint with the same settings told: estimates, further operations.

        Parameters
        ----------
        probe : Explanation
            Of two processes made for it (`ucxnb.explorer.probe`).

        Returns
        -------
        Explanation
            Estimates are added to rows that are the same there. Where UCX chose otherwise there,
            a note says so, and this connection's rows stay as they are.
        """
        ranges, other = [], []
        for key, rows in _by_key(self.ranges):
            there = [row for row in probe.ranges if row.key == key]
            if list(map(_choice, rows)) == list(map(_choice, there)):
                rows = [
                    replace(row, estimates=twin.estimates)
                    for row, twin in zip(rows, there, strict=True)
                ]
            elif there:
                other.append(key[0])
            ranges += rows
        known = {row.key for row in self.ranges}
        ranges += [replace(row, probed=True) for row in probe.ranges if row.key not in known]
        notes = list(self.notes)
        if other:
            names = ", ".join(dict.fromkeys(other))
            notes.append(
                f"Two new processes with these settings chose otherwise for {names}: no estimates."
            )
        return replace(
            self,
            ranges=tuple(ranges),
            notes=tuple(notes),
            unknown=(*self.unknown, *probe.unknown),
        )

    @property
    def _title(self) -> str:
        return f"Endpoint {self.endpoint_id} to {self.peer}, UCX {self.ucx_version}"

    def _lane_words(self) -> Iterator[tuple[Lane, str]]:
        for lane in self.lanes:
            words = ", ".join(filter(None, [describe_transport(lane.transport), *lane.uses]))
            yield lane, f"{lane.transport}  ({words})" if words else lane.transport

    def _tables(self) -> Iterator[tuple[str, list[ProtocolRange]]]:
        """Those of the calls that ucxnb makes."""
        for (operation, variant, memory, far), rows in _by_key(self.ranges):
            if variant:
                continue
            title = f"{operation}, {memory} memory" if memory else operation
            title += f", {far} memory of the peer" if far else ""
            title += " (seen of two new processes)" if rows[0].probed else ""
            yield title, sorted(rows, key=lambda row: row.first)

    def _all_notes(self) -> Iterator[str]:
        variants = sorted({row.variant for row in self.ranges if row.variant})
        if variants:
            yield (f"Also in .ranges: calls with {', '.join(variants)}, which ucxnb does not make.")
        if any(row.assumed for row in self.ranges):
            yield "(?): it depends on what the peer chooses as well."
        yield from self.notes
        if self.unknown:
            yield (
                f"{len(self.unknown)} lines of UCX {self.ucx_version} were not understood, "
                "so the tables may lack something:"
            )

    def _repr_html_(self) -> str:
        parts = [f"<b>{html.escape(self._title)}</b>"]
        lanes = "".join(
            f"<li>lane {lane.index}: {html.escape(words)}</li>"
            for lane, words in self._lane_words()
        )
        parts.append(f"<ul>{lanes}</ul>")
        for title, rows in self._tables():
            columns = 4 if any(row.estimates for row in rows) else 3
            cells: list[list[str | tuple[str, str]]] = [list(_cells(row)[:columns]) for row in rows]
            for row, line in zip(rows, cells, strict=True):
                line[1] = _cells(row)[1], describe_protocol(row.protocol)
            parts.append(html_table(title, _HEAD[:columns], cells))
        parts += [f"<p>{html.escape(note)}</p>" for note in self._all_notes()]
        if self.unknown:
            parts.append(f"<pre>{html.escape(chr(10).join(self.unknown))}</pre>")
        return "".join(parts)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Explanation: {self._title}, {len(self.ranges)} rows>"


def explain_printed(
    text: str, endpoint_id: int, peer: str, ucx_version: str, notes: Sequence[str] = ()
) -> Explanation:
    """Make an explanation of what UCX printed of an endpoint and its worker.

    Parameters
    ----------
    text : str
        As for `read_printed`.
    endpoint_id, peer, ucx_version, notes
        As the attributes of `Explanation`.

    Returns
    -------
    Explanation
    """
    read = read_printed(text)
    notes = list(notes)
    # What follows on the endpoint is of all the worker's: rows of its configuration are its own.
    own, _, _ = text.partition("\n# UCP worker ")
    name = next(iter(read_printed(own).tables), "")
    if not name and read.lanes:
        notes.append(
            "UCX printed no table: it chooses by older rules here (UCX_PROTO_ENABLE=n), or nothing "
            "was sent yet."
        )
    return Explanation(
        endpoint_id,
        peer,
        ucx_version,
        tuple(read.lanes),
        tuple(read.tables.get(name, ())),
        tuple(read.unknown),
        tuple(notes),
        text,
    )


def time_text(seconds: float) -> str:
    """Write a time for people: ``"0.19 us"``, ``"12 us"``, ``"3.4 ms"``."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        value = seconds * factor
        if value < 1000:
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{seconds:.2f} s"


def _by_key(
    ranges: Iterable[ProtocolRange],
) -> Iterator[tuple[tuple[str, str, str, str], list[ProtocolRange]]]:
    tables: dict[tuple[str, str, str, str], list[ProtocolRange]] = {}
    for row in ranges:
        tables.setdefault(row.key, []).append(row)
    # Tags first, then what is used of an endpoint, then what UCX does of itself.
    order = ("tag", "tag sync", "stream", "put", "get")
    places = {name: place for place, name in enumerate(order)}
    yield from sorted(tables.items(), key=lambda item: (places.get(item[0][0], 9), item[0]))


def _choice(row: ProtocolRange) -> tuple[int, int | None, str, str]:
    return row.first, row.last, row.protocol, row.lane


def _cells(row: ProtocolRange) -> tuple[str, str, str, str]:
    mark = "(?) " if row.assumed else ""
    first = row.expected(row.first)
    expects = ""
    if first is not None and row.last == row.first:
        expects = time_text(first)
    elif first is not None and row.last is not None:
        last = row.expected(row.last)
        expects = time_text(first) if last is None else f"{time_text(first)} to {time_text(last)}"
    elif first is not None:
        expects = f"from {time_text(first)}"
        if each := row.estimates[-1].chosen.seconds_per_byte:
            expects += f", {1e-9 / each:.1f} GB/s" if each < 1e-9 else f", {1e-6 / each:.0f} MB/s"
    return row.sizes, mark + row.protocol, row.lane, expects
