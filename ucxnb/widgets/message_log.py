"""The latest messages that came in."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dashboard.units import human_bytes, human_count
from ..text import preview, safe_html

if TYPE_CHECKING:
    from ..message import Message

__all__ = ["MessageLog"]

_HEAD = 64


@dataclass(frozen=True, slots=True)
class _Entry:
    at: float
    endpoint_id: int | None
    tag: int
    nbytes: int
    head: bytes


class MessageLog:
    """Keep size, sender and first bytes of the latest messages.

    One thread adds while others render.

    Parameters
    ----------
    length : int
        How many to keep.
    """

    def __init__(self, length: int) -> None:
        self.count = 0
        self.nbytes = 0
        self._entries: deque[_Entry] = deque(maxlen=length)
        self._lock = threading.Lock()

    def add(self, message: Message) -> None:
        """Add a message that was just received."""
        head = bytes(memoryview(message.data or b"")[:_HEAD])
        entry = _Entry(time.time(), message.endpoint_id, message.tag, message.nbytes, head)
        with self._lock:
            self._entries.append(entry)
            self.count += 1
            self.nbytes += message.nbytes

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._entries.clear()
            self.count = self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def html(self, show_as: str) -> str:
        """Render the newest first, with everything escaped.

        Parameters
        ----------
        show_as : {"auto", "text", "hex"}
            How to show the first bytes.
        """
        with self._lock:
            entries = list(self._entries)
            count, nbytes = self.count, self.nbytes
        if not entries:
            return '<div class="ucxnb-log ucxnb-empty">Nothing received yet.</div>'
        rows = "".join(_row(entry, show_as) for entry in reversed(entries))
        noun = "message" if count == 1 else "messages"
        latest = f", the latest {len(entries)} here" if count > len(entries) else ""
        return (
            f'<div class="ucxnb-log-total">{human_count(count)} {noun}, {human_bytes(nbytes)}'
            f'{latest}</div><div class="ucxnb-log" role="log" aria-label="Received messages" '
            f'tabindex="0">{rows}</div>'
        )


def _row(entry: _Entry, show_as: str) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(entry.at))
    sender = "?" if entry.endpoint_id is None else str(entry.endpoint_id)
    text = preview(entry.head, entry.nbytes, show_as) or "(empty)"
    return (
        f'<div class="ucxnb-log-entry"><div class="ucxnb-second">{at} · from {sender} · '
        f"tag {entry.tag} · {human_bytes(entry.nbytes)}</div>{safe_html(text)}</div>"
    )
