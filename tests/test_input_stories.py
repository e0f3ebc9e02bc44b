"""Random stories of a pair of workers against a model: order, content, counters, errors."""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from eventually import eventually
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    precondition,
    rule,
    run_state_machine_as_test,
)
from junk import examples

from ucxnb import (
    BufferTooSmallError,
    EndpointClosedError,
    OperationTimeoutError,
    PeerClosedError,
    Request,
    RequestCancelledError,
    UcxWorker,
    WorkerClosedError,
)

TIMEOUT = 30
ROW = 16
TAGS = st.integers(0, 2)
ROW_TAG = 9
SIDES = st.sampled_from([0, 1])
SMALL = st.sampled_from([0, 1, 40, 8192, 8193])
ANY_SIZE = st.one_of(SMALL, st.sampled_from([100_000, 1_000_000]))


@dataclass(eq=False)
class Waiting:
    """A message that was sent and not received."""

    number: int
    data: bytes
    counted: bool = False  # by its receiver, in a receive that was dropped


@dataclass(eq=False)
class Posted:
    """A receive that was begun, and the message that is its."""

    request: Request
    buffer: bytearray | None
    bound: Waiting | None = None


@dataclass
class Queue:
    """What is on its way to one side of one connection with one tag, oldest first."""

    waiting: list[Waiting] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)

    def unbound(self) -> list[Posted]:
        return [posted for posted in self.posted if posted.bound is None]

    def put(self, message: Waiting) -> None:
        if free := self.unbound():
            free[0].bound = message
        else:
            self.waiting.append(message)
            self.waiting.sort(key=lambda one: one.number)

    def settle(self) -> None:
        """Whatever has a message has it now."""
        for posted in self.posted:
            if posted.bound is not None:
                eventually(lambda posted=posted: posted.request.done)
                posted.bound.counted = True


class Connection:
    """Two endpoints, and what is between them: by the side that receives, and tag."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.queues: dict[tuple[int, int], Queue] = {}
        self.open = True

    def queue(self, side: int, tag: int) -> Queue:
        return self.queues.setdefault((side, tag), Queue())


class PairOfWorkers(RuleBasedStateMachine):
    """Everything that two workers do with one another."""

    stories = steps = 0
    connections = Bundle("connections")

    def __init__(self) -> None:
        super().__init__()
        type(self).stories += 1
        self.numbers = itertools.count()
        self.all: list[Connection] = []
        self.sends: list[tuple[Request, int]] = []
        self.workers = [self.start(), self.start()]
        self.books = [Counter(), Counter()]

    def start(self) -> UcxWorker:
        worker = UcxWorker()
        worker.create_listener()
        return worker

    # ---- connections ----

    @rule(target=connections, side=SIDES)
    def connect(self, side):
        ids = [0, 0]
        before = self.workers[1 - side].get_endpoint_ids()
        ids[side] = self.workers[side].connect(self.workers[1 - side].listeners[0].address)
        new = set(self.workers[1 - side].get_endpoint_ids()) - set(before)
        (ids[1 - side],) = new
        self.all.append(Connection(ids))
        return self.all[-1]

    @rule(connection=consumes(connections), side=SIDES)
    def disconnect(self, connection, side):
        if connection.open:
            self.receive_large(connection)
            self.workers[side].disconnect(connection.ids[side])
            self.ended(connection, side, EndpointClosedError)

    @rule(side=SIDES)
    def close_and_reopen(self, side):
        for connection in self.all:
            if connection.open:
                self.receive_large(connection)
        self.check_books(side)
        self.workers[side].close()
        for connection in self.all:
            if connection.open:
                self.ended(connection, side, WorkerClosedError)
        self.workers[side] = self.start()
        self.books[side] = Counter()

    def ended(self, connection, by, error):
        """Its one side has closed it; the other one gets what was sent before, and no more."""
        connection.open = False
        for (side, tag), queue in connection.queues.items():
            queue.settle()
            for posted in queue.posted:
                if posted.bound is None:
                    with pytest.raises(error if side == by else PeerClosedError):
                        posted.request.wait(TIMEOUT)
                else:
                    self.check(side, posted, posted.bound)
            queue.posted.clear()
            for message in queue.waiting:
                if side != by:
                    worker, endpoint_id = self.workers[side], connection.ids[side]
                    assert worker.receive_tag(endpoint_id, tag, timeout=TIMEOUT) == message.data
                    self.count(side, message)
                elif message.counted:  # dropped by its receiver, twice
                    self.count(side, message)
            queue.waiting.clear()
        other = 1 - by
        eventually(lambda: not self.workers[other].is_connected(connection.ids[other]))
        with pytest.raises(PeerClosedError):
            self.workers[other].receive_tag(connection.ids[other], 0, timeout=TIMEOUT)

    def receive_large(self, connection):
        """A large message leaves only while it is received."""
        for (side, tag), queue in connection.queues.items():
            while any(len(message.data) > 8192 for message in queue.waiting):
                self.receive(connection, side, tag, None)

    # ---- messages ----

    def message(self, size, side):
        number = next(self.numbers)
        data = (number.to_bytes(8, "little") * (size // 8 + 1))[:size]
        self.books[side]["messages_sent"] += 1
        self.books[side]["bytes_sent"] += size
        return Waiting(number, data)

    def count(self, side, message):
        self.books[side]["messages_received"] += 1
        self.books[side]["bytes_received"] += len(message.data)

    def check(self, side, posted, message):
        got = posted.request.wait(TIMEOUT)
        assert got.nbytes == len(message.data)
        assert got.endpoint_id in [connection.ids[side] for connection in self.all]
        data = got.data if posted.buffer is None else bytes(posted.buffer[: got.nbytes])
        assert data == message.data
        self.count(side, message)

    @rule(connection=connections, side=SIDES, tag=TAGS, size=SMALL)
    def send(self, connection, side, tag, size):
        if connection.open:
            message = self.message(size, side)
            if size > 8192:  # it may wait for its receiver
                self.sends.append((self.workers[side].isend_tag(
                    connection.ids[side], tag, message.data), side))  # fmt: skip
            else:
                self.workers[side].send_tag(connection.ids[side], tag, message.data)
            connection.queue(1 - side, tag).put(message)

    @rule(connection=connections, side=SIDES, tag=TAGS, size=ANY_SIZE)
    def isend(self, connection, side, tag, size):
        if connection.open:
            message = self.message(size, side)
            request = self.workers[side].isend_tag(connection.ids[side], tag, message.data)
            self.sends.append((request, side))
            connection.queue(1 - side, tag).put(message)

    @rule(connection=connections, side=SIDES, tags=st.lists(TAGS, max_size=5), size=SMALL)
    def send_batch(self, connection, side, tags, size):
        if connection.open and size <= 8192:
            batch = [(tag, self.message(size, side)) for tag in tags]
            self.workers[side].send_tags(
                connection.ids[side], [(tag, message.data) for tag, message in batch],
                timeout=TIMEOUT,
            )  # fmt: skip
            for tag, message in batch:
                connection.queue(1 - side, tag).put(message)

    @rule(connection=connections, side=SIDES, count=st.integers(0, 5))
    def send_and_receive_rows(self, connection, side, count):
        if connection.open:
            batch = [self.message(ROW, side) for _ in range(count)]
            rows = np.frombuffer(b"".join(m.data for m in batch), np.uint8).reshape(count, ROW)
            self.workers[side].send_rows(connection.ids[side], ROW_TAG, rows, timeout=TIMEOUT)
            other, got = 1 - side, np.zeros((count, ROW), np.uint8)
            self.workers[other].receive_rows(connection.ids[other], ROW_TAG, got, timeout=TIMEOUT)
            assert got.tobytes() == rows.tobytes()
            for message in batch:
                self.count(other, message)

    @rule(connection=connections, side=SIDES, tag=TAGS, room=st.sampled_from([None, 0, 10**6]))
    def receive(self, connection, side, tag, room):
        if not connection.open:
            return
        queue = connection.queue(side, tag)
        worker, endpoint_id = self.workers[side], connection.ids[side]
        buffer = None if room is None else bytearray(room)
        if not queue.waiting:
            if not queue.posted:  # else it would wait in line
                with pytest.raises(OperationTimeoutError):
                    worker.receive_tag(endpoint_id, tag, buffer, timeout=0)
            return
        message = queue.waiting[0]
        if room is not None and room < len(message.data):
            with pytest.raises(BufferTooSmallError) as caught:
                worker.receive_tag(endpoint_id, tag, buffer, timeout=TIMEOUT)
            assert caught.value.needed == len(message.data)
            return
        got = worker.receive_tag(endpoint_id, tag, buffer, timeout=TIMEOUT)
        assert (got if buffer is None else bytes(buffer[:got])) == message.data
        self.count(side, queue.waiting.pop(0))

    @rule(connection=connections, side=SIDES, tag=TAGS)
    def try_receive(self, connection, side, tag):
        queue = connection.queue(side, tag)
        if connection.open and not queue.posted:
            worker, endpoint_id = self.workers[side], connection.ids[side]
            if not queue.waiting:
                assert worker.try_receive_tag(endpoint_id, tag) is None
            else:
                got = eventually(lambda: worker.try_receive_message(endpoint_id, tag))
                assert got == (endpoint_id, tag, len(got.data), queue.waiting[0].data)
                self.count(side, queue.waiting.pop(0))

    @rule(connection=connections, side=SIDES, tags=st.lists(TAGS, min_size=1, max_size=4))
    def receive_batch(self, connection, side, tags):
        if not connection.open or any(connection.queue(side, tag).posted for tag in tags):
            return
        worker, endpoint_id = self.workers[side], connection.ids[side]
        if any(n > len(connection.queue(side, tag).waiting) for tag, n in Counter(tags).items()):
            with pytest.raises(OperationTimeoutError):
                worker.receive_tags(endpoint_id, tags, timeout=0)
            return
        for tag, data in zip(tags, worker.receive_tags(endpoint_id, tags, timeout=TIMEOUT),
                             strict=True):  # fmt: skip
            message = connection.queue(side, tag).waiting.pop(0)
            assert data == message.data
            self.count(side, message)

    @rule(connection=connections, side=SIDES, tag=TAGS, into=st.booleans())
    def ireceive(self, connection, side, tag, into):
        if connection.open:
            queue = connection.queue(side, tag)
            buffer = bytearray(1_000_000) if into else None
            request = self.workers[side].ireceive_tag(connection.ids[side], tag, buffer)
            bound = queue.waiting.pop(0) if queue.waiting else None
            queue.posted.append(Posted(request, buffer, bound))

    def chosen(self, connection, side, tag, which):
        queue = connection.queue(side, tag)
        queue.settle()
        return queue, queue.posted[which % len(queue.posted)] if queue.posted else None

    @rule(connection=connections, side=SIDES, tag=TAGS, which=st.integers(0, 5))
    def wait(self, connection, side, tag, which):
        queue, posted = self.chosen(connection, side, tag, which)
        if posted is not None:
            if posted.bound is None:
                with pytest.raises(OperationTimeoutError):
                    posted.request.wait(0)
            else:
                self.check(side, posted, posted.bound)
                queue.posted.remove(posted)

    @rule(connection=connections, side=SIDES, tag=TAGS, which=st.integers(0, 5))
    def cancel(self, connection, side, tag, which):
        queue, posted = self.chosen(connection, side, tag, which)
        if posted is not None:
            assert posted.request.cancel() == (posted.bound is None)
            if posted.bound is None:
                with pytest.raises(RequestCancelledError):
                    posted.request.wait()
                queue.posted.remove(posted)

    @rule(connection=connections, side=SIDES, tag=TAGS, which=st.integers(0, 5))
    def drop(self, connection, side, tag, which):
        queue, posted = self.chosen(connection, side, tag, which)
        if posted is not None:
            queue.posted.remove(posted)
            bound = posted.bound
            del posted
            gc.collect(0)
            if bound is not None:
                queue.put(bound)

    # ---- the books ----

    def check_books(self, side):
        for connection in self.all:
            for queue in connection.queues.values():
                queue.settle()
        unread = [
            posted.bound
            for connection in self.all
            for (receiver, _), queue in connection.queues.items()
            for posted in queue.posted
            if receiver == side and posted.bound is not None
        ]
        unread += [
            message
            for connection in self.all
            for (receiver, _), queue in connection.queues.items()
            for message in queue.waiting
            if receiver == side and message.counted
        ]
        books, stats = self.books[side], self.workers[side].stats()
        assert stats.messages_received == books["messages_received"] + len(unread)
        assert stats.bytes_received == books["bytes_received"] + sum(len(m.data) for m in unread)
        pending = [r for r, sender in self.sends if sender == side and not r.done]
        if not pending:
            assert stats.messages_sent == books["messages_sent"]
            assert stats.bytes_sent == books["bytes_sent"]

    @precondition(lambda self: self.all)
    @rule(side=SIDES)
    def compare_books(self, side):
        self.check_books(side)

    def teardown(self):
        type(self).steps += next(self.numbers)
        try:
            for connection in self.all:
                if connection.open:
                    self.receive_large(connection)
            for side in SIDES_BOTH:
                self.check_books(side)
        finally:
            for worker in self.workers:
                worker.close()


SIDES_BOTH = (0, 1)


@pytest.mark.reliability
@pytest.mark.timeout(300)
def test_random_stories(saw):
    PairOfWorkers.stories = PairOfWorkers.steps = 0
    run_state_machine_as_test(PairOfWorkers, settings=examples(12, stateful_step_count=40))
    saw(
        "input",
        "random stories of connects, sends, receives of every kind, cancels, drops, closes",
        tried=PairOfWorkers.stories,
        sees="what a model of queues says: order, content, errors and counters",
        seconds=[],
        lost="nothing",
    )
