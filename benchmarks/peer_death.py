"""How soon a worker knows that a peer was killed (SIGKILL), and that it goes on with another."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import threading
import time

from ucxnb import EchoPeer, EndpointLostError, ThreadMode, UcxWorker


def one_death(worker: UcxWorker, other: int) -> tuple[float, float]:
    """Seconds from the kill to ``is_connected`` False, and to the end of a blocked receive."""
    ended: list[float] = []
    peer = EchoPeer()
    endpoint_id = worker.connect(peer.address)
    worker.send_tag(endpoint_id, 1, b"?")
    assert worker.receive_tag(endpoint_id, 1, timeout=10) == b"?"

    def blocked() -> None:
        try:
            worker.receive_tag(endpoint_id, 2)
        except EndpointLostError:
            ended.append(time.perf_counter())

    thread = threading.Thread(target=blocked)
    thread.start()
    time.sleep(0.2)
    start = time.perf_counter()
    os.kill(peer.pid, signal.SIGKILL)
    while worker.is_connected(endpoint_id):
        time.sleep(0.0001)
    noticed = time.perf_counter() - start
    thread.join()
    peer.close()
    worker.send_tag(other, 3, b"still there")
    assert worker.receive_tag(other, 3, timeout=10) == b"still there"
    return noticed, ended[0] - start


def main() -> None:
    """Print median and maximum of several deaths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    with EchoPeer() as other, UcxWorker(thread_mode=ThreadMode.MULTI) as worker:
        other_id = worker.connect(other.address)
        deaths = [one_death(worker, other_id) for _ in range(options.repeats)]
    for name, column in zip(
        ("is_connected is False", "blocked receive ends"), zip(*deaths, strict=True), strict=True
    ):
        milliseconds = [seconds * 1e3 for seconds in column]
        print(
            f"{name:24} median {statistics.median(milliseconds):6.2f} ms   "
            f"max {max(milliseconds):6.2f} ms   of {len(column)}"
        )


if __name__ == "__main__":
    main()
