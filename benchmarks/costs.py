"""What ucxnb costs before it does anything: import, start of a worker, an open dashboard."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import machine

HERE = Path(__file__).parent
IMPORT = """
import time
start = time.perf_counter()
import ucxnb
seconds = time.perf_counter() - start
with open("/proc/self/maps") as maps:
    text = maps.read()
print(seconds * 1e3, sum(name in text for name in ("libucp", "libucs", "libucxx")))
"""
OURS = """
import time
from ucxnb import UcxWorker
start = time.perf_counter()
worker = UcxWorker()
end = time.perf_counter()
worker.close()
print((end - start) * 1e3)
"""
# What UcxWorker does with UCXX, with the same options.
UCXX = """
import time
from ucxnb import UcxWorker  # so that both have loaded the same of Python's own library
start = time.perf_counter()
import ucxx._lib.libucxx as ucxx
flags = (ucxx.Feature.WAKEUP, ucxx.Feature.TAG, ucxx.Feature.STREAM)
context = ucxx.UCXContext({"MM_ERROR_HANDLING": "y"}, feature_flags=flags)
worker = ucxx.UCXWorker(context, enable_delayed_submission=False, enable_python_future=False)
address = bytes(worker.address)
print((time.perf_counter() - start) * 1e3)
"""
SETUP = """
import sys
sys.path.insert(0, {folder!r})
from dashboard_traffic import Traffic
from ucxnb.dashboard import Dashboard
traffic = Traffic()
"""
# The rate goes up and down by half for a while at the beginning of a run.
WARM_UP = 'for how in ("rows", "single") * 25:\n    traffic.rate(how, {seconds})'
MEASURE = 'print(*(traffic.rate(how, {seconds}) for how in ("rows", "single")))'
CPU = "print(traffic.cpu_share({seconds}))"
OPEN = "dashboard = Dashboard(traffic.worker)\ndashboard.widget"
CLOSE = "dashboard.close()"
END = "traffic.close()"
HOW = ("rows", "send_tag")
# Seconds after which a dashboard that was opened has sent what is sent once, BokehJS with it.
SETTLE = 0.3


def fresh(code: str) -> list[float]:
    """Run code in a new interpreter; returns the numbers of its last line."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def import_cost(repeats: int) -> dict[str, Any]:
    """Milliseconds that ``import ucxnb`` takes, and whether it loads UCX."""
    runs = [fresh(IMPORT) for _ in range(repeats)]
    return {
        "import_ms": statistics.median(run[0] for run in runs),
        "import_ms_least": min(run[0] for run in runs),
        "import_loads_ucx": any(run[1] for run in runs),
    }


def start_cost(repeats: int) -> dict[str, float]:
    """Milliseconds from nothing to a worker, ours and UCXX's, in turns."""
    pairs = [(fresh(OURS), fresh(UCXX)) for _ in range(repeats)]
    return {
        "start_ms": statistics.median(ours[0] for ours, _ in pairs),
        "start_ms_of_ucx": statistics.median(ucxx[0] for _, ucxx in pairs),
        "start_ms_beyond_ucx": statistics.median(ours[0] - ucxx[0] for ours, ucxx in pairs),
    }


Run = Callable[[str], str]


@contextlib.contextmanager
def kernel() -> Iterator[Run]:
    """Run cells in a kernel with nobody but us on the other side."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd="/", stderr=subprocess.DEVNULL)

    def run(code: str) -> str:
        printed: list[str] = []

        def note(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = client.execute_interactive(code, timeout=120, output_hook=note)
        if reply["content"]["status"] != "ok":
            raise RuntimeError("\n".join(reply["content"]["traceback"]))
        return "".join(printed)

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def browser(cells: tuple[str, ...]) -> Iterator[Run]:
    """Run cells in JupyterLab in Chromium; an open dashboard is drawn and on the screen."""
    sys.path.insert(0, str(HERE.parent / "tests" / "browser"))
    from lab import LabServer, chromium_page
    from plots import wait_for_plots

    with (
        tempfile.TemporaryDirectory() as folder,
        LabServer(Path(folder)).running() as server,
        chromium_page(server) as lab,
    ):
        lab.open("costs.ipynb", cells)

        def run(code: str) -> str:
            printed = lab.run_cell(cells.index(code), timeout=120)
            if code == OPEN:
                wait_for_plots(lab.page)
                lab.page.locator(".ucxnb-live").scroll_into_view_if_needed()
                lab.page.wait_for_timeout(1000)
            return printed

        yield run


def cells_for(seconds: float) -> tuple[str, str, str, str]:
    """Code that sets up, that warms up, that measures rates, and that measures processor time."""
    return (
        SETUP.format(folder=str(HERE)),
        WARM_UP.format(seconds=seconds),
        MEASURE.format(seconds=seconds),
        CPU.format(seconds=12 * seconds),
    )


def between(costs: list[float]) -> tuple[float, float]:
    """Where the true median lies, with 95 % confidence, whatever the distribution."""
    ordered, half = sorted(costs), 0.98 * len(costs) ** 0.5
    first = max(0, int(len(costs) / 2 - half))
    return ordered[first], ordered[-1 - first]


def dashboard_cost(run: Run, repeats: int, seconds: float) -> dict[str, Any]:
    """Part of the message rate that an open dashboard takes; closed, open, open, closed, ..."""
    setup, warm_up, measure, cpu = cells_for(seconds)

    def rates() -> list[float]:
        return [float(number) for number in run(measure).split()]

    def rates_when_open() -> list[float]:
        run(OPEN)
        try:
            time.sleep(SETTLE)
            return rates()
        finally:
            run(CLOSE)

    run(setup)
    idle = float(run(cpu))
    run(OPEN)
    busy = float(run(cpu))
    run(CLOSE)
    run(warm_up)
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            opened, closed = rates_when_open(), rates()
        else:
            closed, opened = rates(), rates_when_open()
        pairs.append((closed, opened))
    run(END)
    found: dict[str, Any] = {"cpu_share_closed": idle, "cpu_share_open": busy}
    for i, how in enumerate(HOW):
        costs = [1 - opened[i] / closed[i] for closed, opened in pairs]
        found[how] = {
            "cost": statistics.median(costs),
            "cost_between": between(costs),
            "costs": [round(cost, 4) for cost in costs],
            "rate_closed": statistics.median(closed[i] for closed, _ in pairs),
            "rate_open": statistics.median(opened[i] for _, opened in pairs),
        }
    return found


def main() -> None:
    """Write JSON, and print what the targets are about."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "costs.json")
    parser.add_argument("--starts", type=int, default=15, help="fresh processes of each kind")
    parser.add_argument("--repeats", type=int, default=40, help="pairs of dashboard closed, open")
    parser.add_argument("--seconds", type=float, default=0.4, help="of one turn of traffic")
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    needed = ["numpy", "ipywidgets", "anywidget", "bokeh", "jupyterlab"]
    if not options.no_browser:
        needed += ["playwright", "nbformat"]
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        sys.exit(f"missing: {', '.join(missing)}; pip install 'ucxnb[test]'")
    where = machine()
    figures: dict[str, Any] = {**import_cost(options.starts), **start_cost(options.starts)}
    sizes = (options.repeats, options.seconds)
    with kernel() as run:
        figures["dashboard"] = dashboard_cost(run, *sizes)
    figures["dashboard_cost"] = max(figures["dashboard"][how]["cost"] for how in HOW)
    figures["dashboard_cost_with_browser"] = None
    if not options.no_browser:
        with browser((*cells_for(options.seconds), OPEN, CLOSE, END)) as run:
            figures["dashboard_with_browser"] = dashboard_cost(run, *sizes)
        figures["dashboard_cost_with_browser"] = max(
            figures["dashboard_with_browser"][how]["cost"] for how in HOW
        )
    figures["machine"] = where
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{name:34} {value if isinstance(value, bool | None) else round(value, 4)}")


if __name__ == "__main__":
    main()
