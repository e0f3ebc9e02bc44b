"""What a dashboard of 8 workers costs over a long time: kernel memory and CPU, browser heap."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))

from lab import LabPage, LabServer, chromium_page
from plots import updates_between, wait_for_plots, watch_updates

# Two processes send 20 messages a second to each worker; a thread of the kernel receives them.
SETUP = """
import os, subprocess, sys, threading, time
from ucxnb import ThreadMode, UcxWorker
from ucxnb.dashboard import Dashboard

workers = [UcxWorker(name=f"worker-{{i}}", thread_mode=ThreadMode.MULTI) for i in range({workers})]
SENDER = '''
import sys, time
from ucxnb import UcxWorker
worker = UcxWorker(name="sender")
peers = [worker.connect(address) for address in sys.argv[1:]]
data = [bytes(64), bytes(4096), bytes(100_000)]
turn = 0
while worker.get_endpoint_ids():
    turn += 1
    for peer in worker.get_endpoint_ids():
        worker.isend_tag(peer, 1, data[turn % 3])
    time.sleep(0.05)
'''
addresses = [worker.create_listener().address for worker in workers]
senders = [subprocess.Popen([sys.executable, "-c", SENDER, *addresses]) for _ in range(2)]
def drain():
    buffer = bytearray(200_000)
    while not stopped.wait(0.05):
        for worker in workers:
            for peer in worker.get_endpoint_ids():
                while worker.try_receive_tag(peer, 1, buffer) is not None:
                    pass
stopped = threading.Event()
drainer = threading.Thread(target=drain, daemon=True)
drainer.start()
print(os.getpid())
"""
OPEN = "dashboard = Dashboard(workers, interval={interval})\ndashboard"
END = """
dashboard.close()
stopped.set()
drainer.join()
for worker in workers:
    worker.close()
for sender in senders:
    sender.terminate()
    sender.wait()
"""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_bytes(pid: int) -> int:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def heap_bytes(session: Any) -> float:
    """The page's JavaScript heap after a collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(m["value"] for m in metrics if m["name"] == "JSHeapUsedSize")


def slope(seconds: list[float], values: list[float]) -> float:
    """Growth per hour, of the straight line through the points of the second half."""
    half = len(values) // 2
    return float(np.polyfit(seconds[half:], values[half:], 1)[0] * 3600)


def measure(lab: LabPage, pid: int, minutes: float, sample: float) -> dict[str, Any]:
    """Watch kernel and page for a time."""
    session = lab.page.context.new_cdp_session(lab.page)
    session.send("Performance.enable")
    watch_updates(lab.page, "throughput")
    start, cpu = time.time(), cpu_seconds(pid)
    samples = []
    while time.time() < start + 60 * minutes:
        lab.page.wait_for_timeout(sample * 1000)
        samples.append(
            {
                "seconds": time.time() - start,
                "heap_mb": heap_bytes(session) / 1e6,
                "rss_mb": rss_bytes(pid) / 1e6,
            }
        )
        print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
    seconds = time.time() - start
    at = [s["seconds"] for s in samples]
    return {
        "seconds": seconds,
        "cpu_share": (cpu_seconds(pid) - cpu) / seconds,
        "updates_per_second": updates_between(lab.page, start, time.time()) / seconds,
        "heap_mb_per_hour": slope(at, [s["heap_mb"] for s in samples]),
        "rss_mb_per_hour": slope(at, [s["rss_mb"] for s in samples]),
        "samples": samples,
    }


def main() -> None:
    """Print the figures as JSON; progress goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--sample", type=float, default=30.0, help="seconds between samples")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--interval", type=float, default=0.1)
    options = parser.parse_args()
    cells = [
        SETUP.format(workers=options.workers),
        OPEN.format(interval=options.interval),
        END,
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        LabServer(Path(folder)).running() as server,
        chromium_page(server, width=1500) as lab,
    ):
        lab.open("hour.ipynb", cells)
        pid = int(lab.run_cell(0))
        lab.page.wait_for_timeout(5000)
        before, cpu = time.time(), cpu_seconds(pid)
        lab.page.wait_for_timeout(10_000)
        without = (cpu_seconds(pid) - cpu) / (time.time() - before)
        lab.run_cell(1)
        wait_for_plots(lab.page)
        lab.page.locator(".ucxnb-live").scroll_into_view_if_needed()
        lab.page.wait_for_timeout(5000)
        figures = measure(lab, pid, options.minutes, options.sample)
        lab.run_cell(2)
    print(json.dumps({"cpu_share_without": without, **figures}, indent=1))


if __name__ == "__main__":
    main()
