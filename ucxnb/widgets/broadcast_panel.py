"""The panel that sends one message to everybody."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets

from ..dashboard.units import human_bytes
from ..text import parse_tag
from .fields import button, buttons, text_field
from .job import Job
from .panel import Panel
from .payload import PayloadInput
from .watch import Sight

__all__ = ["BroadcastPanel"]

_TIMEOUT = 2.0
_MOST_NAMED = 5


class BroadcastPanel(Panel):
    """Send a message to every open endpoint and say who got it.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel does not close it.

    Attributes
    ----------
    tag : ipywidgets.Text
        The tag, decimal or ``0x`` hex.
    payload : PayloadInput
        What to send.
    broadcast_button : ipywidgets.Button
        What it says.
    """

    _title = "Broadcast"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.tag = text_field("Tag", "1", "Tag of the message, such as 7 or 0x1f")
        self.payload = PayloadInput()
        self.broadcast_button = button(
            "Broadcast", "bullhorn", "Send the message to every open connection", "primary"
        )
        self._audience = ipywidgets.HTML(description="To", layout={"width": "auto"})
        self._starters = (self.broadcast_button,)
        self._on_click(self.broadcast_button, self._broadcast)
        self._show_audience(0)
        self.python_line.follow(self._code, self.tag, self.payload.kind, *self.payload.fields)
        self.python_line.show(self._code)
        form = ipywidgets.VBox([self._audience, self.tag, self.payload])
        form.add_class("ucxnb-form")
        return form, buttons(self.broadcast_button)

    def refresh(self, sight: Sight) -> None:
        """Show how many would get a message.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        self._show_audience(len(sight.endpoints))

    def _show_audience(self, count: int) -> None:
        who = {0: "no connection yet", 1: "the one open connection"}
        value = who.get(count, f"all {count:,} open connections")
        if value != self._audience.value:
            self._audience.value = value

    def _code(self, worker: str) -> str:
        imports, data = self.payload.code()
        line = f"{worker}.broadcast_tag({parse_tag(self.tag.value)}, {data})"
        return f"{imports}\n\n{line}" if imports else line

    def _broadcast(self) -> None:
        tag, payload = parse_tag(self.tag.value), self.payload.read()
        self.python_line.show(self._code)

        def work(job: Job) -> str:
            from ..errors import BroadcastError

            try:
                reached = self._worker.broadcast_tag(tag, payload.data, timeout=_TIMEOUT)
            except BroadcastError as error:
                raise ValueError(_failure(error.delivered, error.failed)) from None
            if not reached:
                raise ValueError("nobody to send to: connect to a peer first")
            return f"Sent {human_bytes(payload.nbytes)} to {_ids(reached)}."

        self._start("Sending to every connection …", work)


def _failure(delivered: Sequence[int], failed: dict[int, Exception]) -> str:
    reasons = [f"{i}: {error}" for i, error in list(failed.items())[:_MOST_NAMED]]
    if len(failed) > _MOST_NAMED:
        reasons.append(f"and {len(failed) - _MOST_NAMED} more")
    got = f"Only {_ids(delivered)} got it" if delivered else "Nobody got it"
    return f"{got}. Failed: {'; '.join(reasons)}"


def _ids(endpoint_ids: Sequence[int]) -> str:
    noun = "endpoint" if len(endpoint_ids) == 1 else "endpoints"
    named = ", ".join(str(i) for i in endpoint_ids[:_MOST_NAMED])
    more = len(endpoint_ids) - _MOST_NAMED
    return f"{noun} {named}" + (f" and {more:,} more" if more > 0 else "")
