"""The panel that sends messages at a set rate."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets

from ..dashboard.units import human_bytes, human_count
from ..text import parse_rate, parse_sizes, parse_tag
from ..traffic import TrafficGenerator
from .choices import EndpointChoice
from .fields import button, buttons, text_field
from .job import Job
from .panel import Panel
from .watch import Sight

__all__ = ["TrafficPanel"]

_SLICE = 0.2  # how long a stop may go unseen, and until progress is told anew, seconds


class TrafficPanel(Panel):
    """Send messages to one endpoint at a set rate, until stopped (`TrafficGenerator`).

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel stops the traffic; it does not close the worker.

    Attributes
    ----------
    endpoint : EndpointChoice
        Whom to send to.
    tag : ipywidgets.Text
        The tag, decimal or ``0x`` hex.
    size : ipywidgets.Text
        Of a message, such as ``"64 B"``, or a range: ``"8 B to 4 KiB"``.
    rate : ipywidgets.Text
        Messages a second (``"1000/s"``) or bytes (``"10 MB/s"``); empty is as fast as possible.
    duration : ipywidgets.BoundedFloatText
        For how long, seconds; 0 is until stopped.
    start_button, stop_button : ipywidgets.Button
        What they say.
    """

    _title = "Traffic generator"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.endpoint = EndpointChoice("To", "Endpoint to send to")
        self.tag = text_field("Tag", "1", "Tag of the messages, such as 7 or 0x1f")
        self.size = text_field("Size", "64 B", "Of each message: 64 B, or a range: 8 B to 4 KiB")
        self.rate = text_field(
            "Rate",
            "1000/s",
            "Messages or bytes a second: 1000/s or 10 MB/s; empty for as fast as possible",
            "as fast as possible",
        )
        self.duration = ipywidgets.BoundedFloatText(
            value=0.0,
            min=0.0,
            max=1e6,
            description="For, s",
            tooltip="Seconds; 0 is until you stop it",
            layout={"width": "auto"},
        )
        self.start_button = button("Start", "play", "Begin to send", "primary")
        self.stop_button = button("Stop", "stop", "Send no more")
        self._starters, self._stoppers = (self.start_button,), (self.stop_button,)
        self._on_click(self.start_button, self._begin)
        self._on_click(self.stop_button, self._stop)
        fields = (self.endpoint, self.tag, self.size, self.rate, self.duration)
        self.python_line.follow(self._code, *fields)
        self.python_line.show(self._code)
        form = ipywidgets.Box(fields)
        form.add_class("ucxnb-field-rows")
        return form, buttons(self.start_button, self.stop_button)

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        self.endpoint.refresh(sight)

    def _begin(self) -> None:
        endpoint_id = self.endpoint.value
        if not endpoint_id:
            raise ValueError("nobody to send to: connect to a peer first")
        tag, size = parse_tag(self.tag.value), parse_sizes(self.size.value)
        rate, byte_rate = parse_rate(self.rate.value)
        duration = self.duration.value or None
        self.python_line.show(self._code)

        def work(job: Job) -> str:
            from ..errors import OperationTimeoutError

            with TrafficGenerator(
                self._worker,
                endpoint_id,
                tag=tag,
                size=size,
                rate=rate,
                byte_rate=byte_rate,
                duration=duration,
            ) as traffic:
                while not job.stopping:
                    try:
                        traffic.wait(_SLICE)  # the only one that tells how it ended
                        break
                    except OperationTimeoutError:
                        # Here, not in `refresh`, which might overwrite how it ended.
                        self._status.say(f"Sending: {_summary(traffic)} …", "busy")
            return f"Sent {_summary(traffic)}."

        self._start(f"Sending to endpoint {endpoint_id} …", work)

    def _code(self, worker: str) -> str:
        tag, size = parse_tag(self.tag.value), parse_sizes(self.size.value)
        rate, byte_rate = parse_rate(self.rate.value)
        options = [f"tag={tag}", f"size={size}", f"rate={rate}"]
        if byte_rate is not None:
            options[-1] = f"byte_rate={byte_rate}"
        if self.duration.value:
            options.append(f"duration={self.duration.value}")
        to = self.endpoint.value or "endpoint_id"
        return (
            "from ucxnb import TrafficGenerator\n\n"
            f"traffic = TrafficGenerator({worker}, {to}, {', '.join(options)})"
        )


def _summary(traffic: TrafficGenerator) -> str:
    rate = traffic.nbytes / traffic.seconds if traffic.seconds else 0.0
    return (
        f"{human_count(traffic.messages)} messages, {human_bytes(traffic.nbytes)} in "
        f"{traffic.seconds:.1f} s, {human_count(round(traffic.message_rate))} messages/s, "
        f"{human_bytes(rate)}/s"
        + (f"; {traffic.in_flight} wait for the peer" if traffic.blocked else "")
    )
