"""Threads on one worker that do everything at once: for a test, and under the sanitizers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module

import numpy as np
from children import children

from ucxnb import (
    BroadcastError,
    EndpointError,
    OperationTimeoutError,
    RemoteKeyError,
    RequestCancelledError,
    ThreadMode,
    UcxWorker,
    UnknownEndpointError,
    WorkerClosedError,
    wait_all,
)

PATIENCE = 100  # seconds: a guard against hanging
ECHOES = 4  # threads of the other side: one for each value of the tags' lowest bits
SIZES = (0, 8, 100, 4096, 8193, 20_000, 300_000)
WINDOW = 8
ROWS = np.arange(64 * 25, dtype=np.uint64).reshape(64, 25)
VISIT, BROADCAST, NEVER = 1 << 20, 1 << 21, 1 << 22
NOISE = random.Random(1).randbytes(1 << 20)


def content(tag: int, number: int) -> bytes:
    """What the message with this tag and number holds."""
    size = SIZES[(tag + number) % len(SIZES)]
    start = (tag * 7919 + number * 104_729) % (len(NOISE) - max(SIZES))
    return NOISE[start : start + size]


# ---- the other side, a process of its own ----


def echo(channel) -> None:
    """Send every message back, in order, and the first peer's stream; and lend memory."""
    with UcxWorker(thread_mode=ThreadMode.MULTI) as worker, UcxWorker(enable_rma=True) as lender:
        channel.send((worker.create_listener().address, lender.create_listener().address))
        threads = [threading.Thread(target=echo_tags, args=(worker, k)) for k in range(ECHOES)]
        threads.append(threading.Thread(target=echo_stream, args=(worker,)))
        threads.append(threading.Thread(target=lend, args=(lender,)))
        for thread in threads:
            thread.start()
        channel.receive(3600)
        worker.close()
        lender.close()
        for thread in threads:
            thread.join()


def echo_tags(worker: UcxWorker, low_bits: int) -> None:
    with contextlib.suppress(WorkerClosedError):
        while True:
            try:
                message = worker.receive_message(None, low_bits, tag_mask=ECHOES - 1)
                if message.tag < VISIT:
                    worker.send_tag(message.endpoint_id, message.tag, message.data)
            except (EndpointError, UnknownEndpointError):
                continue  # that peer has left already


def echo_stream(worker: UcxWorker) -> None:
    buffer = bytearray(50_000)
    with contextlib.suppress(WorkerClosedError, EndpointError):
        while not worker.get_endpoint_ids():
            time.sleep(0.01)
        first = worker.get_endpoint_ids()[0]
        while True:
            nbytes = worker.receive_stream(first, buffer)
            worker.send_stream(first, memoryview(buffer)[:nbytes])


def lend(lender: UcxWorker) -> None:
    """Give new memory to everyone who asks, and close what comes back."""
    lent = {}
    with contextlib.suppress(WorkerClosedError, EndpointError):
        while True:
            message = lender.receive_message(None, 0, tag_mask=0)
            if message.tag == BROADCAST:
                continue
            if message.data:
                lent.pop(message.data).close(timeout=PATIENCE)
                answer = b"closed"
            else:
                memory = lender.allocate(8 + max(SIZES))
                answer = memory.remote_key()
                lent[answer] = memory
            lender.send_tag(message.endpoint_id, message.tag, answer)


# ---- this side ----


class Crowd:
    """Sixteen threads or more that exchange messages on one worker, and those that disturb them.

    Parameters
    ----------
    worker : UcxWorker
        In `ThreadMode.MULTI`, listening.
    address, lender : str
        Of `echo`, and of the one there who lends memory.
    """

    def __init__(self, worker: UcxWorker, address: str, lender: str) -> None:
        self.worker, self.address, self.lender = worker, address, lender
        self.endpoint_id = worker.connect(address)
        self.done = threading.Event()
        self.problems: list[BaseException] = []
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self, seconds: float, exchanging: int) -> Counter[str]:
        """Let all of them work that long; gives how often each thing was done."""
        exchanges = itertools.cycle(
            (self.block, self.poll, self.request, self.await_all, self.send_rows, self.hurry)
        )
        others = (
            self.stream,
            self.reach,
            self.reach,
            self.connect,
            self.connect,
            self.visit,
            self.answer_visits,
            self.listen,
            self.broadcast,
            self.read,
            self.progress,
        )
        calls = [(next(exchanges), tag) for tag in range(1, exchanging + 1)]
        calls += [(other, exchanging + 1 + i) for i, other in enumerate(others)]
        threads = [threading.Thread(target=self._guarded, args=call) for call in calls]
        for thread in threads:
            thread.start()
        self.done.wait(seconds)
        self.done.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads), "a thread does not end"
        if self.problems:
            raise self.problems[0]
        return self.counts

    def _guarded(self, function: Callable[[int], Iterator[None]], tag: int) -> None:
        """Repeat until the others are done too; the first error ends all."""
        try:
            for _ in function(tag):
                if self.done.is_set():
                    return
        except BaseException as error:
            self.problems.append(error)
            self.done.set()

    def _count(self, **done: int) -> None:
        with self._lock:
            self.counts.update(done)

    # each sends messages with its tag and gets them back

    def block(self, tag: int) -> Iterator[None]:
        buffer = bytearray(max(SIZES))
        for number in itertools.count():
            data = content(tag, number)
            self.worker.send_tag(self.endpoint_id, tag, data, timeout=PATIENCE)
            if number % 2:
                got = self.worker.receive_tag(self.endpoint_id, tag, timeout=PATIENCE)
            else:
                n = self.worker.receive_tag(self.endpoint_id, tag, buffer, timeout=PATIENCE)
                got = buffer[:n]
            assert got == data, f"tag {tag}, message {number}"
            self._count(sent=1, received=1)
            yield

    def poll(self, tag: int) -> Iterator[None]:
        for number in itertools.count():
            data = content(tag, number)
            self.worker.send_tag(self.endpoint_id, tag, data, timeout=PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while (got := self.worker.try_receive_tag(self.endpoint_id, tag)) is None:
                assert time.monotonic() < deadline
                time.sleep(0)
            assert got == data, f"tag {tag}, message {number}"
            self._count(sent=1, received=1)
            yield

    def request(self, tag: int) -> Iterator[None]:
        worker, endpoint_id = self.worker, self.endpoint_id
        for first in itertools.count(step=WINDOW):
            window = [content(tag, first + i) for i in range(WINDOW)]
            unwanted = worker.ireceive_tag(endpoint_id, tag)
            dropped = worker.ireceive_tag(endpoint_id, tag)
            sends = [worker.isend_tag(endpoint_id, tag, data) for data in window]
            del dropped
            # By now it may have a message; then that one comes first.
            unwanted.cancel()
            with contextlib.suppress(RequestCancelledError):
                assert unwanted.wait(PATIENCE).data == window.pop(0)
                self._count(received=1)
            receives = [worker.ireceive_tag(endpoint_id, tag) for _ in window]
            messages = wait_all(receives, PATIENCE)
            assert [m.data for m in messages] == window, f"tag {tag}, messages from {first}"
            wait_all(sends, PATIENCE)
            self._count(sent=len(sends), received=len(window))
            yield

    def await_all(self, tag: int) -> Iterator[None]:
        async def exchange(first: int) -> None:
            window = [content(tag, first + i) for i in range(WINDOW)]
            receives = [self.worker.ireceive_tag(self.endpoint_id, tag) for _ in window]
            sends = [self.worker.isend_tag(self.endpoint_id, tag, data) for data in window]
            async with asyncio.timeout(PATIENCE):
                for receive, data in zip(receives, window, strict=True):
                    assert (await receive).data == data, f"tag {tag}, messages from {first}"
                for send in sends:
                    await send

        with asyncio.Runner() as runner:
            for first in itertools.count(step=WINDOW):
                runner.run(exchange(first))
                self._count(sent=WINDOW, received=WINDOW)
                yield

    def send_rows(self, tag: int) -> Iterator[None]:
        rows = np.empty_like(ROWS)
        for number in itertools.count():
            sent = ROWS + np.uint64(1000 * tag + number)
            self.worker.send_rows(self.endpoint_id, tag, sent, timeout=PATIENCE)
            self.worker.receive_rows(self.endpoint_id, tag, rows, timeout=PATIENCE)
            assert (rows == sent).all(), f"tag {tag}, rows {number}"
            self._count(sent=len(rows), received=len(rows))
            yield

    def hurry(self, tag: int) -> Iterator[None]:
        """Wait for a message from anyone again and again, never for long."""
        for number in itertools.count():
            data = content(tag, number)
            self.worker.send_tag(self.endpoint_id, tag, data, timeout=PATIENCE)
            deadline = time.monotonic() + PATIENCE
            got = None
            while got is None:
                assert time.monotonic() < deadline
                with contextlib.suppress(OperationTimeoutError):
                    got = self.worker.receive_tag(None, tag, timeout=0.0005)
            assert got == data, f"tag {tag}, message {number}"
            self._count(sent=1, received=1)
            yield

    # these exchange what has no tag

    def stream(self, tag: int) -> Iterator[None]:
        worker, endpoint_id = self.worker, self.endpoint_id
        for number in itertools.count():
            data = content(tag, number)
            worker.send_stream(endpoint_id, data, timeout=PATIENCE)
            got = bytearray(len(data))
            rest = memoryview(got)
            while rest:
                worker.ireceive_stream(endpoint_id, bytearray(100))  # and dropped
                with contextlib.suppress(OperationTimeoutError):
                    worker.receive_stream(endpoint_id, bytearray(len(data) + 1), True, timeout=0)
                rest = rest[worker.receive_stream(endpoint_id, rest, timeout=PATIENCE) :]
            assert got == data, f"part {number} of the stream"
            self._count(streamed=1)
            yield

    def reach(self, tag: int) -> Iterator[None]:
        """Reach memory of a peer that is new each time, and closed in the end."""
        worker = self.worker
        there = worker.connect(self.lender, timeout=PATIENCE)
        for number in itertools.count():
            data = content(tag, number)
            worker.send_tag(there, tag, b"")
            key = worker.receive_tag(there, tag, timeout=PATIENCE)
            worker.put(there, data, key, 8, timeout=PATIENCE)
            worker.flush(there, timeout=PATIENCE)
            got = bytearray(len(data))
            worker.iget(there, got, key, 8).wait(PATIENCE)
            assert got == data, f"memory {number}"
            assert worker.fetch_add(there, key, 0, 5, timeout=PATIENCE) == 0
            assert worker.compare_swap(there, key, 0, 5, 7, timeout=PATIENCE) == 5
            worker.send_tag(there, tag, key)
            assert worker.receive_tag(there, tag, timeout=PATIENCE) == b"closed"
            try:
                worker.put(there, b"stray", key, timeout=PATIENCE)
            except RemoteKeyError:
                pass
            else:
                raise AssertionError(f"memory {number} was closed, and is written to")
            self._count(sent=2, received=2, reached=1)
            yield

    # and these disturb them

    def connect(self, tag: int) -> Iterator[None]:
        for number in itertools.count():
            endpoint_id = self.worker.connect(self.address, timeout=PATIENCE)
            data = content(tag, number)
            self.worker.send_tag(endpoint_id, tag, data, timeout=PATIENCE)
            assert self.worker.receive_tag(endpoint_id, tag, timeout=PATIENCE) == data
            self.worker.disconnect(endpoint_id, timeout=PATIENCE)
            assert not self.worker.is_connected(endpoint_id)
            self._count(sent=1, received=1, connections=1)
            yield

    def visit(self, tag: int) -> Iterator[None]:
        """Another worker comes, and is closed while a call of it is blocked."""
        ended: list[WorkerClosedError] = []

        def block(visitor: UcxWorker, endpoint_id: int) -> None:
            try:
                visitor.receive_tag(endpoint_id, NEVER)
            except WorkerClosedError as error:
                ended.append(error)

        with self.worker.create_listener() as listener:
            for number in itertools.count(1):
                visitor = UcxWorker(thread_mode=ThreadMode.MULTI)
                endpoint_id = visitor.connect(listener.address, timeout=PATIENCE)
                blocked = threading.Thread(target=block, args=(visitor, endpoint_id))
                blocked.start()
                visitor.send_tag(endpoint_id, VISIT, b"hello", timeout=PATIENCE)
                visitor.close()
                blocked.join(PATIENCE)
                assert len(ended) == number
                self._count(visits=1)
                yield

    def answer_visits(self, tag: int) -> Iterator[None]:
        while True:
            with contextlib.suppress(OperationTimeoutError, EndpointError, UnknownEndpointError):
                message = self.worker.receive_message(None, VISIT, timeout=0.05)
                self._count(received=1)
                assert message.data == b"hello"
                self.worker.send_tag(message.endpoint_id, VISIT, b"welcome")
                self._count(sent=1)
            yield

    def listen(self, tag: int) -> Iterator[None]:
        while True:
            with self.worker.create_listener() as listener:
                assert listener in self.worker.listeners
                time.sleep(0.001)
            self._count(listeners=1)
            yield

    def broadcast(self, tag: int) -> Iterator[None]:
        while True:
            try:
                reached = self.worker.broadcast_tag(BROADCAST, b"to all", timeout=PATIENCE)
            except BroadcastError as error:  # one of them is just leaving
                reached = error.delivered
            assert self.endpoint_id in reached
            self._count(sent=len(reached))
            time.sleep(0.01)
            yield

    def read(self, tag: int) -> Iterator[None]:
        before = self.worker.stats()
        while True:
            now = self.worker.stats()
            for name in ("messages_sent", "messages_received", "bytes_sent", "bytes_received"):
                assert getattr(now, name) >= getattr(before, name), name
            before = now
            assert self.endpoint_id in self.worker.get_endpoint_ids()
            assert self.worker.is_connected(self.endpoint_id)
            assert self.worker.stats(self.endpoint_id).messages_sent <= now.messages_sent + 10_000
            assert any(info.transports for info in self.worker.endpoints(ended=True))
            len(self.worker.history())
            self._count(reads=1)
            time.sleep(0.001)
            yield

    def progress(self, tag: int) -> Iterator[None]:
        while True:
            self.worker.progress()
            self.worker.run_progress_loop(0.0005)
            yield


def stress(seconds: float, exchanging: int) -> Counter[str]:
    """Run a crowd on a worker, and close that while calls of it are blocked.

    Returns
    -------
    Counter
        How often each thing was done.
    """
    ended = []

    def block() -> None:
        try:
            worker.receive_tag(None, NEVER)
        except WorkerClosedError as error:
            ended.append(error)

    with children() as start:
        other_side = start(echo)
        with UcxWorker(thread_mode=ThreadMode.MULTI, enable_rma=True) as worker:
            crowd = Crowd(worker, *other_side.receive())
            counts = crowd.run(seconds, exchanging)
            stats = worker.stats()
            assert stats.messages_received == counts["received"]
            assert stats.messages_sent >= counts["sent"]  # some answers to those who left
            blocked = [threading.Thread(target=block) for _ in range(exchanging)]
            for thread in blocked:
                thread.start()
        for thread in blocked:
            thread.join(PATIENCE)
        assert len(ended) == exchanging
        other_side.send(None)
        other_side.result()
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=16, help="that exchange messages")
    options = parser.parse_args()
    # By the name that a child finds it by.
    print(dict(import_module("thread_stress").stress(options.seconds, options.threads)))
