"""One-sided memory: what is reached, what is refused before anything leaves, and every end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from eventually import eventually
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ucxnb import (
    ArgumentError,
    EndpointClosedError,
    EndpointLostError,
    FeatureDisabledError,
    InvalidBufferError,
    OperationTimeoutError,
    PeerClosedError,
    RemoteKeyError,
    RemoteRangeError,
    RemoteReadOnlyError,
    ThreadMode,
    UcxWorker,
    UnknownEndpointError,
    WorkerClosedError,
    wait_all,
)

WAIT = 30.0
SHARED = [HealthCheck.function_scoped_fixture]
SIZE = 100_000
RMA = {"enable_rma": True, "thread_mode": ThreadMode.MULTI}
TRANSPORTS = {"shm": {}, "tcp": {"ucx_options": {"TLS": "tcp,self"}}}


class Reach:
    """Two connected workers, and memory of the right one that the left one reaches."""

    def __init__(self, left, right, kind="registered"):
        self.left, self.right = left, right
        self.there = left.connect(right.create_listener().address)
        self.here = max(right.get_endpoint_ids())
        self.array = np.zeros(SIZE, np.uint8)
        self.memory = right.register(self.array) if kind == "registered" else right.allocate(SIZE)
        self.key = self.memory.remote_key()

    def put(self, data, offset=0):
        self.left.put(self.there, data, self.key, offset, timeout=WAIT)
        self.left.flush(self.there, timeout=WAIT)

    def get(self, nbytes, offset=0):
        buffer = bytearray(nbytes)
        assert self.left.get(self.there, buffer, self.key, offset, timeout=WAIT) == nbytes
        return bytes(buffer)


@pytest.fixture(params=itertools.product(TRANSPORTS, ["registered", "allocated"]), ids="-".join)
def reach(request):
    transport, kind = request.param
    fields = {**RMA, **TRANSPORTS[transport]}
    with UcxWorker(**fields) as left, UcxWorker(**fields) as right:
        yield Reach(left, right, kind)


@pytest.fixture
def near():
    with UcxWorker(**RMA) as left, UcxWorker(**RMA) as right:
        yield Reach(left, right)


# ---- put and get


def test_what_is_put_is_there_and_can_be_got(reach):
    for size, offset in [(1, 0), (5, SIZE - 5), (SIZE, 0), (40_000, 777)]:
        data = os.urandom(size)
        reach.put(data, offset)
        assert bytes(reach.memory)[offset : offset + size] == data
        assert reach.get(size, offset) == data
    reach.put(b"", SIZE)
    assert reach.get(0, SIZE) == b""


def test_many_at_once_as_requests(reach):
    data = [os.urandom(1000) for _ in range(100)]
    puts = [
        reach.left.iput(reach.there, piece, reach.key, i * 1000) for i, piece in enumerate(data)
    ]
    assert [message.nbytes for message in wait_all(puts, WAIT)] == [1000] * 100
    reach.left.flush(reach.there, timeout=WAIT)
    assert bytes(reach.memory) == b"".join(data)
    buffers = [bytearray(1000) for _ in data]
    gets = [
        reach.left.iget(reach.there, buffer, reach.key, i * 1000)
        for i, buffer in enumerate(buffers)
    ]
    assert not gets[-1].cancel()
    wait_all(gets, WAIT)
    assert buffers == data


def test_in_asyncio(reach):
    async def exchange():
        await reach.left.iput(reach.there, b"awaited", reach.key)
        await asyncio.to_thread(reach.left.flush, reach.there)
        buffer = bytearray(7)
        await reach.left.iget(reach.there, buffer, reach.key)
        return buffer

    assert asyncio.run(asyncio.wait_for(exchange(), WAIT)) == b"awaited"


def test_requests_that_are_dropped_go_on(reach):
    reach.left.iput(reach.there, b"x" * SIZE, reach.key)
    reach.left.flush(reach.there, timeout=WAIT)
    assert bytes(reach.memory) == b"x" * SIZE


def test_a_message_after_a_flush_finds_the_memory_changed(reach):
    for number in range(50):
        reach.left.put(reach.there, bytes([number]) * 1000, reach.key)
        reach.left.flush(reach.there, timeout=WAIT)
        reach.left.send_tag(reach.there, 1, b"look")
        reach.right.receive_tag(reach.here, 1, timeout=WAIT)
        assert bytes(reach.memory)[:1000] == bytes([number]) * 1000


def test_a_fence_keeps_the_order(reach):
    for number in range(100):
        reach.left.put(reach.there, bytes([number]), reach.key)
        reach.left.fence()
    reach.left.flush(reach.there, timeout=WAIT)
    assert bytes(reach.memory)[0] == 99


def test_both_sides_reach_each_others(reach):
    with reach.left.allocate(10) as mine:
        reach.right.put(reach.here, b"0123456789", mine.remote_key())
        reach.right.flush(reach.here, timeout=WAIT)
        assert bytes(mine) == b"0123456789"
    reach.put(b"too")
    assert bytes(reach.memory)[:3] == b"too"


def test_the_side_that_acts_counts(reach):
    reach.put(b"12345")
    reach.get(3)
    reach.left.fetch_add(reach.there, reach.key, 8, 1)
    for stats in (reach.left.stats(), reach.left.stats(reach.there)):
        assert (stats.puts, stats.put_bytes, stats.bytes_sent) == (1, 5, 5)
        assert (stats.gets, stats.get_bytes, stats.bytes_received) == (1, 3, 3)
        assert stats.atomics == 1
    assert reach.right.stats().bytes_received == 0


# ---- atomics


@pytest.mark.parametrize("nbytes", [4, 8])
def test_atomics(reach, nbytes):
    left, there, key = reach.left, reach.there, reach.key
    number = np.frombuffer(reach.memory, f"u{nbytes}", 1, 16)
    left.atomic_add(there, key, 16, 5, nbytes=nbytes)
    left.flush(there)
    assert number[0] == 5
    assert left.fetch_add(there, key, 16, -7, nbytes=nbytes) == 5
    assert left.fetch_add(there, key, 16, 0, nbytes=nbytes) == 2 ** (8 * nbytes) - 2
    assert left.compare_swap(there, key, 16, -2, 100, nbytes=nbytes) == 2 ** (8 * nbytes) - 2
    assert left.compare_swap(there, key, 16, 7, 200, nbytes=nbytes) == 100
    assert number[0] == 100
    assert not np.frombuffer(reach.memory, np.uint8)[16 + nbytes :].any()
    del number


def adding(channel, address, key, times, options):
    with UcxWorker(enable_rma=True, ucx_options=options) as worker:
        endpoint_id = worker.connect(address)
        for _ in range(times):
            worker.atomic_add(endpoint_id, key, 0, 1)
            worker.fetch_add(endpoint_id, key, 8, 2)
            while True:
                seen = worker.fetch_add(endpoint_id, key, 16, 0)
                if worker.compare_swap(endpoint_id, key, 16, seen, seen + 3) == seen:
                    break
        channel.send("done")


def test_processes_that_add_at_once_lose_nothing(start_child):
    # Those on shared memory map it, those on TCP ask for it: each is atomic for the other.
    with UcxWorker(enable_rma=True) as worker, worker.allocate(24) as memory:
        address = worker.create_listener().address
        children = [
            start_child(adding, address, memory.remote_key(), 300, options)
            for options in ({}, {}, {"TLS": "tcp,self"})
        ]
        for child in children:
            assert child.receive() == "done"
        assert list(np.frombuffer(memory, np.uint64)) == [900, 1800, 2700]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"offset": 4}, "multiple"),
        ({"offset": 2, "nbytes": 4}, "multiple"),
        ({"nbytes": 2}, "4 or 8"),
        ({"nbytes": True}, "4 or 8"),
        ({"value": 2**64}, "8 bytes"),
        ({"value": -(2**31) - 1, "nbytes": 4}, "4 bytes"),
        ({"value": "1"}, "integer"),
    ],
)
def test_wrong_atomics(reach, named, words):
    arguments = {"offset": 0, "value": 1, **named}
    with pytest.raises(ArgumentError, match=words):
        reach.left.fetch_add(reach.there, reach.key, **arguments)
    with pytest.raises(ArgumentError):
        reach.left.compare_swap(reach.there, reach.key, 0, None, 1)
    assert not np.frombuffer(reach.memory, np.uint8).any()


# ---- what must not be


@settings(deadline=None, max_examples=200, suppress_health_check=SHARED)
@given(
    offset=st.one_of(st.integers(-10, SIZE + 10), st.integers(-(2**70), 2**70)),
    size=st.integers(0, SIZE + 10),
)
def test_any_offset_is_inside_or_an_error(lasting, offset, size):
    reach = lasting
    before = bytes(reach.memory)
    data = b"\xaa" * size
    inside = 0 <= offset <= SIZE - size
    try:
        reach.put(data, offset)
    except RemoteRangeError:
        assert not inside
        assert bytes(reach.memory) == before
    else:
        assert inside
        expected = before[:offset] + data + before[offset + size :]
        assert bytes(reach.memory) == expected
        assert reach.get(size, offset) == data
        reach.put(before)


@pytest.fixture(scope="module")
def lasting():
    with UcxWorker(**RMA) as left, UcxWorker(**RMA) as right:
        yield Reach(left, right)


@settings(deadline=None, max_examples=100, suppress_health_check=SHARED)
@given(data=st.data())
def test_any_key_is_good_or_an_error(lasting, data):
    reach = lasting
    key = bytearray(reach.key)
    for _ in range(data.draw(st.integers(1, 4))):
        key[data.draw(st.integers(0, len(key) - 1))] = data.draw(st.integers(0, 255))
    changed = data.draw(
        st.one_of(
            st.just(bytes(key)), st.binary(max_size=50), st.just(bytes(key) + b"x"),
            st.sampled_from([None, "key", 7, [reach.key], range(36)]),
        )
    )  # fmt: skip
    if changed == reach.key:
        return
    with pytest.raises(RemoteKeyError):
        reach.left.put(reach.there, b"stray", changed)
    assert b"stray" not in bytes(reach.memory)


def test_a_key_as_any_bytes_and_as_remote_memory(near):
    remote = near.left.open_remote(near.there, near.key)
    for key in (near.key, bytearray(near.key), memoryview(near.key), remote):
        near.left.put(near.there, b"x", key)
    assert (remote.nbytes, remote.writable, remote.key) == (SIZE, True, near.key)
    assert remote.endpoint_id == near.there
    assert "100,000 bytes" in repr(remote)


def test_memory_of_another_worker(near):
    with UcxWorker(**RMA) as third:
        other = third.connect(near.right.create_listener().address)
        back = max(near.right.get_endpoint_ids())
        with pytest.raises(RemoteKeyError, match="another worker"):
            near.right.put(back, b"x", near.key)
        remote = near.left.open_remote(near.there, near.key)
        with pytest.raises(RemoteKeyError, match="another connection"):
            third.put(other, b"x", remote)
        third.put(other, b"good", near.key)


def test_memory_that_can_only_be_read(near):
    with near.right.register(b"constant") as constant:
        assert not constant.writable
        key = constant.remote_key()
        buffer = bytearray(8)
        near.left.get(near.there, buffer, key)
        assert buffer == b"constant"
        for write in (
            lambda: near.left.put(near.there, b"x", key),
            lambda: near.left.iput(near.there, b"x", key),
            lambda: near.left.fetch_add(near.there, key, 0, 1),
        ):
            with pytest.raises(RemoteReadOnlyError):
                write()
        assert bytes(constant) == b"constant"
    with near.right.register(bytearray(8), writable=False) as closed:
        assert memoryview(closed).readonly
    with pytest.raises(InvalidBufferError):
        near.right.register(b"constant", writable=True)


def test_a_key_is_stale_once_its_memory_is_closed(reach):
    reach.put(b"before")
    remote = reach.left.open_remote(reach.there, reach.key)
    reach.memory.close()
    reach.memory.close()
    assert reach.memory.closed
    assert remote.closed
    after = reach.array.copy()
    for call in (
        lambda: reach.left.put(reach.there, b"after", reach.key),
        lambda: reach.left.put(reach.there, b"after", remote),
        lambda: reach.left.get(reach.there, bytearray(5), remote),
        lambda: reach.left.fetch_add(reach.there, reach.key, 0, 1),
        reach.memory.remote_key,
    ):
        with pytest.raises(RemoteKeyError, match="closed"):
            call()
    assert (reach.array == after).all()
    with pytest.raises(BufferError, match="closed"):
        memoryview(reach.memory)


def test_closing_waits_for_what_was_begun(reach):
    buffer = os.urandom(SIZE)
    stop = threading.Event()
    ended = []

    def put_again_and_again():
        try:
            while not stop.is_set():
                reach.left.iput(reach.there, buffer, reach.key)
        except RemoteKeyError as error:
            ended.append(error)

    thread = threading.Thread(target=put_again_and_again)
    thread.start()
    eventually(lambda: reach.left.stats().puts > 5)
    reach.memory.close()
    final = reach.array.copy()
    thread.join(WAIT)
    assert ended
    time.sleep(0.05)
    assert (reach.array == final).all()


def test_views_outlive_allocated_memory(near):
    memory = near.right.allocate(1000)
    view = np.frombuffer(memory, np.uint8)
    near.left.put(near.there, b"seen", memory.remote_key())
    near.left.flush(near.there)
    memory.close()
    assert bytes(view[:4]) == b"seen"
    del memory
    gc.collect()
    assert bytes(view[:4]) == b"seen"


@pytest.mark.parametrize("kind", ["registered", "allocated"])
def test_a_view_outlives_even_the_worker(kind, capfd):
    with UcxWorker(**RMA) as worker:
        memory = worker.register(bytearray(3)) if kind == "registered" else worker.allocate(3)
        view = memoryview(memory)
        view[:] = b"abc"
    assert memory.closed
    assert bytes(view) == b"abc"
    view.release()
    assert capfd.readouterr() == ("", "")  # UCX complains of memory that is never unmapped
    with pytest.raises(RemoteKeyError):
        memory.remote_key()


def test_a_registered_buffer_is_kept_until_the_memory_is_closed(near):
    buffer = bytearray(10)
    with near.right.register(buffer), pytest.raises(BufferError):
        buffer.append(1)
    buffer.append(1)


# ---- ends


def test_what_ended_cannot_be_reached(reach):
    remote = reach.left.open_remote(reach.there, reach.key)
    reach.right.disconnect(reach.here)
    eventually(lambda: not reach.left.is_connected(reach.there))
    for call in (
        lambda: reach.left.put(reach.there, b"x", remote),
        lambda: reach.left.get(reach.there, bytearray(1), reach.key),
        lambda: reach.left.fetch_add(reach.there, reach.key, 0, 1),
        lambda: reach.left.open_remote(reach.there, reach.key),
        lambda: reach.left.flush(reach.there),
    ):
        with pytest.raises(PeerClosedError):
            call()
    with pytest.raises(EndpointClosedError):
        reach.right.flush(reach.here)
    reach.memory.close()
    assert remote.closed


def test_a_worker_closes_with_memory_open_and_in_use(reach):
    reach.left.open_remote(reach.there, reach.key)
    for _ in range(20):
        reach.left.iput(reach.there, bytes(SIZE), reach.key)
    reach.right.close()
    assert reach.memory.closed
    reach.memory.close()
    reach.left.close()
    with pytest.raises(WorkerClosedError):
        reach.put(b"x")


def stopping(channel, address, options):
    with UcxWorker(enable_rma=True, ucx_options=options) as worker:
        worker.connect(address)
        key = channel.receive()
        endpoint_id = worker.get_endpoint_ids()[0]
        worker.put(endpoint_id, b"x", key)
        worker.flush(endpoint_id)
        channel.send(None)
        channel.receive()


def test_one_that_is_stopped_does_not_let_go_and_one_that_is_killed_cannot_hold(start_child):
    options = {"TLS": "tcp,self"}
    with UcxWorker(enable_rma=True, ucx_options=options) as worker:
        child = start_child(stopping, worker.create_listener().address, options)
        memory = worker.register(bytearray(100))
        child.send(memory.remote_key())
        child.receive()
        child.kill(signal.SIGSTOP)
        status = Path(f"/proc/{child.pid}/status")
        eventually(lambda: "T (stopped)" in status.read_text())
        with pytest.raises(OperationTimeoutError, match="did not let go"):
            memory.close(timeout=0.2)
        assert not memory.closed
        child.kill()
        memory.close(timeout=WAIT)
        assert memory.closed


def owning(channel, address):
    with UcxWorker(enable_rma=True, ucx_options={"TLS": "tcp,self"}) as worker:
        worker.connect(address)
        memory = worker.allocate(1 << 26)
        channel.send(memory.remote_key())
        channel.receive()


def test_the_owner_is_killed_while_its_memory_is_in_use(start_child):
    with UcxWorker(enable_rma=True, ucx_options={"TLS": "tcp,self"}) as worker:
        child = start_child(owning, worker.create_listener().address)
        key = child.receive()
        (endpoint_id,) = worker.get_endpoint_ids()
        data = bytes(1 << 26)
        worker.put(endpoint_id, b"x", key, timeout=WAIT)
        requests = [worker.iput(endpoint_id, data, key) for _ in range(4)]
        requests += [worker.iget(endpoint_id, bytearray(1 << 26), key) for _ in range(4)]
        child.kill()
        with pytest.raises(EndpointLostError):
            wait_all(requests, WAIT)
        with pytest.raises(EndpointLostError):
            worker.fetch_add(endpoint_id, key, 0, 1, timeout=WAIT)


# ---- wrong calls


def test_where_it_is_switched_off_both_sides_say_so():
    with UcxWorker() as off, UcxWorker(**RMA) as on:
        there = off.connect(on.create_listener().address)
        with on.allocate(8) as memory:
            key = memory.remote_key()
            for call in (
                lambda: off.register(bytearray(1)),
                lambda: off.allocate(1),
                lambda: off.put(there, b"x", key),
                lambda: off.open_remote(there, key),
            ):
                with pytest.raises(FeatureDisabledError, match="enable_rma=True"):
                    call()
            with pytest.raises(FeatureDisabledError, match="switched off there"):
                on.put(on.get_endpoint_ids()[0], b"x", key)


def test_wrong_calls_are_typed_errors(near):
    left, there, key = near.left, near.there, near.key
    for nbytes in (0, -1, None, 1.5, 2**60):
        with pytest.raises(ArgumentError):
            left.allocate(nbytes)
    for buffer in (None, b"", "text", np.zeros((4, 4))[:, ::2], np.array([None])):
        with pytest.raises(InvalidBufferError):
            left.register(buffer)
    with pytest.raises(ArgumentError):
        left.register(bytearray(1), writable=1)
    with pytest.raises(InvalidBufferError):
        left.get(there, b"read only", key)
    with pytest.raises(UnknownEndpointError):
        left.put(999, b"x", key)
    with pytest.raises(UnknownEndpointError):
        left.flush(999)
    with pytest.raises(ArgumentError):
        left.put(there, b"x", key, "0")
    with pytest.raises(ArgumentError):
        left.put(there, b"x", key, timeout="soon")
    with pytest.raises(TypeError):
        type(near.memory)()
    near.put(b"works")
    assert near.get(5) == b"works"
