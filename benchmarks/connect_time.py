"""Time of a connect with a key and without one, in turns."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time

from peer import python_peer

from ucxnb import UcxWorker

KEY = "a key for a measurement"
SERVER = """
import sys
from ucxnb import UcxWorker
with UcxWorker(auth_key=sys.argv[1] or None) as worker:
    print(worker.create_listener().address, flush=True)
    sys.stdin.read()
"""
# The second ones tell how far two equal ones are apart.
CASES = {
    "without a key": None,
    "with a key": KEY,
    "without a key, again": None,
    "with a key, again": KEY,
}


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="connects of each case")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        pairs = {}
        for case, key in CASES.items():
            server = stack.enter_context(python_peer(SERVER, key or ""))
            worker = stack.enter_context(UcxWorker(auth_key=key))
            pairs[case] = worker, server.address
        seconds: dict[str, list[float]] = {case: [] for case in pairs}
        for number in range(options.count + options.count // 10):
            for case, (worker, address) in pairs.items():
                start = time.perf_counter()
                endpoint_id = worker.connect(address)
                took = time.perf_counter() - start
                worker.disconnect(endpoint_id)
                if number >= options.count // 10:
                    seconds[case].append(took)
    print(f"connect, median of {options.count} between two processes, in turns")
    for case, values in seconds.items():
        low, median, high = statistics.quantiles(values, n=4)
        print(
            f"{case:22} {median * 1e6:7.0f} us   (middle half {low * 1e6:.0f} to {high * 1e6:.0f})"
        )


if __name__ == "__main__":
    main()
