"""The dashboard of a cluster in a real JupyterLab: what it shows of workers that come and go."""

from __future__ import annotations

import re

import pytest
from lab import CHROMIUM, LabPage, serious_faults
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]

START = """
import logging, os, signal
import numpy as np
from ucxnb.cluster import ClusterDashboard, UcxCluster
logging.getLogger("distributed").setLevel(logging.CRITICAL)
cluster = UcxCluster.local(3)
dashboard = ClusterDashboard(cluster)
dashboard
"""
TRAFFIC = """
def send(worker, group, count):
    for _ in range(count):
        if group.rank == 0:
            worker.send_tag(group.endpoint_to(2), 1, bytes(10_000))
        if group.rank == 2:
            worker.receive_tag(group.endpoint_to(0), 1, timeout=30)

import time
end = time.time() + 3
while time.time() < end:
    cluster.map(send, 20)
"""
KILL = """
victim = cluster.workers[1]
os.kill(victim.pid, signal.SIGKILL)
while victim.address in {m.address for m in cluster.workers}:
    time.sleep(0.05)
cluster.wait_for_workers(3, timeout=60)
print(victim.name)
"""
CLOSE = "cluster.close()"
# A square of the heat map of that name, as rows of numbers; null for nan.
SQUARE = """(name) => {
  for (const document of Object.values(window.__ucxnb_bokeh__ ?? {}).flatMap((b) => b.documents)) {
    const image = document.get_model_by_name(name)?.data.image[0];
    if (image) {
      const [rows, columns] = image.shape;
      return [...Array(rows).keys()].map((row) =>
        [...image.slice(row * columns, (row + 1) * columns)].map((x) => (x > -1 ? x : null)));
    }
  }
  return [];
}"""


def square(lab: LabPage, name: str) -> list[list[float | None]]:
    return lab.page.evaluate(SQUARE, name)


def wait_until(lab: LabPage, condition) -> None:
    for _ in range(150):
        if condition():
            return
        lab.page.wait_for_timeout(100)
    raise AssertionError("it did not happen in time")


def test_rows_maps_a_death_and_the_end(lab: LabPage) -> None:
    lab.open("cluster.ipynb", [START, TRAFFIC, KILL, CLOSE])
    lab.run_cell(0)
    view = lab.page.locator(".ucxnb-live[data-ready]")
    rows = view.locator("tbody tr")
    status = view.get_by_role("status").first
    # Three workers and this process.
    expect(rows).to_have_count(4)
    expect(view).to_contain_text("3 workers on 1 host")
    expect(status).to_have_text("live")
    expect(rows.first).to_contain_text("127.0.0.1")
    wait_until(lab, lambda: len(square(lab, "transports")) == 4)
    assert [[x is None for x in row] for row in square(lab, "transports")] == [
        [row == column for column in range(4)] for row in range(4)
    ]
    expect(view.locator(".ucxnb-cluster-key")).to_contain_text(re.compile("sysv|posix"))

    # Traffic from the first to the third, and nowhere else.
    lab.start_cell(1)
    wait_until(lab, lambda: (square(lab, "traffic")[0][2] or 0) > 10_000)
    moved = square(lab, "traffic")
    assert {(i, j) for i in range(4) for j in range(4) if moved[i][j]} == {(0, 2)}
    expect(rows.first.locator("td").nth(4)).to_have_text(re.compile("[kM]B/s"))
    lab.wait_for_cell(1)

    # Latency and bandwidth, when asked for.
    assert not any(x for row in square(lab, "latency") for x in row)
    view.get_by_role("button", name="Measure pairs").click()
    expect(view).to_contain_text(re.compile(r"measured at \d+"))
    for name in ("latency", "bandwidth"):
        wait_until(lab, lambda name=name: sum(bool(x) for r in square(lab, name) for x in r) == 6)
    assert serious_faults(lab.page, ".ucxnb-live") == []

    # Paused: nothing moves.
    view.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("paused")
    stood = view.get_attribute("data-updates")
    lab.page.wait_for_timeout(1200)
    assert view.get_attribute("data-updates") == stood
    view.get_by_role("button", name="Resume").click()

    # One that dies stays, as lost; another has taken its place.
    lab.run_cell(2)
    lost = view.locator('tr[data-state="lost"]')
    expect(lost).to_have_count(1)
    # Closed without a goodbye, or reset where bytes for it were still unread.
    expect(lost).to_contain_text("the peer is gone: ")
    # The machine may make a straggler of one that worked meanwhile.
    expect(view).to_contain_text(re.compile("3 workers on 1 host, (1 straggler, )?1 lost"))
    expect(view.locator('tr[data-state="ready"]')).to_have_count(4)
    # The figures of the pairs that are still there are still theirs.
    wait_until(lab, lambda: sum(bool(x) for r in square(lab, "latency") for x in r) == 2)

    # The page's theme is the plots' and a closed cluster says so.
    lab.set_theme("JupyterLab Dark")
    wait_until(lab, lambda: view.get_attribute("data-theme") == "dark")
    lab.run_cell(3)
    expect(status).to_have_text("cluster closed")
