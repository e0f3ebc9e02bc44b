"""How latency, statistics, idle cost and memory of a worker grow with its endpoints."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from peer import python_peer

from ucxnb import UcxWorker

ECHO = """
import os
from ucxnb import UcxWorker
with UcxWorker() as worker:
    print(worker.create_listener().address, flush=True)
    client = worker.receive_message(None, 0).endpoint_id
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # this thread only
    while True:
        worker.send_tag(client, 2, worker.receive_tag(client, 1))
"""
# Few workers, each connected many times: as many endpoints, without a process for each.
CROWD = """
import resource, sys, time
from ucxnb import UcxWorker
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
address, count = sys.argv[1], int(sys.argv[2])
workers = [UcxWorker() for _ in range(min(count, 10))]
start = time.perf_counter()
for i in range(count):
    workers[i % len(workers)].connect(address)
print(time.perf_counter() - start, flush=True)
sys.stdin.read()
"""
COUNTS = (1, 10, 100, 300, 1000)
DESCRIPTORS = 3  # that an endpoint needs at most
PAGE = 4096
CALLS = 2000
ROUND_TRIPS = 500
REPEATS = 5


def batches_ns(call: Callable[[], object], calls: int, repeats: int) -> list[float]:
    """Mean time of a call, nanoseconds, in each batch."""
    batches = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        batches.append((time.perf_counter_ns() - start) / calls)
    return batches


def median_ns(call: Callable[[], object], calls: int = CALLS) -> float:
    """Median over batches of the mean time of a call, nanoseconds."""
    return statistics.median(batches_ns(call, calls, REPEATS))


def least_ns(call: Callable[[], object]) -> float:
    """Least over many short batches: for a difference of two calls that take about as long."""
    return min(batches_ns(call, CALLS // 10, 20 * REPEATS))


def half_round_trips_us(worker: UcxWorker, there: int) -> tuple[float, float]:
    """Half round trip of 8 bytes, answers received from that endpoint and from anyone, us.

    In turns, each process on a core of its own: on the same one they take 25 us, and the kernel may
    leave them there. The least of the medians, for the same reason.
    """
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    send, receive = worker.send_tag, worker.receive_tag
    medians: dict[int | None, list[float]] = {there: [], None: []}
    for _ in range(2 * REPEATS):
        for source, found in medians.items():
            times = []
            for _ in range(ROUND_TRIPS):
                start = time.perf_counter_ns()
                send(there, 1, b"8 bytes.")
                receive(source, 2)
                times.append(time.perf_counter_ns() - start)
            found.append(statistics.median(times) / 2000)
    os.sched_setaffinity(0, everywhere)
    return min(medians[there]), min(medians[None])


def progress_ns(worker: UcxWorker) -> float:
    """Time of a step of ``ucp_worker_progress`` that finds nothing, nanoseconds.

    Called by ctypes; a call of nothing by ctypes is taken off.
    """
    library = ctypes.CDLL("libucp.so.0")  # loaded already, so this is that one
    handle = ctypes.c_void_p(worker._ucp.handle)
    progress, nothing = library.ucp_worker_progress, ctypes.CDLL(None).abs
    progress.argtypes = [ctypes.c_void_p]
    return max(0.0, least_ns(lambda: progress(handle)) - least_ns(lambda: nothing(handle)))


def resident() -> int:
    """Resident memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def idle_share(seconds: float) -> float:
    """Processor time of all threads of this process while it does nothing, share of a core."""
    time.sleep(0.3)
    cpu, wall = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


def measure(count: int, idle_seconds: float) -> dict[str, float]:
    """All figures of a worker with `count` endpoints, by name and unit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if count * DESCRIPTORS + 100 > hard:
        raise SystemExit(
            f"{count} endpoints need {count * DESCRIPTORS + 100} open files: ulimit -n"
        )
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(UcxWorker())
        listener = worker.create_listener()
        echo = stack.enter_context(python_peer(ECHO))
        there = worker.connect(echo.address)  # type: ignore[attr-defined]
        worker.send_tag(there, 0, b"")
        half_round_trips_us(worker, there)
        memory, files = resident(), descriptors()
        if count > 1:
            crowd = stack.enter_context(python_peer(CROWD, listener.address, count - 1))
            seconds = float(crowd.address)  # type: ignore[attr-defined]
        memory, files = resident() - memory, descriptors() - files
        assert len(worker.get_endpoint_ids()) == count
        look = worker.try_receive_tag
        from_one, from_anyone = half_round_trips_us(worker, there)
        figures = {
            "receive from one endpoint, us": from_one,
            "receive from anyone, us": from_anyone,
            "try_receive_tag, nothing there, ns": median_ns(lambda: look(None, 3)),
            "progress, idle, ns": progress_ns(worker),
            "stats(), ns": median_ns(worker.stats),
            "get_endpoint_ids(), us": median_ns(worker.get_endpoint_ids) / 1000,
            "endpoints(), us": median_ns(worker.endpoints, max(3, CALLS // 20 // count)) / 1000,
            "idle worker, % of a core": idle_share(idle_seconds) * 100,
        }
        if count > 1:
            figures["memory, kB an endpoint"] = memory / (count - 1) / 1000
            figures["descriptors, an endpoint"] = files / (count - 1)
            figures["connect(), ms an endpoint"] = seconds / (count - 1) * 1000
        # Last: nobody receives these.
        calls = max(3, 600 // count)
        broadcast = median_ns(lambda: worker.broadcast_tag(9, b"8 bytes."), calls)
        figures["broadcast_tag, us an endpoint"] = broadcast / 1000 / count
    return figures


def run(counts: tuple[int, ...], idle_seconds: float) -> dict[str, dict[str, float]]:
    """Each count in a process of its own."""
    table = {}
    spawn = multiprocessing.get_context("spawn")
    for count in counts:
        with spawn.Pool(1) as pool:
            table[str(count)] = pool.apply(measure, (count, idle_seconds))
    return table


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--idle-seconds", type=float, default=5.0)
    options = parser.parse_args()
    print(json.dumps(run(tuple(options.counts), options.idle_seconds), indent=1))


if __name__ == "__main__":
    main()
