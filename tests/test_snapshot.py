"""A snapshot tells the truth about a worker, whichever way its messages went."""

from __future__ import annotations

import asyncio
import json
import pickle
import signal
import time
from collections import Counter

import numpy as np
import pytest
from eventually import eventually

from ucxnb import Histogram, OperationTimeoutError, Snapshot, UcxWorker

SHM_AND_TCP = pytest.mark.parametrize("tls", ["shm,self", "tcp,self"])
KINDS = ("blocking", "requests", "awaited", "list", "rows", "broadcast", "polled", "messages")
SIZES = (0, 1, 8, 100, 8192, 8193, 70_000, 3_000_000)


def two(tls: str) -> tuple[UcxWorker, UcxWorker]:
    options = {"TLS": tls}
    return UcxWorker(ucx_options=options), UcxWorker(ucx_options=options)


def by_bucket(sizes: list[int]) -> Histogram:
    buckets = Counter(size.bit_length() for size in sizes)
    return Histogram(tuple(buckets[i] for i in range(max(buckets, default=-1) + 1)))


def transfer(kind: str, left: UcxWorker, to_right: int, right: UcxWorker, to_left: int) -> list:
    """Messages of all sizes from left to right, in one of the ways; returns their sizes."""
    data = [bytes(size) for size in SIZES]
    if kind == "rows":
        for size in SIZES[1:6]:
            array = np.ones((7, size), np.uint8)
            left.send_rows(to_right, 1, array)
            # Rows that are too large for their messages, too.
            right.receive_rows(to_left, 1, np.zeros((7, size + size % 2), np.uint8), timeout=30)
        return [size for size in SIZES[1:6] for _ in range(7)]
    receives = [right.ireceive_tag(to_left, tag) for tag in range(len(SIZES))]
    if kind == "awaited":

        async def send_all() -> None:
            for tag, item in enumerate(data):
                await left.isend_tag(to_right, tag, item)

        asyncio.run(send_all())
    elif kind == "requests":
        for request in [left.isend_tag(to_right, tag, item) for tag, item in enumerate(data)]:
            request.wait(30)
    elif kind == "list":
        left.send_tags(to_right, list(enumerate(data)), timeout=30)
    elif kind == "broadcast":
        for tag, item in enumerate(data):
            left.broadcast_tag(tag, item, timeout=30)
    elif kind == "polled":
        for request in receives:
            assert request.cancel()
        for tag, item in enumerate(data[:5]):
            left.send_tag(to_right, tag, item)
            eventually(lambda tag=tag: right.try_receive_tag(to_left, tag) is not None)
        return list(SIZES[:5])
    elif kind == "messages":
        for request in receives:
            assert request.cancel()
        sends = [left.isend_tag(to_right, tag, item) for tag, item in enumerate(data)]
        for tag, item in enumerate(data):
            assert right.receive_message(to_left, tag, timeout=30).data == item
        for request in sends:
            request.wait(30)
        return list(SIZES)
    else:
        for tag, item in enumerate(data):
            left.send_tag(to_right, tag, item, timeout=30)
    for request in receives:
        request.wait(30)
    return list(SIZES)


@SHM_AND_TCP
@pytest.mark.parametrize("kind", KINDS)
def test_every_message_is_counted_by_its_size(tls, kind):
    left, right = two(tls)
    with left, right:
        to_right = left.connect(right.create_listener().address)
        sizes = transfer(kind, left, to_right, right, right.get_endpoint_ids()[0])
        here, there = left.snapshot(), right.snapshot()
        assert here.sizes_sent == there.sizes_received == by_bucket(sizes)
        assert here.sizes_sent.total == here.stats.messages_sent
        assert there.sizes_received.total == there.stats.messages_received
        assert here.sizes_received == there.sizes_sent == Histogram()


def test_a_batch_that_was_given_back_is_counted_once(pair):
    left, to_right, right, to_left = pair
    early = right.ireceive_tag(to_left, 1)
    left.send_rows(to_right, [1, 2], np.ones((2, 100), np.uint8))
    early.wait(30)
    with pytest.raises(OperationTimeoutError):
        right.receive_rows(to_left, [2, 3], np.zeros((2, 100), np.uint8), timeout=0.01)
    assert right.snapshot().sizes_received == by_bucket([100])
    left.send_rows(to_right, 3, np.ones((1, 50), np.uint8))
    right.receive_rows(to_left, [2, 3], np.zeros((2, 100), np.uint8), timeout=30)
    assert right.snapshot().sizes_received == by_bucket([100, 100, 50])


@SHM_AND_TCP
def test_what_is_in_flight_is_seen_until_it_has_been_fetched(tls):
    left, right = two(tls)
    size = 20_000_000
    with left, right:
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        sends = [left.isend_tag(to_right, 1, bytes(size)) for _ in range(3)]
        with pytest.raises(OperationTimeoutError):
            left.send_tag(to_right, 1, bytes(size), timeout=0.01)
        with pytest.raises(OperationTimeoutError):
            left.send_rows(to_right, 1, np.zeros((2, size), np.uint8), timeout=0.01)
        snapshot = left.snapshot()
        (peer,) = snapshot.endpoints
        for stats in (snapshot.stats, peer.stats):
            assert (stats.sends_in_flight, stats.bytes_in_flight) == (5, 6 * size)
        assert snapshot.latencies.total == 0
        for _ in range(6):
            assert len(right.receive_tag(to_left, 1, timeout=30)) == size
        for send in sends:
            send.wait(30)
        eventually(lambda: left.stats().messages_sent == 6)
        assert eventually(lambda: left.stats().sends_in_flight == 0)
        assert left.stats().bytes_in_flight == left.stats(to_right).bytes_in_flight == 0


def test_sends_to_a_peer_that_is_lost_are_not_in_flight_any_more(start_child):
    child = start_child(listen_and_sleep)
    with UcxWorker() as worker:
        peer = worker.connect(child.receive())
        sends = [worker.isend_tag(peer, 1, bytes(5_000_000)) for _ in range(4)]
        assert worker.stats().bytes_in_flight == 20_000_000
        child.kill(signal.SIGKILL)
        for send in sends:
            with pytest.raises(Exception, match=r"gone|lost|failed"):
                send.wait(30)
        assert eventually(lambda: worker.stats().sends_in_flight == 0)
        assert worker.stats().bytes_in_flight == 0


def listen_and_sleep(channel) -> None:
    with UcxWorker() as worker:
        channel.send(worker.create_listener().address)
        channel.receive()


@SHM_AND_TCP
def test_latencies_are_those_of_requests(tls):
    left, right = two(tls)
    with left, right:
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        waiting = right.ireceive_tag(to_left, 1)
        time.sleep(0.05)
        left.send_tag(to_right, 1, b"small")
        waiting.wait(30)
        (late,) = right.snapshot().latencies.percentiles([50])
        assert 40e6 <= late <= 30e9
        assert left.snapshot().latencies.total == 0  # it was done at once
        request = left.isend_tag(to_right, 2, bytes(30_000_000))
        time.sleep(0.05)
        assert len(right.receive_tag(to_left, 2, timeout=30)) == 30_000_000
        request.wait(30)
        (late,) = left.snapshot().latencies.percentiles([50])
        assert 40e6 <= late <= 30e9


def test_a_receive_that_was_withdrawn_has_no_latency(pair):
    _, _, right, to_left = pair
    request = right.ireceive_tag(to_left, 1)
    assert request.cancel()
    assert right.snapshot().latencies.total == 0


def test_an_idle_worker_sleeps_and_one_with_traffic_wakes(pair):
    left, to_right, right, to_left = pair
    eventually(lambda: share_busy(right, 0.3) < 0.1)
    woken = right.snapshot().health.wake_ups
    for number in range(20):
        left.send_tag(to_right, number, b"x")
        time.sleep(0.01)
    assert right.snapshot().health.wake_ups > woken
    for number in range(20):
        right.receive_tag(to_left, number, timeout=30)


def share_busy(worker: UcxWorker, seconds: float) -> float:
    before, start = worker.snapshot().health.busy_seconds, time.monotonic()
    time.sleep(seconds)
    return (worker.snapshot().health.busy_seconds - before) / (time.monotonic() - start)


def test_one_who_drives_without_end_is_busy(pair):
    left, to_right, right, to_left = pair
    data = bytes(8)
    before, start = right.snapshot().health.busy_seconds, time.monotonic()
    while (spent := time.monotonic() - start) < 0.5:
        left.send_tag(to_right, 1, data)
        right.receive_tag(to_left, 1, timeout=30)
    # The rest of the time goes to the sender, and to whoever else wants the core.
    assert right.snapshot().health.busy_seconds - before > 0.1 * spent


def test_a_stop_of_the_process_is_a_gap(start_child):
    child = start_child(watch_own_gap)
    assert child.receive() < 0.35
    child.kill(signal.SIGSTOP)
    time.sleep(0.7)
    child.kill(signal.SIGCONT)
    child.send("go on")
    assert 0.4 < child.receive() < 30
    assert child.receive() < 0.35  # two seconds later it is forgotten


def watch_own_gap(channel) -> None:
    with UcxWorker() as worker:
        time.sleep(0.5)
        channel.send(worker.snapshot().health.longest_gap)
        channel.receive()
        channel.send(
            eventually(lambda: g if (g := worker.snapshot().health.longest_gap) > 0.4 else None)
        )
        eventually(lambda: worker.snapshot().health.longest_gap < 0.35)
        channel.send(worker.snapshot().health.longest_gap)


def test_a_closed_worker_says_so_and_keeps_its_last_values():
    worker = UcxWorker(name="a")
    listener = worker.create_listener()
    assert worker.snapshot().listening == (listener.address,)
    worker.close()
    first = worker.snapshot()
    assert first.closed
    assert first.name == "a"
    assert first.listening == first.endpoints == ()
    time.sleep(0.02)
    assert worker.snapshot().health.busy_seconds == first.health.busy_seconds


def test_a_snapshot_can_be_sent_elsewhere(pair):
    left, to_right, *_ = pair
    left.send_tag(to_right, 1, b"hello")
    snapshot = left.snapshot()
    assert isinstance(snapshot, Snapshot)
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert json.dumps(snapshot.sizes_sent.counts) == "[0, 0, 0, 1]"
