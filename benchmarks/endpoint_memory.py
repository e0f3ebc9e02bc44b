"""Memory and time of a connection, made and closed again and again, beside UCXX's own endpoints."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import ucxx._lib.libucxx as libucxx
from peer import python_peer

from ucxnb import UcxWorker

SERVER = """
import sys
from pathlib import Path
from ucxnb import UcxWorker
with UcxWorker() as worker:
    print(worker.create_listener().address, flush=True)
    for line in sys.stdin:
        print(Path("/proc/self/statm").read_text().split()[1], flush=True)
"""
PAGE = 4096


def resident() -> int:
    """Resident memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def repeat(action: Callable[[], None], count: int) -> tuple[float, float]:
    """Bytes and seconds that each of `count` runs costs, after a warm-up."""
    for _ in range(count // 4):
        action()
    before, start = resident(), time.perf_counter()
    for _ in range(count):
        action()
    return (resident() - before) / count, (time.perf_counter() - start) / count


def ours(count: int) -> None:
    """Connect and disconnect, front door included; print the cost on both sides."""
    with python_peer(SERVER) as server, UcxWorker() as worker:
        assert server.stdin is not None
        assert server.stdout is not None

        def server_resident() -> int:
            server.stdin.write("\n")
            return int(server.stdout.readline()) * PAGE

        def connect() -> None:
            worker.disconnect(worker.connect(server.address))

        for _ in range(count // 4):
            connect()
        there = server_resident()
        here, seconds = repeat(connect, count)
        # The server has seen the warm-up of `repeat` as well.
        there = (server_resident() - there) / (count + count // 4)
        print(f"ucxnb, connecting side      {here:8.0f} bytes   {seconds * 1e3:6.2f} ms")
        print(f"ucxnb, listening side       {there:8.0f} bytes")


def ucxx(count: int, close: str) -> None:
    """Make and close UCXX endpoints from a worker address; no front door, one process."""
    context = libucxx.UCXContext({"MM_ERROR_HANDLING": "y"})
    here, there = (
        libucxx.UCXWorker(context, enable_delayed_submission=False, enable_python_future=False)
        for _ in range(2)
    )
    address = there.address

    def make() -> None:
        endpoint = libucxx.UCXEndpoint.create_from_worker_address(
            here, address, endpoint_error_handling=True
        )
        for _ in range(20):
            here.progress()
            there.progress()
        getattr(endpoint, close)()

    memory, seconds = repeat(make, count)
    print(f"UCXX, {close + '()':20}  {memory:8.0f} bytes   {seconds * 1e3:6.2f} ms")


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    print(f"{options.count} connections, cost of each")
    ours(options.count)
    for close in ("close", "close_blocking"):
        ucxx(options.count, close)


if __name__ == "__main__":
    main()
