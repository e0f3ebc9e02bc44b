"""The bench panel in a real JupyterLab in a real browser, clicked as a user would."""

from __future__ import annotations

import pytest
from lab import CHROMIUM, LabPage, press
from playwright.sync_api import Page, expect
from plots import source_columns

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]

CELLS = [
    """
from ucxnb import UcxWorker
from ucxnb.widgets import ControlRoom
worker = UcxWorker(name="notebook")
room = ControlRoom(worker)
panel = room.bench_panel
panel.seconds, panel.sizes.value = 0.05, (8, 512)
room
""",
    "panel.seconds, panel.sizes.value, panel.name.value = 1.5, (8, 512), 'long'",
    "print([(run.name, len(run.rows)) for run in panel.runs])",
    "room.close(); worker.close()",
]


def names(page: Page) -> list[str]:
    return source_columns(page, "p50")["run"]


def test_measure_cancel_reload_and_save(lab: LabPage) -> None:
    lab.open("bench.ipynb", CELLS)
    lab.run_cell(0)
    panel = lab.panel("Benchmark")
    expect(lab.page.locator(".ucxnb-chart")).to_have_count(0)
    press(panel, "Open")
    press(panel, "Start")
    expect(panel).to_contain_text("Measured 3 sizes over", timeout=60_000)
    chart = lab.page.locator(".ucxnb-chart[data-ready=yes]")
    expect(chart).to_have_attribute("data-points", "3")
    for source in ("p50", "p99", "p999", "limit_latency", "rate", "limit_bandwidth"):
        columns = source_columns(lab.page, source)
        assert columns["xs"] == [[8, 64, 512]], source
        assert all(y > 0 for y in columns["ys"][0]), source
    assert names(lab.page) == ["UCX's choice"]

    lab.run_cell(1)
    press(panel, "Start")
    expect(chart).not_to_have_attribute("data-points", "3", timeout=60_000)
    expect(panel).to_contain_text("s left")
    press(panel, "Cancel")
    expect(panel).to_contain_text("sizes are kept", timeout=20_000)
    assert names(lab.page) == ["UCX's choice", "long"]

    with lab.page.expect_download() as csv:
        press(panel, "CSV")
    assert csv.value.suggested_filename == "ucxnb-benchmark.csv"
    assert csv.value.path().read_text().startswith("run,transports,nbytes")
    with lab.page.expect_download() as picture:
        press(panel, "Picture")
    assert picture.value.path().read_bytes().startswith(b"\x89PNG")

    lab.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    lab.page.wait_for_timeout(1000)
    assert (lab.server.notebooks / "bench.ipynb").stat().st_size < 100_000
    lab.page.reload()
    expect(chart).to_have_count(1, timeout=60_000)
    assert names(lab.page) == ["UCX's choice", "long"]
    assert "('long', " in lab.run_cell(2)
    lab.run_cell(3)
    expect(lab.page.locator(".ucxnb-chart")).to_have_count(0)


CLOSED_SOON = """
import time
from IPython.display import display
from ucxnb.dashboard.bench_chart import BenchChart
for milliseconds in range(0, 200, 10):
    chart = BenchChart()
    display(chart)
    time.sleep(milliseconds / 1000)
    chart.close()
"""


def test_plots_that_are_closed_while_they_appear_leave_no_error(lab: LabPage) -> None:
    lab.open("closed.ipynb", [CLOSED_SOON])
    lab.run_cell(0)
    expect(lab.page.locator(".ucxnb-chart")).to_have_count(0)
    lab.page.wait_for_timeout(1000)
    # What anywidget says of a widget that was closed before it had loaded is its own.
    lab.errors = [error for error in lab.errors if not error.startswith("[anywidget]")]
