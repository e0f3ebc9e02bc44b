"""Messages a second, one way: rows of an array, a list, and single calls, beside ucx_perftest."""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from peer import perftest, python_peer

from ucxnb import UcxWorker

SERVER = """
import sys
import numpy as np
from ucxnb import UcxWorker
size, count, chunk = map(int, sys.argv[1:])
with UcxWorker() as worker:
    print(worker.create_listener().address, flush=True)
    client = worker.receive_message(None, 0).endpoint_id
    rows, buffer, tags = np.zeros((count, size), "u1"), bytearray(size), [1] * chunk
    while True:
        how = worker.receive_tag(client, 0)
        if how == b"quit":
            break
        worker.send_tag(client, 2, b"ready")
        if how == b"rows":
            worker.receive_rows(client, 1, rows)
        elif how == b"list":
            for _ in range(count // chunk):
                worker.receive_tags(client, tags)
        else:
            for _ in range(count):
                worker.receive_tag(client, 1, buffer)
        worker.send_tag(client, 2, b"done")
    worker.receive_tag(client, 3)
"""
HOW = ("rows", "list", "single")


def ours(size: int, count: int, chunk: int) -> tuple[list[float], str]:
    """Millions of messages a second in each way, from first send to the receiver's answer."""
    rates = []
    with python_peer(SERVER, size, count, chunk) as server, UcxWorker() as worker:
        there = worker.connect(server.address)
        worker.send_tag(there, 0, b"")
        rows, data = np.zeros((count, size), "u1"), bytes(size)
        messages = [(1, data)] * chunk
        for how in (*HOW, *HOW):  # the first time to warm up
            worker.send_tag(there, 0, how.encode())
            worker.receive_tag(there, 2)
            start = time.perf_counter()
            if how == "rows":
                worker.send_rows(there, 1, rows)
            elif how == "list":
                for _ in range(count // chunk):
                    worker.send_tags(there, messages)
            else:
                for _ in range(count):
                    worker.send_tag(there, 1, data)
            worker.receive_tag(there, 2)
            rates.append(count / (time.perf_counter() - start) / 1e6)
        transports = ",".join(name.partition("/")[0] for name in worker.endpoints()[0].transports)
        worker.send_tag(there, 0, b"quit")
        worker.send_tag(there, 3, b"")
    return rates[len(HOW) :], transports


def main() -> None:
    """Print a table, one line a repeat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8, help="bytes of a message")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=10_000, help="messages of a list")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.count:,} messages of {options.size} bytes, millions a second")
    print("repeat" + "".join(f"{name:>10}" for name in (*HOW, "perftest")))
    table = []
    for repeat in range(options.repeats):
        rates, transports = ours(options.size, options.count, options.chunk)
        limit = perftest("tag_bw", options.size, options.count, transports)[-1] / 1e6
        table.append([*rates, limit])
        print(f"{repeat:6}" + "".join(f"{value:10.2f}" for value in table[-1]))
    medians = [statistics.median(column) for column in zip(*table, strict=True)]
    ratios = [statistics.median(r[i] / r[-1] for r in table) for i in range(len(medians))]
    print("median" + "".join(f"{value:10.2f}" for value in medians))
    print("ratio " + "".join(f"{value:10.2f}" for value in ratios))
    print(f"transports of both: {transports}")


if __name__ == "__main__":
    main()
