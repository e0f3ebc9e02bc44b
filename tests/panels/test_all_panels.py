"""What is true of every panel, and of the control room that joins them."""

from __future__ import annotations

import threading

import pytest
from driving import Two, ready, says
from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.widgets import (
    BenchPanel,
    BroadcastPanel,
    ConnectPanel,
    ControlRoom,
    ExplorerPanel,
    ReceivePanel,
    SendPanel,
    TrafficPanel,
)
from ucxnb.widgets.panel import Panel

PANELS = (
    ConnectPanel,
    SendPanel,
    ReceivePanel,
    BroadcastPanel,
    TrafficPanel,
    BenchPanel,
    ExplorerPanel,
)


def panel_threads() -> list[threading.Thread]:
    """Threads of panels and dashboards; each worker's front door has one of its own."""
    names = [t for t in threading.enumerate() if t.name.startswith("ucxnb-")]
    return [thread for thread in names if thread.name != "ucxnb-frontdoor"]


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_alone_closes_twice_and_keeps_the_worker(kind: type[Panel], two: Two) -> None:
    panel = kind(two.here)
    assert "open" in repr(panel)
    assert "application/vnd.jupyter.widget-view+json" in panel._repr_mimebundle_()
    panel.close()
    panel.close()
    assert panel.closed
    assert "closed" in repr(panel)
    assert two.here.is_connected(two.endpoint_id)
    assert not panel_threads()


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_says_that_its_worker_is_closed(kind: type[Panel]) -> None:
    worker = UcxWorker()
    panel = kind(worker)
    worker.close()
    says(panel, "The worker is closed.")
    assert all(button.disabled for button in panel._starters)
    for button in panel._starters:
        button.click()
    says(panel, "The worker is closed.")
    panel.close()


def test_the_control_room_joins_the_panels(two: Two) -> None:
    room = ControlRoom(two.here)
    ready(room.send_panel, two.endpoint_id)
    room.receive_panel.keep_button.click()
    room.send_panel.send_button.click()
    assert two.there.receive_tag(two.back, 1, timeout=20) == b"hello"
    two.there.send_tag(two.back, 2, b"answer")
    eventually(lambda: room.receive_panel.table.count == 1)
    assert room._watch.error is None
    assert "open" in repr(room)
    room.close()
    room.close()
    assert room.closed
    assert room.dashboard.closed
    assert not panel_threads()


def test_a_second_control_room_on_the_same_worker(two: Two) -> None:
    ControlRoom(two.here).close()
    room = ControlRoom(two.here)
    ready(room.send_panel, two.endpoint_id)
    room.close()


def test_the_control_room_ends_with_its_worker() -> None:
    worker = UcxWorker()
    room = ControlRoom(worker)
    room.receive_panel.keep_button.click()
    worker.close()
    for panel in (room.connect_panel, room.send_panel, room.receive_panel, room.broadcast_panel):
        says(panel, "The worker is closed.")
    eventually(lambda: room.dashboard.closed)
    room.close()
