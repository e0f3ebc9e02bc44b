"""The controls for what to send: text, hex digits, random bytes, a file, or an array."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets

from ..text import LARGEST_PAYLOAD, parse_hex, parse_size, shortened
from .fields import text_field
from .python_line import user_names

__all__ = ["Payload", "PayloadCode", "PayloadInput"]

_MOST_FILES = 200  # offered from the present folder


class Payload(NamedTuple):
    """What to send.

    Attributes
    ----------
    data : bytes-like
        As `UcxWorker.send_tag` takes it.
    nbytes : int
        Its size.
    """

    data: Any
    nbytes: int


class PayloadCode(NamedTuple):
    """Python code for a payload.

    Attributes
    ----------
    imports : str
        A line that the expression needs before it, or empty.
    expression : str
        Gives the payload.
    """

    imports: str
    expression: str


class PayloadInput(ipywidgets.VBox):
    """Ask for a payload. Every control can be set from Python too.

    Attributes
    ----------
    kind : ipywidgets.ToggleButtons
        Its value is ``"text"``, ``"hex"``, ``"random"``, ``"file"`` or ``"array"``.
    text, digits : ipywidgets.Textarea
        What to send, as text or as hex digits.
    size : ipywidgets.Text
        How many random bytes, such as ``"64 KiB"``.
    path : ipywidgets.Combobox
        A file where the kernel runs, up to 1 GiB. It offers those in the present folder.
    expression : ipywidgets.Text
        A Python expression with the names of the notebook, and ``np``: what it gives is sent as it
        lies in memory. It is run as a cell would run it.
    """

    def __init__(self) -> None:
        self.kind = ipywidgets.ToggleButtons(
            options=[
                ("Text", "text"),
                ("Hex", "hex"),
                ("Random", "random"),
                ("File", "file"),
                ("Array", "array"),
            ],
            tooltips=[
                "UTF-8 text",
                "Bytes as hex digits",
                "Random bytes of a given size",
                "A file where the kernel runs",
                "A NumPy expression",
            ],
            tooltip="What kind of payload",
        )
        self.text = _area("Text", "hello", "What to send, as UTF-8 text")
        self.digits = _area("Hex", "48 65 6c 6c 6f", "What to send, as hex digits")
        self.size = text_field(
            "Size", "64 KiB", "How many random bytes to send: 64, 64 kB, 64 KiB, up to 1 GiB"
        )
        self.path = ipywidgets.Combobox(
            description="File",
            tooltip="Path of a file where the kernel runs, up to 1 GiB",
            placeholder="a path where the kernel runs",
            ensure_option=False,
            layout={"width": "auto"},
        )
        self.expression = text_field(
            "Array", "np.arange(1000)", "A Python expression with the notebook's names, and np"
        )
        self._shown: dict[str, tuple[Any, Callable[[], Payload], Callable[[], PayloadCode]]] = {
            "text": (self.text, self._read_text, self._text_code),
            "hex": (self.digits, self._read_hex, self._hex_code),
            "random": (self.size, self._read_random, self._random_code),
            "file": (self.path, self._read_file, self._file_code),
            "array": (self.expression, self._read_array, self._array_code),
        }
        self.fields = tuple(field for field, _, _ in self._shown.values())
        super().__init__([self.kind, *self.fields])
        self.add_class("ucxnb-form")
        self.kind.add_class("ucxnb-toggles")
        self.kind.observe(lambda _: self._show(), "value")
        self._show()

    def read(self) -> Payload:
        """Return the payload; random bytes are new ones each time.

        Raises
        ------
        ValueError
            In words for the person who typed it.
        """
        return self._shown[self.kind.value][1]()

    def code(self) -> PayloadCode:
        """Return Python code for what `read` returns.

        Raises
        ------
        ValueError
            As `read`, without looking at the file or running the expression.
        """
        return self._shown[self.kind.value][2]()

    def _show(self) -> None:
        for kind, (field, _, _) in self._shown.items():
            field.layout.display = None if kind == self.kind.value else "none"
        if self.kind.value == "file":
            names = sorted(entry.name for entry in os.scandir() if entry.is_file())
            self.path.options = names[:_MOST_FILES]

    def _read_text(self) -> Payload:
        data = self.text.value.encode()
        return Payload(data, len(data))

    def _text_code(self) -> PayloadCode:
        text = self.text.value
        return PayloadCode("", repr(text.encode()) if text.isascii() else f"{text!r}.encode()")

    def _read_hex(self) -> Payload:
        data = parse_hex(self.digits.value)
        return Payload(data, len(data))

    def _hex_code(self) -> PayloadCode:
        return PayloadCode("", f'bytes.fromhex("{parse_hex(self.digits.value).hex(" ")}")')

    def _read_random(self) -> Payload:
        data = os.urandom(parse_size(self.size.value))
        return Payload(data, len(data))

    def _random_code(self) -> PayloadCode:
        return PayloadCode("import os", f"os.urandom({parse_size(self.size.value)})")

    def _read_file(self) -> Payload:
        path = self._path()
        try:
            nbytes = path.stat().st_size
            if nbytes > LARGEST_PAYLOAD:
                raise ValueError(f"{path} is larger than 1 GiB: send it in parts from a cell")
            data = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        return Payload(data, len(data))

    def _file_code(self) -> PayloadCode:
        return PayloadCode("from pathlib import Path", f"Path({str(self._path())!r}).read_bytes()")

    def _path(self) -> Path:
        text = self.path.value.strip()
        if not text:
            raise ValueError("which file? Give its path on the machine where the kernel runs")
        return Path(text).expanduser()

    def _read_array(self) -> Payload:
        import numpy as np

        expression = self._source()
        try:
            value = eval(expression, {"np": np, **user_names()})
        except Exception as error:  # whatever the user's code raises
            raise ValueError(f"{type(error).__name__}: {error}") from None
        try:
            view = memoryview(value)
        except (TypeError, ValueError, BufferError):
            kind = type(value).__name__
            raise ValueError(
                f"this gives a {kind}, which has no bytes to send: write np.array(...)"
            ) from None
        if view.format == "O":
            raise ValueError("this gives an array of Python objects: choose a dtype of numbers")
        if not view.c_contiguous:
            raise ValueError(
                "this gives an array with gaps between its elements: write "
                "np.ascontiguousarray(...)"
            )
        if view.nbytes > LARGEST_PAYLOAD:
            raise ValueError("this gives more than 1 GiB: send it in parts from a cell")
        return Payload(value, view.nbytes)

    def _array_code(self) -> PayloadCode:
        expression = self._source()
        return PayloadCode("import numpy as np" if "np" in expression else "", expression)

    def _source(self) -> str:
        expression = self.expression.value.strip()
        if not expression:
            raise ValueError("which array? Write an expression such as np.arange(1000)")
        try:
            compile(expression, "<array>", "eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise ValueError(f"{shortened(expression, 40)!r} is no expression: {reason}") from None
        return expression


def _area(label: str, value: str, tooltip: str) -> ipywidgets.Textarea:
    return ipywidgets.Textarea(
        value=value, description=label, tooltip=tooltip, rows=2, layout={"width": "auto"}
    )
