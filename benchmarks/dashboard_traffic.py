"""Traffic in a kernel, whose message rate is taken with and without a dashboard."""

from __future__ import annotations

import contextlib
import os
import time

import numpy as np
from peer import python_peer

from ucxnb import UcxWorker

SIZE, COUNT = 8, 200_000
SERVER = """
import sys
import numpy as np
from ucxnb import UcxWorker
size, count = map(int, sys.argv[1:])
with UcxWorker() as worker:
    print(worker.create_listener().address, flush=True)
    client = worker.receive_message(None, 0).endpoint_id
    rows, buffer = np.zeros((count, size), "u1"), bytearray(size)
    while True:
        how = worker.receive_tag(client, 0)
        worker.send_tag(client, 2, b"ready")
        if how == b"rows":
            worker.receive_rows(client, 1, rows)
        else:
            for _ in range(count):
                worker.receive_tag(client, 1, buffer)
        worker.send_tag(client, 2, b"done")
"""


class Traffic:
    """A worker that sends to a process of its own; to be closed.

    Sender and receiver have a core each if there are two: when they happen to share one, the rate
    is another. The dashboard's thread goes where it likes.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        server = self._stack.enter_context(python_peer(SERVER, SIZE, COUNT))
        self.worker = self._stack.enter_context(UcxWorker())
        self._there = self.worker.connect(server.address)  # type: ignore[attr-defined]
        self.worker.send_tag(self._there, 0, b"")
        self._cores = os.sched_getaffinity(0)
        os.sched_setaffinity(server.pid, {max(self._cores)})
        self._rows = np.zeros((COUNT, SIZE), "u1")

    def rate(self, how: str, seconds: float) -> float:
        """Messages a second, as ``"rows"`` or in ``"single"`` calls, for `seconds` at least."""
        os.sched_setaffinity(0, {min(self._cores)})  # this thread only
        try:
            return self._turn(how, seconds)
        finally:
            os.sched_setaffinity(0, self._cores)

    def _turn(self, how: str, seconds: float) -> float:
        worker, there, data = self.worker, self._there, bytes(SIZE)
        batches, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            worker.send_tag(there, 0, how.encode())
            worker.receive_tag(there, 2)
            if how == "rows":
                worker.send_rows(there, 1, self._rows)
            else:
                for _ in range(COUNT):
                    worker.send_tag(there, 1, data)
            worker.receive_tag(there, 2)
            batches += 1
        return batches * COUNT / (time.perf_counter() - start)

    def cpu_share(self, seconds: float) -> float:
        """Processor time of this process while nothing is sent, share of a core."""
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(seconds)
        return (time.process_time() - cpu) / (time.perf_counter() - wall)

    def close(self) -> None:
        """End the process and the worker."""
        self._stack.close()
