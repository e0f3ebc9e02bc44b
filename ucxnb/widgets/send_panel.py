"""The panel that sends messages to one endpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence

import ipywidgets

from ..dashboard.units import human_bytes
from ..text import parse_tag
from .choices import EndpointChoice
from .fields import button, buttons, text_field
from .job import Job
from .panel import Panel
from .payload import Payload, PayloadInput
from .watch import Sight

__all__ = ["SendPanel"]

_SEND_TIMEOUT = 2.0


class SendPanel(Panel):
    """Send a message to one endpoint, once or many times.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel does not close it.

    Attributes
    ----------
    endpoint : EndpointChoice
        Whom to send to. It stays with a connection that was lost, until it is back.
    tag : ipywidgets.Text
        The tag, decimal or ``0x`` hex.
    payload : PayloadInput
        What to send.
    repeat : ipywidgets.BoundedIntText
        How many times.
    send_button, stop_button : ipywidgets.Button
        What they say.
    """

    _title = "Send"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.endpoint = EndpointChoice("To", "Endpoint to send to")
        self.tag = text_field("Tag", "1", "Tag of the message, such as 7 or 0x1f")
        self.payload = PayloadInput()
        self.repeat = ipywidgets.BoundedIntText(
            value=1,
            min=1,
            max=1_000_000_000,
            description="Repeat",
            tooltip="How many times to send it",
            layout={"width": "auto"},
        )
        self.send_button = button("Send", "paper-plane", "Send the message", "primary")
        self.stop_button = button("Stop", "stop", "Stop sending after the present message")
        self._progress = ipywidgets.IntProgress(
            min=0, max=1, tooltip="Messages sent", layout={"width": "auto", "display": "none"}
        )
        self._sent = 0
        self._starters, self._stoppers = (self.send_button,), (self.stop_button,)
        self._on_click(self.send_button, self._start_sending)
        self._on_click(self.stop_button, self._stop)
        self.python_line.follow(
            self._code,
            self.endpoint,
            self.tag,
            self.repeat,
            self.payload.kind,
            *self.payload.fields,
        )
        self.python_line.show(self._code)
        form = ipywidgets.VBox([self.endpoint, self.tag, self.payload, self.repeat])
        form.add_class("ucxnb-form")
        return form, buttons(self.send_button, self.stop_button), self._progress

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints and show how far a series of messages is.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        self.endpoint.refresh(sight)
        if self._progress.value != self._sent and self._progress.max > 1:
            self._progress.value = self._sent

    def _start_sending(self) -> None:
        endpoint_id, tag, count = self.endpoint.value, parse_tag(self.tag.value), self.repeat.value
        if not endpoint_id:
            raise ValueError("nobody to send to: connect to a peer first")
        payload = self.payload.read()
        self.python_line.show(self._code)
        self._sent = 0
        with self._progress.hold_sync():
            self._progress.value, self._progress.max = 0, count
        self._progress.layout.display = None if count > 1 else "none"

        def work(job: Job) -> str:
            began = time.monotonic()
            while self._sent < count and not job.stopping:
                self._send_one(endpoint_id, tag, payload)
                self._sent += 1
            self._progress.value = self._sent
            return self._summary(endpoint_id, payload.nbytes, count, time.monotonic() - began)

        self._start(f"Sending to endpoint {endpoint_id} …", work)

    def _code(self, worker: str) -> str:
        imports, data = self.payload.code()
        to, tag, count = (
            self.endpoint.value or "endpoint_id",
            parse_tag(self.tag.value),
            self.repeat.value,
        )
        lines = [imports, ""] if imports else []
        if count > 1:
            lines += [f"data = {data}", f"for _ in range({count}):"]
        indent, what = ("    ", "data") if count > 1 else ("", data)
        return "\n".join([*lines, f"{indent}{worker}.send_tag({to}, {tag}, {what})"])

    def _send_one(self, endpoint_id: int, tag: int, payload: Payload) -> None:
        from ..errors import OperationTimeoutError

        try:
            self._worker.send_tag(endpoint_id, tag, payload.data, timeout=_SEND_TIMEOUT)
        except OperationTimeoutError:
            # UCX cannot take a send back, so sending the same message again would double it.
            raise ValueError(
                f"endpoint {endpoint_id} has not taken message {self._sent + 1} yet: it is still "
                "on its way, and arrives when the peer receives it"
            ) from None

    def _summary(self, endpoint_id: int, nbytes: int, count: int, seconds: float) -> str:
        sent = self._sent
        if count == 1 and sent == 1:
            return f"Sent {human_bytes(nbytes)} to endpoint {endpoint_id}."
        of = "" if sent == count else f" of {count:,}, then stopped"
        rate = human_bytes(sent * nbytes / seconds) if seconds > 0 else "0 B"
        return (
            f"Sent {sent:,} messages{of}: {human_bytes(sent * nbytes)} to endpoint {endpoint_id} "
            f"in {seconds:.2f} s, {rate}/s."
        )
