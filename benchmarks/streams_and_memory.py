"""Streams and one-sided memory beside ``ucx_perftest``, in one run: half round trips, and one way.

Each figure is the median of several turns; in each turn the two are measured one after the other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

from ucxnb import UcxWorker
from ucxnb.bench import run_perftest
from ucxnb.text import parse_size, size_text

SIZES = ("8", "8 KiB", "64 KiB", "1 MiB", "16 MiB")
TRANSPORTS = {"shm": ("sysv", "posix", "self"), "tcp": ("tcp", "self")}
# What is measured, by ucx_perftest's name for it; one way ends when the peer says it has all.
ROUND_TRIPS = {"stream_lat": "stream", "ucp_put_lat": "put"}
ONE_WAY = {"stream_bw": "stream", "ucp_put_bw": "put", "ucp_get": "get"}


class Link(NamedTuple):
    """One side's worker and connection, its memory and the key of the other's."""

    worker: UcxWorker
    endpoint_id: int
    memory: memoryview
    key: bytes


def stream(link: Link, buffer: memoryview, count: int, first: bool) -> None:
    """Half of the streams' round trips."""
    worker, endpoint_id = link.worker, link.endpoint_id
    for _ in range(count):
        if first:
            worker.send_stream(endpoint_id, buffer)
        worker.receive_stream(endpoint_id, buffer, True)
        if not first:
            worker.send_stream(endpoint_id, buffer)


def put(link: Link, buffer: memoryview, count: int, first: bool) -> None:
    """Half of the puts' round trips: each side looks at its memory until the last byte is there."""
    worker, endpoint_id, memory, key = link
    last = len(buffer) - 1
    for number in range(count):
        mark = number % 251 + 1
        buffer[last] = mark
        if first:
            worker.put(endpoint_id, buffer, key)
        looks = 0
        while memory[last] != mark:
            looks += 1
            if looks % 16 == 0:
                worker.progress()
        if not first:
            worker.put(endpoint_id, buffer, key)
    memory[last] = 0


def stream_one_way(link: Link, buffer: memoryview, count: int, first: bool) -> None:
    """Many sends, and one answer."""
    worker, endpoint_id = link.worker, link.endpoint_id
    if first:
        for _ in range(count):
            worker.send_stream(endpoint_id, buffer)
        worker.receive_tag(endpoint_id, 2)
    else:
        for _ in range(count):
            worker.receive_stream(endpoint_id, buffer, True)
        worker.send_tag(endpoint_id, 2, b"")


def access_one_way(link: Link, buffer: memoryview, count: int, first: bool, what: str) -> None:
    """Many puts or gets, then all of them done; the other side's program sleeps."""
    worker, endpoint_id = link.worker, link.endpoint_id
    if first:
        access = worker.put if what == "put" else worker.get
        for _ in range(count):
            access(endpoint_id, buffer, link.key)
        worker.flush(endpoint_id)
        worker.send_tag(endpoint_id, 2, b"")
    else:
        worker.receive_tag(endpoint_id, 2)


LOOPS: dict[str, Callable[[Link, memoryview, int, bool], None]] = {
    "stream_lat": stream,
    "ucp_put_lat": put,
    "stream_bw": stream_one_way,
    "ucp_put_bw": lambda *args: access_one_way(*args, "put"),
    "ucp_get": lambda *args: access_one_way(*args, "get"),
}


def linked(worker: UcxWorker, endpoint_id: int, nbytes: int) -> Link:
    """Exchange the keys of memory that UCX allocates."""
    memory = worker.allocate(nbytes)
    worker.send_tag(endpoint_id, 1, memory.remote_key())
    return Link(worker, endpoint_id, memoryview(memory), worker.receive_tag(endpoint_id, 1))


def second(orders: Connection, address: str, transports: tuple[str, ...], nbytes: int) -> None:
    """The other process: its part of each loop, as it is told."""
    with UcxWorker(enable_rma=True, ucx_options={"TLS": ",".join(transports)}) as worker:
        link = linked(worker, worker.connect(address), nbytes)
        buffer = memoryview(bytearray(nbytes))
        while (order := orders.recv()) is not None:
            test, size, count = order
            LOOPS[test](link, buffer[:size], count, False)
            orders.send(None)


def rounds_for(test: str, size: int, transport: str, seconds: float) -> int:
    """About so many fit into the time."""
    one = (0.5e-6 if transport == "shm" else 20e-6) + size / (10e9 if transport == "shm" else 3e9)
    return max(20, int(seconds / one / (2 if test in ROUND_TRIPS else 1)))


def measure(transport: str, sizes: list[int], turns: int, seconds: float) -> None:
    """Print a table of one transport."""
    transports = TRANSPORTS[transport]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    options = {"TLS": ",".join(transports)}
    with UcxWorker(enable_rma=True, ucx_options=options) as worker:
        listener = worker.create_listener()
        arguments = (theirs, listener.address, transports, max(sizes))
        process = context.Process(target=second, args=arguments, daemon=True)
        process.start()
        while not worker.get_endpoint_ids():
            time.sleep(0.01)
        link = linked(worker, worker.get_endpoint_ids()[0], max(sizes))
        buffer = memoryview(bytearray(max(sizes)))
        for test in LOOPS:
            for size in sizes:
                count = rounds_for(test, size, transport, seconds)
                mine, limit = [], []
                for _ in range(turns):
                    ours.send((test, size, count))
                    began = time.perf_counter()
                    LOOPS[test](link, buffer[:size], count, True)
                    mine.append((time.perf_counter() - began) / count)
                    ours.recv()
                    # Its server sleeps between two looks, and only there is a get answered.
                    few = min(count, 300) if test == "ucp_get" else count
                    limit.append(run_perftest(test, size, few, transports=transports).average_us)
                us = statistics.median(mine) * 1e6 / (2 if test in ROUND_TRIPS else 1)
                least = statistics.median(limit)
                unit = "half round trip" if test in ROUND_TRIPS else "each"
                print(
                    f"| {transport} | {test} | {size_text(size)} | {us:.2f} us {unit}, "
                    f"{size / us:,.0f} MB/s | {least:.2f} us | {us / least:.2f} |",
                    flush=True,
                )
        ours.send(None)
        process.join(10)


def main() -> None:
    """Read the command line, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(SIZES), help="such as 8,64 KiB")
    parser.add_argument("--transports", default="shm,tcp", help="shm, tcp or both")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn, about")
    args = parser.parse_args()
    sizes = [parse_size(size) for size in args.sizes.split(",")]
    os.environ.setdefault("UCX_WARN_UNUSED_ENV_VARS", "n")
    for side in ("TX", "RX"):  # what ucxnb sets for itself, for ucx_perftest too
        os.environ.setdefault(f"UCX_TCP_{side}_SEG_SIZE", "512k")
    print("| over | test | size | ucxnb | ucx_perftest | ratio |\n|---|---|---|---|---|---|")
    for transport in args.transports.split(","):
        measure(transport, sizes, args.turns, args.seconds)


if __name__ == "__main__":
    main()
