"""What a worker's history, and a dashboard over a long time, cost as they fill up."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ucxnb import StatsHistory, WorkerStats

# An hour and a day of one sample a second, and a day of ten; the most that a worker takes.
LENGTHS = (600, 3_600, 86_400, 864_000, 1_000_000)
# What a dashboard has seen at ten samples a second: a minute, ten, an hour, a day.
SAMPLES = (600, 6_000, 36_000, 864_000)
STEP = 0.1  # seconds
PAGE = 4096
REPEATS = 5


def resident() -> int:
    """Resident memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def seconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def append(history: StatsHistory, first: int, count: int) -> float:
    """Append samples in which something moved each time; microseconds each."""
    start = time.perf_counter()
    for i in range(first, first + count):
        # Numbers as large as real counters are, which take memory of their own.
        history.append(WorkerStats(i + 2**40, i + 2**41, i + 2**42, i + 2**43, 0, i / 10, 1))
    return (time.perf_counter() - start) / count * 1e6


def measure_history(length: int) -> dict[str, float]:
    """Fill a history, and go on for another half of its length."""
    before = resident()
    history = StatsHistory(length)
    appended = append(history, 0, length)
    full = resident()
    beyond = append(history, length, max(1, length // 2))
    assert len(history) == length
    return {
        "append, us": appended,
        "append when full, us": beyond,
        "memory, MB": (full - before) / 1e6,
        "memory after half as many more, MB": (resident() - before) / 1e6,
        "snapshots(), ms": seconds(history.snapshots) * 1e3,
        "rates(), ms": seconds(lambda: sum(1 for _ in history.rates()), 3) * 1e3,
    }


def measure_dashboard(samples: int) -> dict[str, float]:
    """One update of a dashboard that has seen so many samples, and one with all of its points."""
    from ucxnb import UcxWorker
    from ucxnb.dashboard import Dashboard
    from ucxnb.dashboard.series import Tiers

    sent: list[int] = []
    with UcxWorker() as worker:
        dashboard = Dashboard(worker, interval=STEP)
        dashboard._ticker.stop()  # the ticks here are ours
        dashboard.widget.send = lambda content, buffers: sent.append(sum(map(len, buffers)))
        start = time.time() - STEP * samples
        for feed in dashboard._components.feeds.values():
            if isinstance(feed, Tiers):
                for i in range(samples):
                    feed.append(start + STEP * i, *[i] * (len(feed.columns) - 1))
        dashboard.widget.window = dashboard.widget.windows[-1]
        dashboard._tick()

        def tick(full: bool) -> None:
            dashboard._full_due = 0.0 if full else float("inf")
            dashboard._tick()

        figures = {
            "update, us": seconds(lambda: tick(False), 200) * 1e6,
            "update with all points, ms": seconds(lambda: tick(True), 20) * 1e3,
            "all points, kB": sent[-1] / 1000,
        }
        dashboard.close()
    return figures


def run(lengths: tuple[int, ...], samples: tuple[int, ...]) -> dict[str, Any]:
    """Each length in a process of its own: its memory starts small."""
    spawn = multiprocessing.get_context("spawn")
    table: dict[str, Any] = {}
    for name, measure, sizes in (
        ("history", measure_history, lengths),
        ("dashboard", measure_dashboard, samples),
    ):
        rows = table.setdefault(name, {})
        for size in sizes:
            with spawn.Pool(1) as pool:
                rows[str(size)] = pool.apply(measure, (size,))
    return table


def main() -> None:
    """Print the tables as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--samples", type=int, nargs="+", default=list(SAMPLES))
    options = parser.parse_args()
    print(json.dumps(run(tuple(options.lengths), tuple(options.samples)), indent=1))


if __name__ == "__main__":
    main()
