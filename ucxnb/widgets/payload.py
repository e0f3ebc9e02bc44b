"""The controls for what to send: text, hex digits, or random bytes."""

from __future__ import annotations

import os

import ipywidgets

from ..text import parse_hex, parse_size
from .fields import text_field

__all__ = ["PayloadInput"]


class PayloadInput(ipywidgets.VBox):
    """Ask for a payload. Every control can be set from Python too.

    Attributes
    ----------
    kind : ipywidgets.ToggleButtons
        Its value is ``"text"``, ``"hex"`` or ``"random"``.
    text, digits : ipywidgets.Textarea
        What to send, as text or as hex digits.
    size : ipywidgets.Text
        How many random bytes, such as ``"64 KiB"``.
    """

    def __init__(self) -> None:
        self.kind = ipywidgets.ToggleButtons(
            options=[("Text", "text"), ("Hex", "hex"), ("Random", "random")],
            description="Payload",
            tooltips=["UTF-8 text", "Bytes as hex digits", "Random bytes of a given size"],
        )
        self.text = _area("Text", "hello", "What to send, as UTF-8 text")
        self.digits = _area("Hex", "48 65 6c 6c 6f", "What to send, as hex digits")
        self.size = text_field(
            "Size", "64 KiB", "How many random bytes to send: 64, 64 kB, 64 KiB, up to 1 GiB"
        )
        self._shown = {"text": self.text, "hex": self.digits, "random": self.size}
        super().__init__([self.kind, *self._shown.values()])
        self.add_class("ucxnb-form")
        self.kind.add_class("ucxnb-toggles")
        self.kind.observe(lambda _: self._show(), "value")
        self._show()

    def read(self) -> bytes:
        """Return the payload; random bytes are new ones each time.

        Raises
        ------
        ValueError
            In words for the person who typed it.
        """
        if self.kind.value == "text":
            return self.text.value.encode()
        if self.kind.value == "hex":
            return parse_hex(self.digits.value)
        return os.urandom(parse_size(self.size.value))

    def _show(self) -> None:
        for kind, field in self._shown.items():
            field.layout.display = None if kind == self.kind.value else "none"


def _area(label: str, value: str, tooltip: str) -> ipywidgets.Textarea:
    return ipywidgets.Textarea(
        value=value, description=label, tooltip=tooltip, rows=2, layout={"width": "auto"}
    )
