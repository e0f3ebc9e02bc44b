"""The panel that receives messages, one or all that come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import ipywidgets

from ..dashboard.units import human_bytes, human_count
from ..text import parse_tag
from .choices import EndpointChoice, offer
from .fields import button, buttons, choice, text_field
from .job import Job
from .message_store import MessageStore
from .message_table import MessageTable
from .message_view import MessageView
from .panel import Panel
from .watch import Sight

__all__ = ["ReceivePanel"]

# A longer wait would hold up a stop; a receive that times out loses nothing.
_SLICE = 0.2


class ReceivePanel(Panel):
    """Receive from one endpoint or any, with one tag or any, into a table of what came.

    The table keeps the latest 100,000 messages, the first 64 KiB of each, up to 128 MiB. What the
    panel receives is gone for the receive calls in your cells.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel does not close it.

    Attributes
    ----------
    endpoint : EndpointChoice
        From whom; 0 is anyone.
    tag : ipywidgets.Text
        The tag, decimal or ``0x`` hex; empty is any.
    timeout : ipywidgets.BoundedFloatText
        How long to wait for one message, seconds.
    show_as : ipywidgets.ToggleButtons
        How the table shows messages: ``"auto"``, ``"text"`` or ``"hex"``.
    only_endpoint : ipywidgets.Dropdown
        Whose messages the table shows; 0 is anyone's.
    only_tag : ipywidgets.Text
        Which tag it shows; empty is any.
    messages : MessageStore
        What came.
    table : MessageTable
        Its ``selected`` is the number of the message that `view` shows.
    view : MessageView
        One message as text, hex digits or an array.
    receive_button, keep_button, stop_button, clear_button : ipywidgets.Button
        What they say.
    """

    _title = "Receive"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.messages = MessageStore()
        self.table = MessageTable(self.messages)
        self.view = MessageView()
        self._make_controls()
        self._starters = (self.receive_button, self.keep_button)
        self._stoppers = (self.stop_button,)
        self._on_click(self.receive_button, self._receive_one)
        self._on_click(self.keep_button, self._keep_receiving)
        self._on_click(self.stop_button, self._stop)
        self._on_click(self.clear_button, self._clear)
        offer(self.only_endpoint, [("anyone", 0)])
        self.only_endpoint.observe(lambda _: self._filter_table(), "value")
        self.only_tag.observe(lambda _: self._filter_table(), "value")
        self.show_as.observe(lambda change: self.table.show_as(change["new"]), "value")
        self.table.observe(self._look_at, "selected")
        self.python_line.follow(self._one_code, self.endpoint, self.tag, self.timeout)
        self.python_line.show(self._one_code)
        form = ipywidgets.VBox([self.endpoint, self.tag, self.timeout])
        form.add_class("ucxnb-form")
        actions = buttons(self.receive_button, self.keep_button, self.stop_button)
        filters = ipywidgets.HBox([self.only_endpoint, self.only_tag])
        filters.add_class("ucxnb-filters")
        total = ipywidgets.HBox([self._total, self.clear_button])
        total.add_class("ucxnb-field-row")
        self._came = ipywidgets.VBox(
            [total, filters, self.show_as, self.table, self.view], layout={"display": "none"}
        )
        self._came.add_class("ucxnb-form")
        return form, actions, self._came

    def _make_controls(self) -> None:
        self.endpoint = EndpointChoice("From", "Endpoint to receive from", "anyone")
        self.tag = text_field("Tag", "", "Tag to receive, such as 7 or 0x1f", "any tag")
        self.timeout = ipywidgets.BoundedFloatText(
            value=10.0,
            min=0.0,
            max=86400.0,
            description="Timeout, s",
            tooltip="How long to wait for one message, seconds",
            layout={"width": "auto"},
        )
        self.receive_button = button("Receive one", "download", "Wait for one message", "primary")
        self.keep_button = button("Keep receiving", "refresh", "Receive all that comes")
        self.stop_button = button("Stop", "stop", "Stop waiting; no message is lost")
        self.clear_button = button("Clear", "trash", "Empty the table")
        self.only_endpoint = choice("Show from", "Whose messages the table shows")
        self.only_tag = text_field("Show tag", "", "Which tag the table shows", "any tag")
        self.show_as = ipywidgets.ToggleButtons(
            options=[("Auto", "auto"), ("Text", "text"), ("Hex", "hex")],
            tooltips=["Text if it is text, else hex", "As UTF-8 text", "As hex digits"],
            tooltip="How the table shows messages",
        )
        self.show_as.add_class("ucxnb-toggles")
        self._total = ipywidgets.HTML()

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints and show what came.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        self.endpoint.refresh(sight)
        self._show_messages()

    def _show_messages(self) -> None:
        self._came.layout.display = None if self.messages.count else "none"
        total = _total(self.messages)
        if total != self._total.value:
            self._total.value = total
            senders = [(str(i), i) for i in self.messages.endpoints()]
            offer(self.only_endpoint, [("anyone", 0), *senders])
        self.table.refresh()

    def _clear(self) -> None:
        self.messages.clear()
        self.table.selected = -1
        self._show_messages()

    def _filter_table(self) -> None:
        text = self.only_tag.value.strip()
        try:
            tag = parse_tag(text) if text else None
        except ValueError as error:
            self._show(error)
            return
        self.table.filter(self.only_endpoint.value or None, tag)

    def _look_at(self, change: dict[str, Any]) -> None:
        self.view.show(self.messages.get(change["new"]))

    def _receive_one(self) -> None:
        endpoint_id, tag, mask = self._wanted()
        limit = self.timeout.value
        self.python_line.show(self._one_code)

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

        endpoint_id, tag, mask = self._wanted()
        self.python_line.show(self._all_code)

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

    def _wanted(self) -> tuple[int | None, int, int | None]:
        """Endpoint, tag and tag mask as chosen."""
        text = self.tag.value.strip()
        return self.endpoint.value or None, *((parse_tag(text), None) if text else (0, 0))

    def _one_code(self, worker: str) -> str:
        return self._code(worker, f", timeout={self.timeout.value:g}")

    def _all_code(self, worker: str) -> str:
        return f"while True:\n    {self._code(worker, '')}\n    print(message)"

    def _code(self, worker: str, timeout: str) -> str:
        endpoint_id, tag, mask = self._wanted()
        any_tag = "" if mask is None else f", tag_mask={mask}"
        return f"message = {worker}.receive_message({endpoint_id}, {tag}{any_tag}{timeout})"

    def _receive(self, endpoint_id: int | None, tag: int, mask: int | None, wait: float) -> bool:
        from ..errors import OperationTimeoutError

        try:
            message = self._worker.receive_message(endpoint_id, tag, timeout=wait, tag_mask=mask)
        except OperationTimeoutError:
            return False
        self.messages.add(message)
        return True


def _total(messages: MessageStore) -> str:
    count, dropped = messages.count, messages.dropped
    noun = "message" if count == 1 else "messages"
    kept = f", the latest {human_count(count - dropped)} here" if dropped else ""
    return (
        f'<div class="ucxnb-second">{human_count(count)} {noun}, {human_bytes(messages.nbytes)}'
        f"{kept}</div>"
    )
