"""Processor time of a worker with 10 endpoints that nobody talks to, and of a blocked receive."""

from __future__ import annotations

import argparse
import time

from peer import python_peer

from ucxnb import OperationTimeoutError, UcxWorker

PEERS = """
import sys
from ucxnb import UcxWorker
workers = [UcxWorker() for _ in range(int(sys.argv[1]))]
listeners = [worker.create_listener() for worker in workers]
print(" ".join(listener.address for listener in listeners), flush=True)
sys.stdin.read()
"""


def main() -> None:
    """Print both as percent of one core; all threads of the process count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with python_peer(PEERS, options.endpoints) as peers, UcxWorker() as worker:
        ids = [worker.connect(address) for address in peers.address.split()]
        time.sleep(0.5)

        def blocked() -> None:
            try:
                worker.receive_tag(ids[0], 1, timeout=options.seconds)
            except OperationTimeoutError:
                return

        for name, wait in (
            ("idle", lambda: time.sleep(options.seconds)),
            ("blocked in receive_tag", blocked),
        ):
            cpu, wall = time.process_time(), time.perf_counter()
            wait()
            share = (time.process_time() - cpu) / (time.perf_counter() - wall)
            print(
                f"{name:24} {share:7.3%} of a core over {options.seconds:g} s, "
                f"{len(worker.get_endpoint_ids())} endpoints"
            )


if __name__ == "__main__":
    main()
