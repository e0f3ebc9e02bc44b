"""The dashboard of several workers in a real JupyterLab: what can be chosen, saved and read."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import CHROMIUM, LabPage, LabServer, flawless_page, serious_faults
from playwright.sync_api import expect
from plots import plot_model, source_columns, wait_for_plots

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]

WORKERS = """
import threading, time
from ucxnb import EchoPeer, ThreadMode, UcxWorker
from ucxnb.dashboard import Dashboard
from ucxnb.widgets import ControlRoom

first = UcxWorker(name="first", thread_mode=ThreadMode.MULTI)
second, peer = UcxWorker(name="second"), EchoPeer()
echo = first.connect(peer.address)
second.connect(first.create_listener().address)
stopped = threading.Event()
def traffic():
    while not stopped.wait(0.01):
        answer = first.ireceive_tag(echo, 1)
        first.send_tag(echo, 1, bytes(5000))
        answer.wait(10)
thread = threading.Thread(target=traffic)
thread.start()
"""
DASHBOARD = "dashboard = Dashboard([first, second])\ndashboard"
ROOM = "room = ControlRoom(first)\nroom"
CLOSE = """
stopped.set(); thread.join()
first.close(); second.close(); peer.close()
"""


@pytest.fixture
def lab(lab_server: LabServer) -> Iterator[LabPage]:
    with flawless_page(lab_server, width=1600, height=1300) as page:
        yield page


def wait_until(lab: LabPage, condition) -> None:
    for _ in range(100):
        if condition():
            return
        lab.page.wait_for_timeout(100)
    raise AssertionError("it did not happen in time")


def test_choose_pause_hide_hover_and_save(lab: LabPage) -> None:
    lab.open("dashboard.ipynb", [WORKERS, DASHBOARD, "second.close()", CLOSE])
    lab.run_cell(0)
    lab.run_cell(1)
    wait_for_plots(lab.page)
    view = lab.page.locator(".ucxnb-live")
    view.scroll_into_view_if_needed()
    choices = {name: view.get_by_label(name, exact=True) for name in ("Show", "as")}
    choices["measure"] = view.get_by_label("Breakdown of")

    # Everything that is watched is in the plots.
    wait_until(lab, lambda: len(source_columns(lab.page, "latency")["p50"]) > 5)
    wait_until(lab, lambda: "first and second" in source_columns(lab.page, "edges")["ends"])
    assert source_columns(lab.page, "nodes")["name"][:2] == ["first", "second"]
    assert "accepted" in source_columns(lab.page, "marks")["what"]
    wait_until(lab, lambda: 4096 in [2**b for b in sizes(lab)])
    expect(view).to_contain_text("Progress busy")

    # Another window shows another time, on one axis for all plots.
    choices["Show"].select_option("30")
    wait_until(lab, lambda: axis_seconds(lab) == pytest.approx(30))
    choices["Show"].select_option("3600")
    wait_until(lab, lambda: axis_seconds(lab) == pytest.approx(3600))
    choices["Show"].select_option("60")
    wait_until(lab, lambda: axis_seconds(lab) == pytest.approx(60))

    # A breakdown in another measure and style.
    assert plot_model(lab.page, "by_connection-title", "text") == "Throughput by connection"
    wait_until(lab, lambda: key_texts(lab)[0].startswith("first: 1 echo"))
    choices["measure"].select_option("messages")
    wait_until(
        lab,
        lambda: plot_model(lab.page, "by_connection-title", "text") == "Messages by connection",
    )
    choices["as"].select_option("stacked")
    wait_until(lab, lambda: stacked(lab))
    wait_until(lab, lambda: source_columns(lab.page, "throughput")["sent"][-1:] != [])

    # Paused means that nothing moves, and resumed that it goes on from now.
    view.get_by_role("button", name="Pause").click()
    expect(view.get_by_role("status")).to_have_text("paused")
    lab.page.wait_for_timeout(500)
    stood = source_columns(lab.page, "throughput")["time"][-1]
    lab.page.wait_for_timeout(700)
    assert source_columns(lab.page, "throughput")["time"][-1] == stood
    view.get_by_role("button", name="Resume").click()
    wait_until(lab, lambda: source_columns(lab.page, "throughput")["time"][-1] > stood + 1)

    # A click into the key hides a line, and it stays hidden.
    boxes = [plot.bounding_box() for plot in view.locator(".bk-Figure").all()]
    box = min(boxes, key=lambda box: (box["y"] // 50, box["x"]))
    lab.page.mouse.click(box["x"] + 90, box["y"] + 25)
    wait_until(
        lab, lambda: plot_model(lab.page, "throughput-plot-key-0", "renderers[0].visible") is False
    )
    lab.page.wait_for_timeout(500)
    assert plot_model(lab.page, "throughput-plot-key-0", "renderers[0].visible") is False
    lab.page.mouse.click(box["x"] + 90, box["y"] + 25)

    # Exact figures under the mouse.
    lab.page.mouse.move(box["x"] + box["width"] - 24, box["y"] + 120, steps=4)
    wait_until(lab, lambda: "ago" in tooltips(lab))
    assert "received" in tooltips(lab)

    # Every plot can be saved, as a picture and as a drawing.
    for format_, start in (("PNG", b"\x89PNG"), ("SVG", b"<")):
        view.get_by_label("Save", exact=True).select_option(label="Latency of requests")
        with lab.page.expect_download() as download:
            view.get_by_role("button", name=f"Save the plot as {format_}").click()
        assert download.value.suggested_filename == f"latency-plot.{format_.lower()}"
        data = Path(download.value.path()).read_bytes()
        assert data.startswith(start)
        assert len(data) > 2000

    # The theme of the page is that of the plots.
    light = plot_model(lab.page, "throughput-title", "text_color")
    lab.set_theme("JupyterLab Dark")
    wait_until(lab, lambda: plot_model(lab.page, "throughput-title", "text_color") != light)

    # A worker of several that closes is told, and one that all have closed.
    lab.run_cell(2)
    expect(view.get_by_role("status")).to_have_text("live, second closed")
    lab.run_cell(3)
    expect(view.get_by_role("status")).to_have_text("all workers closed")


def test_a_kernel_that_says_nothing_is_not_live(lab: LabPage) -> None:
    lab.open("silent.ipynb", [WORKERS, DASHBOARD, "import os; print(os.getpid())", CLOSE])
    lab.run_cell(0)
    lab.run_cell(1)
    kernel = int(lab.run_cell(2))
    wait_for_plots(lab.page)
    state = lab.page.locator(".ucxnb-live").get_by_role("status")
    expect(state).to_have_text("live")
    os.kill(kernel, signal.SIGSTOP)
    try:
        expect(state).to_contain_text("no news since", timeout=20_000)
    finally:
        os.kill(kernel, signal.SIGCONT)
    expect(state).to_have_text("live", timeout=20_000)
    lab.run_cell(3)


def test_no_serious_barrier_for_anyone(lab: LabPage) -> None:
    lab.open("room.ipynb", [WORKERS, ROOM, CLOSE])
    lab.run_cell(0)
    lab.run_cell(1)
    wait_for_plots(lab.page)
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab.set_theme(theme)
        lab.page.wait_for_timeout(1000)
        assert not serious_faults(lab.page), theme
    # All controls of the dashboard can be reached and used with the keyboard.
    view = lab.page.locator(".ucxnb-live")
    view.get_by_role("button", name="Pause").focus()
    lab.page.keyboard.press("Enter")
    expect(view.get_by_role("status")).to_have_text("paused")
    for name in ("Show", "Breakdown of", "as", "Save"):
        lab.page.keyboard.press("Tab")
        expect(view.get_by_label(name, exact=True)).to_be_focused()
    lab.run_cell(2)


def axis_seconds(lab: LabPage) -> float:
    return plot_model(lab.page, "time-range", "end") - plot_model(lab.page, "time-range", "start")


def key_texts(lab: LabPage) -> list[str]:
    return [plot_model(lab.page, f"by_connection-plot-key-{i}", "label.value") for i in range(7)]


def stacked(lab: LabPage) -> bool:
    glyph = "renderers[0].glyph.type"
    return plot_model(lab.page, "by_connection-plot-key-0", glyph) == "VArea"


def sizes(lab: LabPage) -> list[int]:
    """Lower ends of the sizes that there are, as powers of two."""
    return [int(bucket) - 1 for bucket in source_columns(lab.page, "sizes")["bucket"]]


def tooltips(lab: LabPage) -> str:
    return lab.page.evaluate(
        """() => {
          const texts = [];
          const walk = (node) => {
            if (node.classList?.contains("bk-Tooltip")) texts.push(node.shadowRoot.textContent);
            for (const child of node.shadowRoot?.children ?? []) walk(child);
            for (const child of node.children ?? []) walk(child);
          };
          walk(document.body);
          return texts.join(" ");
        }"""
    )
