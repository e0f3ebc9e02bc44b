"""A table of received messages of which only the rows in sight travel to the page."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from ..dashboard.units import human_bytes
from ..text import preview, shortened
from .copy_text import OwnWidget
from .message_store import MessageStore, Received

__all__ = ["MessageTable"]

_MOST_ROWS = 200  # in one answer
_LATEST = 40  # rows sent unasked: a page that shows the end needs no question
_PREVIEW = 64  # bytes


class MessageTable(OwnWidget):
    """Show a `MessageStore`, oldest first, scrolled to the newest until somebody scrolls.

    A page asks for the rows it shows, so a table of 100,000 costs no more than one of ten.

    Parameters
    ----------
    store : MessageStore
        What to show.

    Attributes
    ----------
    selected : int
        The number of the chosen message, -1 if none is; set by clicks, keys, or from Python.
    """

    _esm = Path(__file__).parent / "static" / "message_table.js"

    selected = traitlets.Int(-1, help="Number of the chosen message.").tag(sync=True)

    def __init__(self, store: MessageStore) -> None:
        super().__init__()
        self._store = store
        self._lock = threading.Lock()
        self._filter: tuple[int | None, int | None] = None, None
        self._show_as = "auto"
        self._numbers = store.find(None, None)
        self._seen = (store.version, store.dropped)
        self.add_class("ucxnb-message-table")
        self.on_msg(self._answer)

    @property
    def count(self) -> int:
        """How many messages pass the filter."""
        return len(self._numbers)

    def filter(self, endpoint_id: int | None, tag: int | None) -> None:
        """Show only the messages of an endpoint, or with a tag; None takes any."""
        with self._lock:
            if (endpoint_id, tag) == self._filter:
                return
            self._filter = endpoint_id, tag
        self._look(stale=True)

    def show_as(self, how: str) -> None:
        """Preview messages as ``"text"`` or ``"hex"``; ``"auto"`` takes what fits each."""
        if how != self._show_as:
            self._show_as = how
            self._look(stale=True)

    def refresh(self) -> None:
        """Show what the store got since the last time."""
        version, dropped = self._seen
        if version != self._store.version:
            # What was dropped moves all rows up, and so does what is gone with a `clear`.
            self._look(stale=dropped != self._store.dropped or self.count > len(self._store))

    def _look(self, *, stale: bool) -> None:
        with self._lock:
            self._seen = self._store.version, self._store.dropped
            self._numbers = self._store.find(*self._filter)
        start = max(0, self.count - _LATEST)
        self.send({"kind": "rows", "stale": stale, **self._rows(start, start + _LATEST)})

    def _answer(self, _: object, content: Any, buffers: object) -> None:
        if not isinstance(content, dict) or content.get("kind") != "rows":
            return
        start, stop = content.get("start"), content.get("stop")
        if isinstance(start, int) and isinstance(stop, int) and start >= 0:
            stop = min(stop, start + _MOST_ROWS)
            self.send({"kind": "rows", "stale": False, **self._rows(start, stop)})

    def _rows(self, start: int, stop: int) -> dict[str, Any]:
        numbers: np.ndarray = self._numbers
        found = (self._store.get(int(number)) for number in numbers[start:stop])
        rows = [self._row(message) for message in found if message is not None]
        return {"count": len(numbers), "start": start, "rows": rows}

    def _row(self, message: Received) -> list[Any]:
        """Number, time, sender, tag, size and preview; all but the number as texts."""
        moment = time.strftime("%H:%M:%S", time.localtime(message.at))
        sender = "?" if message.endpoint_id is None else str(message.endpoint_id)
        text = preview(message.head[:_PREVIEW], message.nbytes, self._show_as) or "(empty)"
        return [
            message.number,
            f"{moment}.{int(message.at * 1000) % 1000:03d}",
            sender,
            str(message.tag),
            human_bytes(message.nbytes),
            shortened(text, 4 * _PREVIEW),
        ]
