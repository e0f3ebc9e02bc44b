"""What commands return: Python values that also show themselves as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from ..bench import BenchRow
from ..bench.row import row_cells, row_head
from ..config import WorkerConfig
from ..endpoint_info import EndpointInfo
from ..frontdoor import Listener
from ..message import Message
from ..stats import WorkerStats
from ..text import count_bytes, preview, shortened

__all__ = [
    "Count",
    "EndpointIds",
    "EndpointTable",
    "HelpText",
    "ReceivedMessage",
    "TimingTable",
    "text_of",
]

_PREVIEW = 256


class _Shown:
    """Shows itself to people as `text`; the first base, or IPython would prefer the other one's."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """For a terminal."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return f"<pre style='margin:0'>{html.escape(self.text)}</pre>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # In IPython, where the repr of a message of 1 GB would be stored in the notebook.
        printer.text(self.text)


class Count(_Shown, int):
    """A number, an endpoint's id or a count of bytes, and what it is about."""

    _text: str

    def __new__(cls, value: int, text: str) -> Count:
        """Make one."""
        self = super().__new__(cls, value)
        self._text = text
        return self

    def __getnewargs__(self) -> tuple[int, str]:  # type: ignore[override]
        return int(self), self._text

    @property
    def text(self) -> str:
        """What it is about."""
        return self._text


class HelpText(_Shown, str):
    """Usage and meaning of commands.

    Parameters
    ----------
    rows : sequence of (str, str)
        Usage and meaning.
    """

    _help: Sequence[tuple[str, str]]

    def __new__(cls, rows: Sequence[tuple[str, str]]) -> HelpText:
        """Make one."""
        width = max(len(usage) for usage, _ in rows)
        self = super().__new__(cls, "\n".join(f"{usage:<{width}}  {what}" for usage, what in rows))
        self._help = rows
        return self

    def __getnewargs__(self) -> tuple[Sequence[tuple[str, str]]]:  # type: ignore[override]
        return (self._help,)

    @property
    def text(self) -> str:
        """Itself."""
        return str(self)

    def _repr_html_(self) -> str:
        cell = "<td style='text-align:left'>"
        rows = (
            f"<tr>{cell}<code>{html.escape(usage)}</code></td>{cell}{html.escape(meaning)}</td></tr>"
            for usage, meaning in self._help
        )
        return f"<table>{''.join(rows)}</table>"


class ReceivedMessage(_Shown, Message):
    """A `Message` that shows the start of its data."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """Source, tag, size and the start of the data."""
        assert self.data is not None
        source = "" if self.endpoint_id is None else f"endpoint {self.endpoint_id}, "
        start = preview(self.data[:_PREVIEW], self.nbytes, "auto")
        return f"{source}tag {self.tag}, {count_bytes(self.nbytes)}: {start}"


class EndpointIds(_Shown, list[int]):
    """The endpoints that a message reached."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """Which."""
        if not self:
            return "there is no endpoint to send to"
        which = "endpoint" if len(self) == 1 else "endpoints"
        return f"sent to {which} {', '.join(map(str, self))}"


class _Table(_Shown):
    """Shows itself as rows of cells."""

    __slots__ = ()
    _head: Sequence[str] = ()
    _empty = ""

    def _rows(self) -> list[Sequence[str]]:
        raise NotImplementedError

    @property
    def text(self) -> str:
        """Columns, aligned."""
        rows = [self._head, *self._rows()]
        if len(rows) == 1:
            return self._empty
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        rows = self._rows()
        if not rows:
            return f"<em>{html.escape(self._empty)}</em>"
        body = "".join(_html_row(row, "td") for row in rows)
        return f"<table>{_html_row(self._head, 'th')}{body}</table>"


class EndpointTable(_Table, list[EndpointInfo]):
    """Connections."""

    __slots__ = ()
    _head = (
        "id",
        "peer",
        "address",
        "state",
        "asked by",
        "transports",
        "sent",
        "held",
        "received",
        "unreceived",
    )
    _empty = "no endpoint is open; `connect` or `listen` first"

    def _rows(self) -> list[Sequence[str]]:
        return [
            (
                str(info.endpoint_id),
                shortened(info.peer_name, 40),
                info.peer_address,
                info.state.value,
                "us" if info.direction == "connected" else "peer",
                ", ".join(info.transports),
                f"{info.stats.messages_sent:,}",
                f"{info.stats.sends_held:,}",
                f"{info.stats.messages_received:,}",
                f"{info.stats.unreceived_messages:,}",
            )
            for info in self
        ]


class TimingTable(_Table, list[BenchRow]):
    """Latency and rate by message size."""

    __slots__ = ()
    _head = row_head(limit=False)

    def _rows(self) -> list[Sequence[str]]:
        return [row_cells(row, limit=False) for row in self]


def text_of(value: object) -> str:
    """Write a command's result for a terminal; empty if there is nothing to say."""
    if value is None:
        return ""
    if isinstance(value, Listener):
        return f"listening on {value.address}"
    if isinstance(value, WorkerConfig):
        return "\n".join(f"{name:<22} {setting}" for name, setting in value.shown())
    if isinstance(value, _Shown):
        return value.text
    assert isinstance(value, WorkerStats)
    return str(value)


def _html_row(cells: Iterable[str], tag: str) -> str:
    inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"
