"""The panel that receives messages, one or all that come."""

from __future__ import annotations

import time
from collections.abc import Sequence

import ipywidgets

from ..dashboard.units import human_bytes
from ..text import parse_tag
from .choices import offer_endpoints
from .fields import button, buttons, choice, text_field
from .job import Job
from .message_log import MessageLog
from .panel import Panel
from .watch import Sight

__all__ = ["ReceivePanel"]

_LENGTH = 100
# A longer wait would hold up a stop; a receive that times out loses nothing.
_SLICE = 0.2


class ReceivePanel(Panel):
    """Receive from one endpoint or any, with one tag or any, into a log of the latest messages.

    What the panel receives is gone for the receive calls in your cells.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel does not close it.

    Attributes
    ----------
    endpoint : ipywidgets.Dropdown
        From whom; 0 is anyone.
    tag : ipywidgets.Text
        The tag, decimal or ``0x`` hex; empty is any.
    timeout : ipywidgets.BoundedFloatText
        How long to wait for one message, seconds.
    show_as : ipywidgets.ToggleButtons
        ``"auto"``, ``"text"`` or ``"hex"``.
    messages : MessageLog
        What came.
    receive_button, keep_button, stop_button, clear_button : ipywidgets.Button
        What they say.
    """

    _title = "Receive"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.messages = MessageLog(_LENGTH)
        self.endpoint = choice("From", "Endpoint to receive from")
        self.tag = text_field("Tag", "", "Tag to receive, such as 7 or 0x1f", "any tag")
        self.timeout = ipywidgets.BoundedFloatText(
            value=10.0,
            min=0.0,
            max=86400.0,
            description="Timeout, s",
            tooltip="How long to wait for one message, seconds",
            layout={"width": "auto"},
        )
        self.show_as = ipywidgets.ToggleButtons(
            options=[("Auto", "auto"), ("Text", "text"), ("Hex", "hex")],
            description="Show as",
            tooltips=["Text if it is text, else hex", "As UTF-8 text", "As hex digits"],
        )
        self.show_as.add_class("ucxnb-toggles")
        self.receive_button = button("Receive one", "download", "Wait for one message", "primary")
        self.keep_button = button("Keep receiving", "refresh", "Receive all that comes")
        self.stop_button = button("Stop", "stop", "Stop waiting; no message is lost")
        self.clear_button = button("Clear", "trash", "Empty the log")
        self._starters = (self.receive_button, self.keep_button)
        self._stoppers = (self.stop_button,)
        self._on_click(self.receive_button, self._receive_one)
        self._on_click(self.keep_button, self._keep_receiving)
        self._on_click(self.stop_button, self._stop)
        self._on_click(self.clear_button, self.messages.clear)
        offer_endpoints(self.endpoint, (), "anyone")
        self._log_view = ipywidgets.HTML(self.messages.html("auto"))
        self._rendered = (0, 0, "auto")
        form = ipywidgets.VBox([self.endpoint, self.tag, self.timeout])
        form.add_class("ucxnb-form")
        actions = buttons(self.receive_button, self.keep_button, self.stop_button)
        log_row = ipywidgets.HBox([self.show_as, self.clear_button])
        log_row.add_class("ucxnb-field-row")
        return form, actions, log_row, self._log_view

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints and show what came.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        offer_endpoints(self.endpoint, sight.endpoints, "anyone")
        now = (self.messages.count, len(self.messages), self.show_as.value)
        if now != self._rendered:
            self._rendered = now
            self._log_view.value = self.messages.html(self.show_as.value)

    def _receive_one(self) -> None:
        endpoint_id, tag, mask = self._filter()
        limit = self.timeout.value

        def work(job: Job) -> str:
            deadline = time.monotonic() + limit
            while not job.stopping:
                left = max(0.0, deadline - time.monotonic())
                if self._receive(endpoint_id, tag, mask, min(_SLICE, left)):
                    return "Received one message."
                if time.monotonic() >= deadline:
                    raise ValueError(f"nothing came within {limit:g} s")
            return "Stopped waiting."

        self._start("Waiting for one message …", work)

    def _keep_receiving(self) -> None:
        from ..errors import NoPeersError

        endpoint_id, tag, mask = self._filter()

        def work(job: Job) -> str:
            count, nbytes = self.messages.count, self.messages.nbytes
            while not job.stopping:
                try:
                    self._receive(endpoint_id, tag, mask, _SLICE)
                except NoPeersError:
                    job.pause(_SLICE)  # somebody may connect later
            count, nbytes = self.messages.count - count, self.messages.nbytes - nbytes
            return f"Stopped after {max(0, count):,} messages, {human_bytes(max(0, nbytes))}."

        self._start("Receiving all that comes …", work)

    def _filter(self) -> tuple[int | None, int, int | None]:
        """Endpoint, tag and tag mask as chosen."""
        text = self.tag.value.strip()
        return self.endpoint.value or None, *((parse_tag(text), None) if text else (0, 0))

    def _receive(self, endpoint_id: int | None, tag: int, mask: int | None, wait: float) -> bool:
        from ..errors import OperationTimeoutError

        try:
            message = self._worker.receive_message(endpoint_id, tag, timeout=wait, tag_mask=mask)
        except OperationTimeoutError:
            return False
        self.messages.add(message)
        return True
