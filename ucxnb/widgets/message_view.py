"""One received message, as text, hex digits or an array."""

from __future__ import annotations

import time

import ipywidgets
import numpy as np

from ..dashboard.units import human_bytes
from ..text import count_bytes
from .bytes_text import hex_dump, printable_text
from .copy_text import CopyText
from .message_store import Received

__all__ = ["MessageView"]

_TEXT = 16 << 10  # bytes shown
_HEX = 4 << 10
_NUMBERS = 1000
_DTYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)


class MessageView(ipywidgets.VBox):
    """Look at a message; hidden while there is none.

    Attributes
    ----------
    show_as : ipywidgets.ToggleButtons
        ``"text"``, ``"hex"`` or ``"array"``.
    dtype : ipywidgets.Dropdown
        Of the array, a NumPy name.
    content : CopyText
        The message so, with a button that copies it.
    """

    def __init__(self) -> None:
        self._message: Received | None = None
        self._title = ipywidgets.HTML()
        self.show_as = ipywidgets.ToggleButtons(
            options=[("Text", "text"), ("Hex", "hex"), ("Array", "array")],
            tooltips=["As UTF-8 text", "As hex digits", "As an array of numbers"],
            tooltip="How to show this message",
        )
        self.show_as.add_class("ucxnb-toggles")
        self.dtype = ipywidgets.Dropdown(
            options=_DTYPES,
            value="float64",
            tooltip="What the array holds",
            layout={"width": "110px", "display": "none"},
        )
        self.content = CopyText("this message")
        row = ipywidgets.HBox([self.show_as, self.dtype])
        row.add_class("ucxnb-field-row")
        super().__init__([self._title, row, self.content], layout={"display": "none"})
        self.add_class("ucxnb-form")
        self.show_as.observe(lambda _: self._render(), "value")
        self.dtype.observe(lambda _: self._render(), "value")

    def show(self, message: Received | None) -> None:
        """Show a message, or none."""
        self._message = message
        self._render()

    def _render(self) -> None:
        message, how = self._message, self.show_as.value
        self.layout.display = "none" if message is None else None
        self.dtype.layout.display = None if how == "array" else "none"
        if message is None:
            self.content.text = ""
            return
        moment = time.strftime("%H:%M:%S", time.localtime(message.at))
        sender = "?" if message.endpoint_id is None else message.endpoint_id
        text, shown = _SHOWN[how](message.head, self.dtype.value)
        part = "" if shown >= message.nbytes else f", the first {human_bytes(shown)} here"
        self._title.value = (
            f'<div class="ucxnb-second">Message {message.number + 1:,} at {moment} from {sender}, '
            f"tag {message.tag}, {count_bytes(message.nbytes)}{part}</div>"
        )
        self.content.text = text or "(empty)"


def _as_text(head: bytes, _: str) -> tuple[str, int]:
    part = head[:_TEXT]
    return printable_text(part), len(part)


def _as_hex(head: bytes, _: str) -> tuple[str, int]:
    part = head[:_HEX]
    return hex_dump(part), len(part)


def _as_array(head: bytes, dtype: str) -> tuple[str, int]:
    size = np.dtype(dtype).itemsize
    count = min(len(head) // size, _NUMBERS)
    numbers = np.frombuffer(head, dtype, count)
    text = np.array2string(numbers, separator=", ", threshold=_NUMBERS, max_line_width=72)
    return text, count * size


_SHOWN = {"text": _as_text, "hex": _as_hex, "array": _as_array}
