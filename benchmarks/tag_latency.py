"""Half round trip of small messages between two processes, beside ``ucx_perftest -t tag_lat``."""

from __future__ import annotations

import argparse
import statistics
import time

from peer import perftest, python_peer

from ucxnb import UcxWorker

SERVER = """
import sys
from ucxnb import UcxWorker
size, rounds = int(sys.argv[1]), int(sys.argv[2])
with UcxWorker() as worker:
    print(worker.create_listener().address, flush=True)
    buffer, data = bytearray(size), bytes(size)
    client = worker.receive_message(None, 0).endpoint_id
    for _ in range(rounds):
        worker.receive_tag(client, 1, buffer)
        worker.send_tag(client, 1, data)
    worker.receive_tag(client, 2)
"""


def ours(size: int, iterations: int) -> tuple[float, float, str]:
    """Median and 99th percentile of the half round trip, us; and the transports."""
    warmup = iterations // 10
    with python_peer(SERVER, size, warmup + iterations) as server, UcxWorker() as worker:
        there = worker.connect(server.address)
        worker.send_tag(there, 0, b"")
        buffer, data = bytearray(size), bytes(size)
        send, receive, now = worker.send_tag, worker.receive_tag, time.perf_counter_ns
        for _ in range(warmup):
            send(there, 1, data)
            receive(there, 1, buffer)
        times = []
        for _ in range(iterations):
            start = now()
            send(there, 1, data)
            receive(there, 1, buffer)
            times.append(now() - start)
        transports = ",".join(name.partition("/")[0] for name in worker.endpoints()[0].transports)
        worker.send_tag(there, 2, b"")
    times.sort()
    return times[len(times) // 2] / 2e3, times[len(times) * 99 // 100] / 2e3, transports


def main() -> None:
    """Print a table, one line a repeat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8, help="bytes of a message")
    parser.add_argument("--iterations", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"half round trip of {options.size} bytes, us")
    print("repeat   ucxnb   (p99)   ucx_perftest   ratio")
    rows = []
    for repeat in range(options.repeats):
        mine, tail, transports = ours(options.size, options.iterations)
        theirs = perftest("tag_lat", options.size, options.iterations, transports)[1]
        rows.append((mine, theirs))
        print(f"{repeat:6}   {mine:5.3f}   {tail:5.2f}   {theirs:12.3f}   {mine / theirs:5.2f}")
    mine, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"median   {mine:5.3f}           {theirs:12.3f}   {mine / theirs:5.2f}")
    print(f"transports of both: {transports}")


if __name__ == "__main__":
    main()
