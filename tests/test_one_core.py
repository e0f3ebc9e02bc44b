"""Two processes on one core: neither may wait through the other's time slice."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time

import pytest
from children import children

from ucxnb import UcxWorker

TIMEOUT = 60
ROUNDS = 1000
SLICES = 20
# A round trip takes some microseconds, a slice some milliseconds.
FRACTION = 0.25  # one that waits for the other's slice to end takes half of one, or more
MESSAGE = b"8 bytes."


def block(worker, endpoint_id, speaks_first):
    for _ in range(ROUNDS):
        if speaks_first:
            worker.send_tag(endpoint_id, 1, MESSAGE)
        assert worker.receive_tag(endpoint_id, 1, timeout=TIMEOUT) == MESSAGE
        if not speaks_first:
            worker.send_tag(endpoint_id, 1, MESSAGE)
        yield


def request(worker, endpoint_id, speaks_first):
    for _ in range(ROUNDS):
        receive = worker.ireceive_tag(endpoint_id, 1)
        if speaks_first:
            worker.isend_tag(endpoint_id, 1, MESSAGE).wait(TIMEOUT)
        assert receive.wait(TIMEOUT).data == MESSAGE
        if not speaks_first:
            worker.isend_tag(endpoint_id, 1, MESSAGE).wait(TIMEOUT)
        yield


def await_each(worker, endpoint_id, speaks_first):
    async def once():
        receive = worker.ireceive_tag(endpoint_id, 1)
        if speaks_first:
            await worker.isend_tag(endpoint_id, 1, MESSAGE)
        assert (await receive).data == MESSAGE
        if not speaks_first:
            await worker.isend_tag(endpoint_id, 1, MESSAGE)

    with asyncio.Runner() as runner:
        for _ in range(ROUNDS):
            runner.run(once())
            yield


WAYS = {"blocking": block, "requests": request, "awaited": await_each}


def go_to(core):
    """All threads of this process, also those that are there already."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {core})


def answer(channel, core, way, options):
    go_to(core)
    with UcxWorker(ucx_options=options) as worker:
        channel.send(worker.create_listener().address)
        channel.receive()
        for _ in WAYS[way](worker, worker.get_endpoint_ids()[0], False):
            pass


def ask(channel, core, way, options, address):
    """Seconds of each round trip."""
    go_to(core)
    with UcxWorker(ucx_options=options) as worker:
        endpoint_id = worker.connect(address)
        channel.send(None)
        seconds, before = [], time.perf_counter()
        for _ in WAYS[way](worker, endpoint_id, True):
            now = time.perf_counter()
            seconds.append(now - before)
            before = now
        return seconds


def spin(channel, core):
    """Seconds in which another process that never waits has the core."""
    go_to(core)
    channel.send(None)
    channel.receive()
    gaps, before = [], time.perf_counter()
    while len(gaps) < SLICES:
        now = time.perf_counter()
        if now - before > 0.0003:
            gaps.append(now - before)
        before = now
    channel.send(gaps)
    # The other one counts until it has seen as many.
    stop = threading.Event()
    threading.Thread(target=lambda: (channel.receive(), stop.set())).start()
    while not stop.is_set():
        pass


@pytest.fixture(scope="module")
def core():
    return max(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def time_slice(core):
    """Seconds that the scheduler lets one of two busy processes run."""
    with children() as start:
        spinners = [start(spin, core) for _ in range(2)]
        for spinner in spinners:
            spinner.receive()
        for spinner in spinners:
            spinner.send("go")
        gaps = [gap for spinner in spinners for gap in spinner.receive()]
        for spinner in spinners:
            spinner.send("enough")
        for spinner in spinners:
            spinner.result()
    return statistics.median(gaps)


@pytest.mark.reliability
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"TLS": "tcp"}], ids=["default", "tcp"])
def test_a_ping_pong_on_one_core_does_not_fall_to_the_time_slice(
    start_child, saw, core, time_slice, way, options
):
    server = start_child(answer, core, way, options)
    client = start_child(ask, core, way, options, server.receive())
    client.receive()
    server.send(None)
    seconds = client.result()
    server.result()
    median = statistics.median(seconds)
    assert median < FRACTION * time_slice, f"{median:.6f} s, of a slice of {time_slice:.6f} s"
    wire = options.get("TLS", "shared memory")
    saw(
        "threads",
        f"two processes on one core send 8 B to and fro over {wire}, {way}: half a round trip",
        tried=ROUNDS,
        sees="the median is far below the time slice of the scheduler",
        seconds=[s / 2 for s in seconds],
        lost="nothing",
    )
