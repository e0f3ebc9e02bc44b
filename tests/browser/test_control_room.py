"""The control room in a real JupyterLab in a real browser, clicked as a user would."""

from __future__ import annotations

import pytest
from lab import CHROMIUM, LabPage, press
from playwright.sync_api import expect
from plots import latest_point, updates_between, wait_for_plots, watch_updates

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]

WORKER = """
import threading, time
from ucxnb import EchoPeer, OperationTimeoutError, UcxWorker
from ucxnb.widgets import ControlRoom

worker, peer = UcxWorker(name="notebook"), EchoPeer()
print(peer.address)
"""
ROOM = """
room = ControlRoom(worker)
room
"""
CLOSE = "worker.close(); peer.close()"


def wait_for_growth(lab: LabPage, source: str, after: float) -> None:
    """Wait until the newest point of a plot is later than `after`."""
    lab.page.wait_for_timeout(300)
    for _ in range(100):
        if latest_point(lab.page, source)["time"] > after:
            return
        lab.page.wait_for_timeout(100)
    raise AssertionError(f"the plot {source} stands still")


def test_connect_send_and_receive_by_clicks(lab: LabPage) -> None:
    lab.open("clicks.ipynb", [WORKER, ROOM, CLOSE])
    address = lab.run_cell(0).strip()
    lab.run_cell(1)
    wait_for_plots(lab.page)
    connections, send, receive = (lab.panel(name) for name in ("Connections", "Send", "Receive"))

    lab.fill(connections, "Connect to", "127.0.0.1:1")
    press(connections, "Connect")
    expect(connections).to_contain_text("nothing listens there")

    lab.fill(connections, "Connect to", address)
    press(connections, "Connect")
    expect(connections).to_contain_text("echo-")
    expect(connections).to_contain_text("open")
    expect(connections).to_contain_text("memory")

    press(receive, "Keep receiving")
    lab.fill(send, "Text", "hello from a click")
    press(send, "Send")
    expect(send).to_contain_text("Sent 18 B")
    expect(receive).to_contain_text("hello from a click")

    lab.page.locator(".ucxnb-live").scroll_into_view_if_needed()
    lab.page.wait_for_timeout(1000)
    for source in ("throughput", "message_rate"):
        point = latest_point(lab.page, source)
        wait_for_growth(lab, source, point["time"])
        assert latest_point(lab.page, source)["count"] > 0
        assert latest_point(lab.page, source)["greatest"] > 0

    press(connections, "Disconnect")
    expect(connections).to_contain_text("closed")
    lab.run_cell(2)


def test_the_plots_move_while_cells_are_busy(lab: LabPage) -> None:
    lab.open(
        "busy.ipynb",
        [
            WORKER + "endpoint_id = worker.connect(peer.address)",
            ROOM,
            """
            start = time.time()
            try:
                worker.receive_tag(endpoint_id, 1, timeout=3)
            except OperationTimeoutError:
                pass
            print(start, time.time())
            """.replace("\n            ", "\n"),
            """
            start = time.time()
            while time.time() < start + 3:
                sum(range(1000))
            print(start, time.time())
            """.replace("\n            ", "\n"),
            CLOSE,
        ],
    )
    lab.run_cell(0)
    lab.run_cell(1)
    wait_for_plots(lab.page)
    lab.page.locator(".ucxnb-live").scroll_into_view_if_needed()
    watch_updates(lab.page, "throughput")
    for cell in (2, 3):
        start, end = map(float, lab.run_cell(cell).split())
        assert updates_between(lab.page, start, end) > 1
    lab.run_cell(4)


def test_run_again_reload_and_close(lab: LabPage) -> None:
    threads = (
        "time.sleep(0.5)\n"
        "print(sorted(t.name for t in threading.enumerate() if t.name.startswith('ucxnb-')))"
    )
    lab.open("again.ipynb", [WORKER, ROOM, threads, "room.close()", CLOSE])
    lab.run_cell(0)
    lab.run_cell(1)
    wait_for_plots(lab.page)
    once = lab.run_cell(2)
    lab.run_cell(1)
    wait_for_plots(lab.page)
    expect(lab.page.locator(".ucxnb-live")).to_have_count(1)
    assert lab.run_cell(2) == once, "the first room left a thread behind"

    lab.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    lab.page.wait_for_timeout(1000)
    lab.page.reload()
    wait_for_plots(lab.page)
    lab.page.locator(".ucxnb-live").scroll_into_view_if_needed()
    lab.page.wait_for_timeout(500)
    wait_for_growth(lab, "throughput", latest_point(lab.page, "throughput")["time"])

    lab.run_cell(3)
    expect(lab.page.locator(".ucxnb-panel")).to_have_count(0)
    assert lab.run_cell(2).strip() == "['ucxnb-frontdoor']"
    lab.run_cell(4)
