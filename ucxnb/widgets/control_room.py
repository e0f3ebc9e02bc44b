"""All panels and the dashboard of one worker, in one widget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from ..dashboard.cell import close_with_cell, forget
from ..text import safe_html
from .bench_panel import BenchPanel
from .broadcast_panel import BroadcastPanel
from .connect_panel import ConnectPanel
from .memory_panel import MemoryPanel
from .panel import Panel, close_parts, stylesheet
from .receive_panel import ReceivePanel
from .send_panel import SendPanel
from .stream_panel import StreamPanel
from .traffic_panel import TrafficPanel
from .watch import Watch

if TYPE_CHECKING:
    from ..worker import UcxWorker

__all__ = ["ControlRoom"]


class ControlRoom(ipywidgets.VBox):
    """Drive a worker by hand and watch it live.

    Display it as the last line of a cell. Everything in it works while cells are busy, except that
    a click is handled after the cell. `close` frees it; so does running the cell again.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive and watch. Closing the room does not close it, nor its connections.
    interval, window : float
        Seconds between two points of the plots, and seconds shown.

    Attributes
    ----------
    connect_panel : ConnectPanel
    send_panel : SendPanel
    broadcast_panel : BroadcastPanel
    receive_panel : ReceivePanel
    stream_panel : StreamPanel or None
    memory_panel : MemoryPanel or None
        None where the worker has that switched off.
    traffic_panel : TrafficPanel
    bench_panel : BenchPanel
    dashboard : ucxnb.dashboard.Dashboard
    """

    def __init__(self, worker: UcxWorker, *, interval: float = 0.1, window: float = 60.0) -> None:
        from ..dashboard.app import Dashboard

        self._worker = worker
        self._closed = False
        super().__init__()
        self.dashboard = Dashboard(worker, interval=interval, window=window)
        self.connect_panel = ConnectPanel(worker, in_room=True)
        self.send_panel = SendPanel(worker, in_room=True)
        self.broadcast_panel = BroadcastPanel(worker, in_room=True)
        self.receive_panel = ReceivePanel(worker, in_room=True)
        self.traffic_panel = TrafficPanel(worker, in_room=True, folded=True)
        self.bench_panel = BenchPanel(worker, in_room=True, folded=True)
        features = worker.config.features
        self.stream_panel = (
            StreamPanel(worker, in_room=True, folded=True) if "stream" in features else None
        )
        self.memory_panel = (
            MemoryPanel(worker, in_room=True, folded=True) if "rma" in features else None
        )
        folded = [panel for panel in (self.stream_panel, self.memory_panel) if panel is not None]
        panels: tuple[Panel, ...] = (
            self.connect_panel,
            self.send_panel,
            self.broadcast_panel,
            self.receive_panel,
            *folded,
            self.traffic_panel,
            self.bench_panel,
        )
        plots = ipywidgets.VBox([self.dashboard.widget])
        plots.add_class("ucxnb-panel")
        sending = ipywidgets.VBox([self.send_panel, self.broadcast_panel])
        sending.add_class("ucxnb-column")
        messages = ipywidgets.HBox([sending, self.receive_panel])
        messages.add_class("ucxnb-columns")
        title = ipywidgets.HTML(
            '<div class="ucxnb-title" role="heading" aria-level="2">Control room'
            f'<span class="ucxnb-subtitle">{safe_html(worker.name, 80)}</span></div>'
        )
        self.children = (
            stylesheet(),
            title,
            self.connect_panel,
            messages,
            *folded,
            self.traffic_panel,
            plots,
            self.bench_panel,
        )
        self.add_class("ucxnb-room")
        self._watch = Watch(worker, panels)
        close_with_cell(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Stop all threads, take the room off the page and free it. Twice is fine."""
        if getattr(self, "_closed", True):
            return
        self._closed = True
        self._watch.stop()
        self.dashboard.close()
        super().close()
        close_parts(self)
        forget(self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<ControlRoom of {self._worker.name!r}, {state}>"
