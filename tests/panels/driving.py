"""What a person does with the panels, from Python."""

from __future__ import annotations

from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.widgets import MemoryPanel, ReceivePanel, SendPanel, StreamPanel, TrafficPanel
from ucxnb.widgets.panel import Panel

_WithEndpoint = SendPanel | ReceivePanel | TrafficPanel | StreamPanel | MemoryPanel


class Two:
    """Two connected workers; `here` is the one that gets the panels."""

    def __init__(self, here: UcxWorker, there: UcxWorker) -> None:
        self.here, self.there = here, there
        self.address = there.create_listener().address
        self.endpoint_id = here.connect(self.address)
        eventually(lambda: there.get_endpoint_ids())
        self.back = there.get_endpoint_ids()[0]


def says(panel: Panel, *words: str) -> None:
    """Wait until the status line of a panel holds these words."""
    try:
        eventually(lambda: all(word in panel.status for word in words), timeout=10)
    except AssertionError:
        raise AssertionError(f"it says {panel.status!r}, not {words}") from None


def ready(panel: _WithEndpoint, endpoint_id: int) -> None:
    """Wait until the panel offers an endpoint, and choose it."""
    eventually(lambda: endpoint_id in [value for _, value in panel.endpoint.options])
    panel.endpoint.value = endpoint_id
