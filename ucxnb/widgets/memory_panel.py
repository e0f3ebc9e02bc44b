"""The panel for one-sided memory: of this worker, and of its peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets

from ..dashboard.units import human_bytes
from ..text import parse_hex, parse_size
from .bytes_text import hex_dump
from .choices import EndpointChoice
from .copy_text import CopyText
from .fields import button, buttons, text_field
from .panel import Panel
from .payload import PayloadInput
from .watch import Sight

if TYPE_CHECKING:
    from ..engine import RegisteredMemory

__all__ = ["MemoryPanel"]

_TIMEOUT = 5.0
_SHOWN = 1024
_LARGEST_GET = 1024 * 1024


class MemoryPanel(Panel):
    """Allocate memory that peers can reach, and put into, get from and add to theirs.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive, with ``enable_rma=True``. Closing the panel closes the memory that it
        allocated, and not the worker.

    Attributes
    ----------
    size : ipywidgets.Text
        How much to allocate, such as ``"64 KiB"``.
    own_key : CopyText
        The key of the memory that was allocated, in hex digits: give it to a peer.
    memory : RegisteredMemory or None
        That memory.
    endpoint : EndpointChoice
        Whose memory to reach.
    key : ipywidgets.Text
        Its key, in hex digits.
    offset : ipywidgets.Text
        Where in it, bytes.
    payload : PayloadInput
        What to put there.
    count : ipywidgets.Text
        How much to get.
    content : CopyText
        What was got, as hex digits.
    addend : ipywidgets.Text
        What to add to the number of 8 bytes there.
    allocate_button, put_button, get_button, add_button : ipywidgets.Button
        What they say.
    """

    _title = "One-sided memory"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.size = text_field("Size", "64 KiB", "How much memory to allocate: 4096, 64 KiB")
        self.allocate_button = button("Allocate", "plus", "Memory that peers can reach")
        self.own_key = CopyText("the key of this memory")
        self.memory: RegisteredMemory | None = None
        self.endpoint = EndpointChoice("Of", "Endpoint whose memory to reach")
        self.key = text_field("Key", "", "Key of the peer's memory, in hex digits", "55435850…")
        self.offset = text_field("Offset", "0", "Where in the memory, bytes")
        self.payload = PayloadInput()
        self.count = text_field("Get", "64", "How many bytes to get: 64, 4 KiB")
        self.addend = text_field("Add", "1", "What to add to the number of 8 bytes at the offset")
        self.put_button = button("Put", "upload", "Write the payload there", "primary")
        self.get_button = button("Get", "download", "Read from there")
        self.add_button = button("Fetch and add", "plus-circle", "Add to the number there")
        self.content = CopyText("what was got")
        self._starters = (
            self.allocate_button,
            self.put_button,
            self.get_button,
            self.add_button,
        )
        self._on_click(self.allocate_button, self._allocate)
        for control, action in (
            (self.put_button, self._put),
            (self.get_button, self._get),
            (self.add_button, self._add),
        ):
            self._on_click(control, action)
        self.python_line.follow(
            self._put_code,
            self.endpoint,
            self.key,
            self.offset,
            self.payload.kind,
            *self.payload.fields,
        )
        self.python_line.show(self._allocate_code)
        own = ipywidgets.HBox([self.size, self.allocate_button])
        own.add_class("ucxnb-field-row")
        form = ipywidgets.VBox(
            [own, self.own_key, self.endpoint, self.key, self.offset, self.payload]
        )
        form.add_class("ucxnb-form")
        numbers = ipywidgets.Box([self.count, self.addend])
        numbers.add_class("ucxnb-field-rows")
        actions = buttons(self.put_button, self.get_button, self.add_button)
        return form, numbers, actions, self.content

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        self.endpoint.refresh(sight)

    def close(self) -> None:
        """Close the memory that the panel allocated, and the panel. Twice is fine."""
        memory, self.memory = getattr(self, "memory", None), None
        super().close()
        if memory is not None:
            memory.close(timeout=_TIMEOUT)

    def _allocate(self) -> None:
        size = parse_size(self.size.value)
        self.python_line.show(self._allocate_code)

        def work(_: object) -> str:
            before, self.memory = self.memory, None
            if before is not None:
                before.close(timeout=_TIMEOUT)
            self.memory = self._worker.allocate(size)
            self.own_key.text = self.memory.remote_key().hex()
            gone = "; the memory before is closed" if before is not None else ""
            return f"Allocated {human_bytes(size)}: give its key to a peer{gone}."

        self._start("Allocating …", work)

    def _where(self) -> tuple[int, bytes, int]:
        endpoint_id = self.endpoint.value
        if not endpoint_id:
            raise ValueError("nobody's memory to reach: connect to a peer first")
        key = parse_hex(self.key.value)
        if not key:
            raise ValueError("a key is needed: the peer's panel, or its remote_key(), gives one")
        return endpoint_id, key, self._offset()

    def _offset(self) -> int:
        return parse_size(self.offset.value)

    def _put(self) -> None:
        (endpoint_id, key, offset), payload = self._where(), self.payload.read()
        self.python_line.show(self._put_code)

        def work(_: object) -> str:
            self._worker.put(endpoint_id, payload.data, key, offset, timeout=_TIMEOUT)
            self._worker.flush(endpoint_id, timeout=_TIMEOUT)
            return f"Put {human_bytes(payload.nbytes)} at offset {offset:,}: it is there."

        self._start("Putting …", work)

    def _get(self) -> None:
        (endpoint_id, key, offset), count = self._where(), self._count()
        self.python_line.show(self._get_code)

        def work(_: object) -> str:
            buffer = bytearray(count)
            self._worker.get(endpoint_id, buffer, key, offset, timeout=_TIMEOUT)
            shown = bytes(buffer[:_SHOWN])
            self.content.text = hex_dump(shown)
            first = f", the first {human_bytes(_SHOWN)} here" if count > _SHOWN else ""
            return f"Got {human_bytes(count)} from offset {offset:,}{first}."

        self._start("Getting …", work)

    def _count(self) -> int:
        count = parse_size(self.count.value)
        if not 1 <= count <= _LARGEST_GET:
            raise ValueError(f"get: {self.count.value} is not between 1 B and 1 MiB")
        return count

    def _add(self) -> None:
        (endpoint_id, key, offset), addend = self._where(), self._addend()
        self.python_line.show(self._add_code)

        def work(_: object) -> str:
            before = self._worker.fetch_add(endpoint_id, key, offset, addend, timeout=_TIMEOUT)
            return f"The number at offset {offset:,} was {before:,}, and {addend:,} was added."

        self._start("Adding …", work)

    def _addend(self) -> int:
        try:
            return int(self.addend.value, 0)
        except ValueError:
            raise ValueError(f"add: {self.addend.value!r} is no integer") from None

    def _allocate_code(self, worker: str) -> str:
        size = parse_size(self.size.value)
        return f"memory = {worker}.allocate({size})\nmemory.remote_key().hex()"

    def _put_code(self, worker: str) -> str:
        imports, data = self.payload.code()
        place = self._place()
        lines = [imports, ""] if imports else []
        lines.append(place(f"{worker}.put", data))
        return "\n".join([*lines, f"{worker}.flush({self.endpoint.value or 'endpoint_id'})"])

    def _get_code(self, worker: str) -> str:
        return f"buffer = bytearray({self._count()})\n" + self._place()(f"{worker}.get", "buffer")

    def _add_code(self, worker: str) -> str:
        to, key = self.endpoint.value or "endpoint_id", _key_code(self.key.value)
        return f"{worker}.fetch_add({to}, {key}, {self._offset()}, {self._addend()})"

    def _place(self) -> Callable[[str, str], str]:
        to, key, offset = (
            self.endpoint.value or "endpoint_id",
            _key_code(self.key.value),
            self._offset(),
        )
        return lambda call, data: f"{call}({to}, {data}, {key}, {offset})"


def _key_code(text: str) -> str:
    return f'bytes.fromhex("{text.strip()}")' if text.strip() else "key"
