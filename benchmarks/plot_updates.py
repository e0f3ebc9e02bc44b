"""Plot updates per second that reach a browser: idle, and while a cell is busy in two ways."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))

from lab import LabServer, chromium_page
from plots import updates_between, wait_for_plots, watch_updates

SETUP = """
import time
from ucxnb import EchoPeer, OperationTimeoutError, UcxWorker
from ucxnb.widgets import ControlRoom
peer, worker = EchoPeer(), UcxWorker()
endpoint_id = worker.connect(peer.address)
ControlRoom(worker)
"""
BUSY = {
    "in receive_tag": """
start = time.time()
try:
    worker.receive_tag(endpoint_id, 1, timeout={seconds})
except OperationTimeoutError:
    pass
print(start, time.time())
""",
    "in a pure-Python loop": """
start = time.time()
while time.time() < start + {seconds}:
    sum(range(1000))
print(start, time.time())
""",
}


def main() -> None:
    """Print a line for each state of the kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    cells = [SETUP, *(code.format(seconds=options.seconds) for code in BUSY.values())]
    with (
        tempfile.TemporaryDirectory() as folder,
        LabServer(Path(folder)).running() as server,
        chromium_page(server) as lab,
    ):
        lab.open("updates.ipynb", [*cells, "worker.close(); peer.close()"])
        lab.run_cell(0)
        wait_for_plots(lab.page)
        # Off the screen nothing is drawn, on purpose.
        lab.page.locator(".ucxnb-live").scroll_into_view_if_needed()
        watch_updates(lab.page, "throughput")
        lab.page.wait_for_timeout(2000)
        start = time.time()
        lab.page.wait_for_timeout(options.seconds * 1000)
        spans = {"idle": (start, time.time())}
        for number, name in enumerate(BUSY, 1):
            first, last = map(float, lab.run_cell(number).split())
            spans[name] = (first, last)
        for name, (first, last) in spans.items():
            count = updates_between(lab.page, first, last)
            print(f"{name:24} {count / (last - first):5.1f} updates/s over {last - first:.1f} s")
        lab.run_cell(len(cells))


if __name__ == "__main__":
    main()
