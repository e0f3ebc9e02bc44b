"""Make the pictures of the documentation: ``python docs/screenshots.py``.

Needs the `test` extra and Chromium. Each is a real JupyterLab, driven as a user would.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests" / "browser"))

from lab import LabPage, LabServer, chromium_page, press  # noqa: E402
from plots import wait_for_plots  # noqa: E402

# A peer over shared memory, one over TCP, one that dies, and a stranger.
ROOM = """
import os, subprocess, sys, threading, time, urllib.request
from ucxnb import EchoPeer, TrafficGenerator, UcxWorker
from ucxnb.widgets import ControlRoom

worker, peer, mortal = UcxWorker(name="notebook"), EchoPeer(), EchoPeer()
address = worker.create_listener().address
near, far = worker.connect(peer.address), worker.connect(mortal.address)
CLIENT = '''
import sys, time
from ucxnb import UcxWorker
worker = UcxWorker(name="client", ucx_options={"TLS": "tcp,self"})
there = worker.connect(sys.argv[1])
while worker.is_connected(there):
    worker.send_tag(there, 5, bytes(20_000))
    time.sleep(0.01)
'''
client = subprocess.Popen([sys.executable, "-c", CLIENT, address], stderr=subprocess.DEVNULL)
room = ControlRoom(worker)
room
"""
# Half a minute of it, in which rates and sizes change.
TRAFFIC = """
stages = [((8, 512), 4000), ((8, 65536), 8000), ((1024, 1 << 20), 1500), ((8, 4096), 9000)]
for number, (size, rate) in enumerate(stages):
    with TrafficGenerator(worker, near, size=size, rate=rate, duration=7) as traffic:
        traffic.wait()
    if number == 1:
        os.kill(mortal.pid, 9)
    if number == 2:
        try:
            urllib.request.urlopen("http://" + address, timeout=1)
        except Exception:
            pass
"""
BENCH = """
from ucxnb import UcxWorker
from ucxnb.widgets import BenchPanel

worker = UcxWorker(name="notebook")
panel = BenchPanel(worker)
panel
"""

EXPLORER = """
from ucxnb import UcxWorker
from ucxnb.widgets import ExplorerPanel

worker = UcxWorker(ucx_options={"TLS": "shm,self"})
panel = ExplorerPanel(worker)
panel
"""

# Two workers that stream, put and get; what the panels say, and the plot of it by kind.
KINDS = """
import threading, time
import ipywidgets
import numpy as np
from ucxnb import ThreadMode, UcxWorker
from ucxnb.dashboard import Dashboard
from ucxnb.widgets import MemoryPanel, StreamPanel

SETTINGS = dict(enable_rma=True, thread_mode=ThreadMode.MULTI)
worker, other = UcxWorker(name="notebook", **SETTINGS), UcxWorker(name="the other", **SETTINGS)
there = worker.connect(other.create_listener().address)
here = other.get_endpoint_ids()[0]
memory = other.allocate(1 << 20)
np.frombuffer(memory, "u1")[:] = 0
stream, reach = StreamPanel(worker), MemoryPanel(worker)
plots = Dashboard(worker)
ipywidgets.VBox([stream, reach, plots.widget])
"""
MOVE = """
reach.key.value = memory.remote_key().hex()
reach.payload.text.value = "put by hand"
reach.put_button.click()
time.sleep(0.5)
reach.get_button.click()
stream.read_button.click()
other.send_stream(here, "what comes is shown, as text or hex\\n".encode() * 3)
time.sleep(1)
stream.stop_button.click()
rng, end, data = np.random.default_rng(1), time.time() + 20, np.ones(50_000, "u1")
key, buffer = memory.remote_key(), bytearray(50_000)
while time.time() < end:
    part = data[: rng.integers(1_000, 50_000)]
    worker.send_stream(there, part)
    other.receive_stream(here, memoryview(buffer)[: part.nbytes], True)
    for _ in range(int(2 + 2 * np.sin(time.time()))):
        worker.put(there, data, key)
    worker.send_tag(there, 1, part[:20_000])
    other.receive_tag(here, 1)
    time.sleep(0.002)
"""

# Sixteen workers in whose traffic one lags behind, one is killed and one is added.
CLUSTER = """
import os, signal, threading, time
import numpy as np
from ucxnb.cluster import ClusterDashboard, UcxCluster
from ucxnb.errors import ClusterError

cluster = UcxCluster.local(16)
dashboard = ClusterDashboard(cluster)
dashboard
"""
EXCHANGE = """
def neighbours(worker, group, seconds):
    others = [(group.rank + step) % group.size for step in (1, 3)]
    ends = [group.endpoint_to(other) for other in others]
    end = time.time() + seconds
    while time.time() < end:
        for there, share in zip(ends, (40_000, 4_000)):
            worker.isend_tag(there, 1, bytes(share * (1 + group.rank)))
        while worker.try_receive_tag(None, 1) is not None:
            pass
        time.sleep(0.02)


dashboard.measure()
while dashboard.widget.measuring or dashboard.figures is None:
    time.sleep(0.2)
os.kill(cluster.workers[5].pid, signal.SIGKILL)
cluster.client.cluster.scale(17)
time.sleep(1)
cluster.wait_for_workers(17, timeout=60)
dashboard.measure()
while dashboard.widget.measuring:
    time.sleep(0.2)
threading.Thread(target=cluster.map, args=(neighbours, 14)).start()
time.sleep(4)
os.kill(cluster.workers[11].pid, signal.SIGSTOP)
time.sleep(4)
"""
END = """
os.kill(cluster.workers[11].pid, signal.SIGCONT)
cluster.close()
"""


def show_notebook_only(lab: LabPage) -> None:
    """Close what JupyterLab has beside the notebook."""
    lab.page.evaluate("window.jupyterapp.shell.collapseLeft()")


def room(lab: LabPage, theme: str, out: Path) -> None:
    """The control room under traffic."""
    lab.open("room.ipynb", [ROOM, TRAFFIC])
    lab.set_theme(theme)
    show_notebook_only(lab)
    lab.run_cell(0)
    wait_for_plots(lab.page)
    receive = lab.panel("Receive")
    press(receive, "Keep receiving")
    lab.run_cell(1, timeout=90)
    lab.page.locator(".ucxnb-room").screenshot(path=out)


def bench(lab: LabPage, theme: str, out: Path) -> None:
    """Shared memory and TCP in the bench panel."""
    lab.open("bench.ipynb", [BENCH])
    lab.set_theme(theme)
    show_notebook_only(lab)
    lab.run_cell(0)
    panel = lab.panel("Benchmark")
    for transport, used in (("shared memory", "memory"), ("TCP", "tcp")):
        panel.get_by_label("Transport", exact=True).select_option(label=transport)
        press(panel, "Start")
        expect(panel).to_contain_text(re.compile(f"Measured .*{used}"), timeout=120_000)
    panel.screenshot(path=out)


def explorer(lab: LabPage, theme: str, out: Path) -> None:
    """Shared memory as it is, and with larger segments, which the comparison is of as well."""
    lab.open("explorer.ipynb", [EXPLORER])
    lab.set_theme(theme)
    show_notebook_only(lab)
    lab.run_cell(0)
    panel = lab.panel("Explorer")
    press(panel, "Measure")
    expect(panel).to_contain_text("Measured 20 sizes", timeout=120_000)
    for label, text in (("Search", "sysv_seg_size"), ("Value", "32k"), ("Size", "8256 B")):
        lab.fill(panel, label, text)
        lab.page.wait_for_timeout(500)
    press(panel, "Set")
    press(panel, "Measure")
    expect(panel.locator(".ucxnb-chart")).to_have_attribute("data-points", "40", timeout=120_000)
    expect(panel).to_contain_text("Measured 20 sizes", timeout=120_000)
    press(panel, "Compare")
    expect(panel).to_contain_text("Compared:", timeout=120_000)
    panel.screenshot(path=out)


def kinds(lab: LabPage, theme: str, out: Path) -> None:
    """The panels for streams and memory, over the plots of what moves."""
    lab.open("kinds.ipynb", [KINDS, MOVE])
    lab.set_theme(theme)
    show_notebook_only(lab)
    lab.run_cell(0)
    wait_for_plots(lab.page)
    lab.run_cell(1, timeout=60)
    lab.page.locator(".jp-OutputArea-output").first.screenshot(path=out)


def cluster(lab: LabPage, theme: str, out: Path) -> None:
    """The dashboard of a cluster of 16 workers, one of which lags behind and one of which died."""
    lab.open("cluster.ipynb", [CLUSTER, EXCHANGE, END])
    lab.set_theme(theme)
    show_notebook_only(lab)
    lab.run_cell(0, timeout=60)
    lab.page.locator(".ucxnb-live[data-ready]").wait_for(timeout=30_000)
    lab.run_cell(1, timeout=120)
    lab.page.locator(".ucxnb-live").screenshot(path=out)
    lab.run_cell(2, timeout=60)


PICTURES = {
    "control-room": room,
    "bench-panel": bench,
    "explorer": explorer,
    "stream-and-memory": kinds,
    "cluster": cluster,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", default=[*PICTURES], help=", ".join(PICTURES))
    parser.add_argument("--width", type=int, default=1500, help="of the browser, in pixels")
    parser.add_argument("--dark", action="store_true", help="in JupyterLab's dark theme")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder to write them to")
    options = parser.parse_args()
    for name in options.pictures:
        with (
            tempfile.TemporaryDirectory() as folder,
            LabServer(Path(folder)).running() as server,
            chromium_page(server, options.width, 4000) as page,
        ):
            theme = "JupyterLab Dark" if options.dark else "JupyterLab Light"
            PICTURES[name](page, theme, options.out / f"{name}.png")


if __name__ == "__main__":
    main()
