"""The explorer panel in a real JupyterLab in a real browser, clicked as a user would."""

from __future__ import annotations

import pytest
from lab import CHROMIUM, LabPage, press, serious_faults
from playwright.sync_api import expect
from plots import source_columns

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]

CELLS = [
    """
from ucxnb import UcxWorker
from ucxnb.widgets import ExplorerPanel
worker = UcxWorker(ucx_options={"TLS": "shm,self"})
panel = ExplorerPanel(worker)
panel.seconds, panel.repeats, panel.sizes.value = 0.005, 1, (64, 16384)
panel
""",
    "panel.close(); worker.close()",
]


def test_measure_what_if_hover_and_compare(lab: LabPage) -> None:
    lab.open("explorer.ipynb", CELLS)
    lab.run_cell(0)
    panel = lab.panel("Explorer")
    chart = panel.locator(".ucxnb-explorer-chart")
    expect(chart).not_to_be_visible()
    press(panel, "Measure")
    expect(panel).to_contain_text("Measured 9 sizes", timeout=60_000)
    expect(chart).to_have_attribute("data-points", "9")
    expect(panel).to_contain_text("93..8248: eager copy-in copy-out")

    # What if: a setting, found by its words.
    lab.fill(panel, "Search", "rndv thresh")
    expect(panel).to_contain_text("Threshold for switching from eager to rendezvous protocol")
    lab.fill(panel, "Value", "1024")
    press(panel, "Set")
    press(panel, "Measure")
    expect(chart).to_have_attribute("data-points", "18", timeout=60_000)
    expect(panel).to_contain_text("Measured 9 sizes", timeout=60_000)
    for name in ("latency", "bandwidth"):
        lines = source_columns(lab.page, f"explorer-{name}-lines")
        # UCX's estimate, and one line for each profile.
        assert lines["dash"] == ["dashed", "solid", "solid"], name
        assert all(y > 0 for line in lines["ys"] for y in line), name
        bands = source_columns(lab.page, f"explorer-{name}-bands")
        assert bands["x0"] == [1, 93, 1024], name
        assert bands["x1"] == [93, 1024, 16384 * 1.25], name
        assert len(set(bands["color"])) == 3, name
        assert source_columns(lab.page, f"explorer-{name}-edges")["x"] == [93, 1024], name
    assert serious_faults(lab.page, ".ucxnb-panel") == []

    # Hovering a band says in plain words what its protocol does.
    plot = chart.locator(".ucxnb-chart-plots")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    words = lab.page.get_by_text("the sender copies it into the transport's buffers")
    for x in range(100, 400, 20):
        lab.page.mouse.move(box["x"] + x, box["y"] + 230)
        if words.count() and words.first.is_visible():
            break
        lab.page.wait_for_timeout(100)
    expect(words.first).to_be_visible()

    press(panel, "Compare")
    expect(panel).to_contain_text("Compared: no difference.", timeout=60_000)
    expect(panel).to_contain_text("RNDV_THRESH=1024: no difference")
    colors = source_columns(lab.page, "explorer-latency-points")["color"]
    lab.set_theme("JupyterLab Dark")
    expect(chart).to_have_attribute("data-theme", "dark")
    assert source_columns(lab.page, "explorer-latency-points")["color"] != colors
    lab.run_cell(1)
    expect(lab.page.locator(".ucxnb-explorer-chart")).to_have_count(0)
