"""The panels in a real JupyterLab: many messages, drafts, copying, keyboard, axe-core."""

from __future__ import annotations

import re

import pytest
from lab import CHROMIUM, LabPage, press, serious_faults
from playwright.sync_api import Locator, expect

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]

MANY = 100_000
WORKERS = """
import time
import numpy as np
from ucxnb import UcxWorker
from ucxnb.widgets import ControlRoom, ReceivePanel

here, there = UcxWorker(name="here"), UcxWorker(name="there")
to_there = here.connect(there.create_listener().address)
while not there.get_endpoint_ids():
    time.sleep(0.01)
to_here = there.get_endpoint_ids()[0]
"""
CLOSE = "here.close(); there.close()"


def scroll(grid: Locator, fraction: float) -> None:
    grid.evaluate("(grid, part) => { grid.scrollTop = grid.scrollHeight * part; }", fraction)


def test_a_table_of_a_hundred_thousand_messages_stays_quick(lab: LabPage) -> None:
    lab.open(
        "many.ipynb",
        [
            WORKERS + "panel = ReceivePanel(here)\npanel.keep_button.click()\npanel",
            f"""
there.send_rows(to_here, np.arange({MANY}) % 7, np.arange({MANY})[:, None])
deadline = time.monotonic() + 60
while panel.messages.count < {MANY} and time.monotonic() < deadline:
    time.sleep(0.05)
print(panel.messages.count)
""",
            CLOSE,
        ],
    )
    lab.run_cell(0)
    assert lab.run_cell(1, timeout=90).strip() == str(MANY)
    panel = lab.panel("Receive")
    expect(panel).to_contain_text("100,000 messages")
    grid = panel.get_by_role("grid")
    expect(grid).to_have_attribute("aria-rowcount", str(MANY + 1))
    rows = grid.locator(".ucxnb-grid-body [role=row]")
    assert rows.count() < 30, "only what is in sight is in the page"
    last = rows.last
    expect(last).to_have_attribute("aria-rowindex", str(MANY + 1))
    expect(last).to_contain_text("9f 86 01 00")  # 99,999

    scroll(grid, 0.5)
    expect(rows.first).to_have_attribute("aria-rowindex", re.compile(r"^(49|50)\d{3}$"))
    expect(rows.first).not_to_contain_text("…\n…")
    expect(rows.first.get_by_role("gridcell").nth(3)).to_have_text("8 B")
    lab.fill(panel, "Show tag", "3")
    expect(grid).to_have_attribute("aria-rowcount", str(len(range(3, MANY, 7)) + 1))
    scroll(grid, 0.25)
    expect(rows.first.get_by_role("gridcell").nth(2)).to_have_text("3")
    rows.nth(2).click()
    expect(panel.locator(".ucxnb-grid-row[aria-selected=true]")).to_have_count(1)
    expect(panel).to_contain_text("tag 3, 8 bytes")
    press(panel, "Array")
    panel.get_by_title("What the array holds").locator("visible=true").select_option("int64")
    content = panel.locator(".ucxnb-copy-text pre").first
    expect(content).to_have_text(re.compile(r"^\[\d+\]$"))
    number = int(content.inner_text().strip("[]"))
    assert number % 7 == 3
    grid.press("ArrowDown")
    expect(content).to_have_text(f"[{number + 7}]")
    grid.press("End")
    expect(content).to_have_text("[99998]")
    grid.press("Home")
    expect(content).to_have_text("[3]")
    lab.run_cell(2)


def test_lines_are_copied_and_a_draft_waits_for_its_peer(lab: LabPage) -> None:
    lab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab.open(
        "draft.ipynb",
        [
            WORKERS + "room = ControlRoom(here)\nroom",
            "there.close()",
            "there = UcxWorker(name='there')\nhere.connect(there.create_listener().address)",
            "print(there.receive_tag(None, 7, timeout=20))",
            CLOSE,
        ],
    )
    lab.run_cell(0)
    send = lab.panel("Send")
    lab.fill(send, "Tag", "7")
    lab.fill(send, "Text", "a draft")
    expect(send).to_contain_text("here.send_tag(1, 7, b'a draft')")
    press(send, "Copy")
    expect(send.get_by_role("button", name="Copy the Python code for this")).to_have_text("Copied")
    assert lab.page.evaluate("() => navigator.clipboard.readText()") == (
        "here.send_tag(1, 7, b'a draft')"
    )
    lab.run_cell(1)
    expect(send).to_contain_text(": lost")
    press(send, "Send")
    expect(send.get_by_role("alert")).to_contain_text("1")
    lab.run_cell(2)
    expect(send).not_to_contain_text(": lost")
    expect(send.get_by_label("Text", exact=True)).to_have_value("a draft")
    press(send, "Send")
    assert lab.run_cell(3).strip() == "b'a draft'"
    lab.run_cell(4)


def test_traffic_is_started_and_stopped_by_clicks(lab: LabPage) -> None:
    lab.open("traffic.ipynb", [WORKERS + "room = ControlRoom(here)\nroom", CLOSE])
    lab.run_cell(0)
    panel = lab.panel("Traffic generator")
    press(panel, "Open")
    lab.fill(panel, "Rate", "500/s")
    press(panel, "Start")
    expect(panel).to_contain_text("Sending: ")
    expect(lab.panel("Connections")).to_contain_text(re.compile(r"[1-9]\d+ messages"))
    press(panel, "Stop")
    expect(panel).to_contain_text(re.compile(r"Sent [\d,]+ messages"))
    lab.run_cell(1)


def test_axe_finds_no_serious_fault(lab: LabPage) -> None:
    lab.open(
        "axe.ipynb",
        [
            WORKERS
            + """
room = ControlRoom(here)
for panel in (room.traffic_panel, room.bench_panel):
    panel.children[0].children[1].value = True
room.receive_panel.keep_button.click()
for _ in range(100):
    there.send_tag(to_here, 1, b"hello")
time.sleep(1)
room.receive_panel.table.selected = 3
room""",
            CLOSE,
        ],
    )
    lab.run_cell(0)
    expect(lab.panel("Receive").get_by_role("grid")).to_be_visible()
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab.set_theme(theme)
        assert not serious_faults(lab.page), theme
    lab.run_cell(1)
