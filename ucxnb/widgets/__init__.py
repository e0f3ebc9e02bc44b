"""Panels to drive a worker by hand in a notebook, and the control room that joins them.

Each panel is a widget of its own: make it with a worker and display it. Nothing that a panel does
blocks the kernel. Closing a panel leaves the worker and its connections as they are.
"""

from __future__ import annotations

from .bench_panel import BenchPanel
from .broadcast_panel import BroadcastPanel
from .connect_panel import ConnectPanel
from .control_room import ControlRoom
from .explorer_panel import ExplorerPanel
from .memory_panel import MemoryPanel
from .receive_panel import ReceivePanel
from .send_panel import SendPanel
from .stream_panel import StreamPanel
from .traffic_panel import TrafficPanel

__all__ = [
    "BenchPanel",
    "BroadcastPanel",
    "ConnectPanel",
    "ControlRoom",
    "ExplorerPanel",
    "MemoryPanel",
    "ReceivePanel",
    "SendPanel",
    "StreamPanel",
    "TrafficPanel",
]
