"""The panel that writes to and reads from the byte stream of one endpoint."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import ipywidgets

from ..dashboard.units import human_bytes
from .bytes_text import hex_dump, printable_text
from .choices import EndpointChoice
from .copy_text import CopyText
from .fields import button, buttons
from .job import Job
from .panel import Panel
from .payload import Payload, PayloadInput
from .watch import Sight

__all__ = ["StreamPanel"]

_SLICE = 0.1  # how long a stop, or what is to be sent, may wait for a read
_SEND_TIMEOUT = 2.0
_KEPT = 64 * 1024
_SHOWN = 4 * 1024


class StreamPanel(Panel):
    """Write to the byte stream of one endpoint, and read what comes from it.

    What the panel reads is gone for the reads in your cells. It keeps the latest 64 KiB.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel does not close it.

    Attributes
    ----------
    endpoint : EndpointChoice
        Whose stream.
    payload : PayloadInput
        What to send.
    show_as : ipywidgets.ToggleButtons
        How to show what came: ``"text"`` or ``"hex"``.
    latest : bytes
        The latest that was read.
    content : CopyText
        The last of that, as shown.
    send_button, read_button, stop_button : ipywidgets.Button
        What they say.
    """

    _title = "Stream"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.endpoint = EndpointChoice("With", "Endpoint whose stream to use")
        self.payload = PayloadInput()
        self.send_button = button("Send", "paper-plane", "Send these bytes", "primary")
        self.read_button = button("Keep reading", "refresh", "Read all that comes")
        self.stop_button = button("Stop", "stop", "Stop reading; no byte is lost")
        self.show_as = ipywidgets.ToggleButtons(
            options=[("Text", "text"), ("Hex", "hex")],
            tooltips=["As UTF-8 text", "As hex digits"],
            tooltip="How to show what came",
        )
        self.show_as.add_class("ucxnb-toggles")
        self._count = ipywidgets.HTML()
        self.content = CopyText("what came")
        self._came = ipywidgets.VBox(
            [self._count, self.show_as, self.content], layout={"display": "none"}
        )
        self._came.add_class("ucxnb-form")
        self.latest = b""
        self._total = 0
        self._drawn: tuple[int, str] | None = None
        self._to_send: collections.deque[tuple[int, Payload]] = collections.deque()
        self._starters, self._stoppers = (self.read_button,), (self.stop_button,)
        self._on_click(self.send_button, self._send_typed)
        self._on_click(self.read_button, self._keep_reading)
        self._on_click(self.stop_button, self._stop)
        self.python_line.follow(
            self._send_code, self.endpoint, self.payload.kind, *self.payload.fields
        )
        self.python_line.show(self._send_code)
        form = ipywidgets.VBox([self.endpoint, self.payload])
        form.add_class("ucxnb-form")
        return form, buttons(self.send_button, self.read_button, self.stop_button), self._came

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints and show what came.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        self.endpoint.refresh(sight)
        drawn = (self._total, self.show_as.value)
        if self._total and drawn != self._drawn:
            self._drawn = drawn
            self._came.layout.display = None
            shown = self.latest[-_SHOWN:]
            kept = f", the latest {human_bytes(len(shown))} here" * (self._total > len(shown))
            came = f"{human_bytes(self._total)} came{kept}"
            self._count.value = f'<div class="ucxnb-second">{came}</div>'
            self.content.text = _VIEWS[self.show_as.value](shown)

    def _chosen(self) -> int:
        endpoint_id: int | None = self.endpoint.value
        if not endpoint_id:
            raise ValueError("no stream yet: connect to a peer first")
        return endpoint_id

    def _send_typed(self) -> None:
        endpoint_id, payload = self._chosen(), self.payload.read()
        self.python_line.show(self._send_code)
        self._to_send.append((endpoint_id, payload))
        if self._job is None or not self._job.running:  # else the one that reads sends it
            self._start(f"Sending to endpoint {endpoint_id} …", lambda _: self._send_waiting())

    def _keep_reading(self) -> None:
        endpoint_id = self._chosen()
        self.python_line.show(self._read_code)

        def work(job: Job) -> str:
            from ..errors import OperationTimeoutError, PeerClosedError

            buffer, before = bytearray(_KEPT), self._total
            while not job.stopping:
                if self._to_send:
                    said = self._send_waiting()
                    self._status.say(f"{said} Reading all that comes …", "busy")
                try:
                    count = self._worker.receive_stream(endpoint_id, buffer, timeout=_SLICE)
                except OperationTimeoutError:
                    continue
                except PeerClosedError:
                    return f"The peer closed; {human_bytes(self._total - before)} came."
                self.latest = (self.latest + buffer[:count])[-_KEPT:]
                self._total += count
            return f"Stopped after {human_bytes(self._total - before)}."

        self._start("Reading all that comes …", work)

    def _send_waiting(self) -> str:
        from ..errors import OperationTimeoutError

        said = ""
        while self._to_send:
            endpoint_id, payload = self._to_send.popleft()
            try:
                self._worker.send_stream(endpoint_id, payload.data, timeout=_SEND_TIMEOUT)
            except OperationTimeoutError as error:
                raise ValueError(str(error)) from None
            said = f"Sent {human_bytes(payload.nbytes)} to endpoint {endpoint_id}."
        return said

    def _send_code(self, worker: str) -> str:
        imports, data = self.payload.code()
        lines = [imports, ""] if imports else []
        to = self.endpoint.value or "endpoint_id"
        return "\n".join([*lines, f"{worker}.send_stream({to}, {data})"])

    def _read_code(self, worker: str) -> str:
        to = self.endpoint.value or "endpoint_id"
        return f"with {worker}.open_stream({to}) as file:\n    print(file.read(65536))"


_VIEWS = {"text": printable_text, "hex": hex_dump}
