"""Byte streams: order, boundaries, waiting, ends, and that nothing is lost or torn."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from eventually import eventually
from hypothesis import given, settings
from hypothesis import strategies as st

from ucxnb import (
    ArgumentError,
    EndpointClosedError,
    EndpointLostError,
    FeatureDisabledError,
    InvalidBufferError,
    OperationTimeoutError,
    PeerClosedError,
    PeerFullError,
    RequestCancelledError,
    ThreadMode,
    UcxWorker,
    UnknownEndpointError,
    WorkerClosedError,
    wait_all,
)

WAIT = 30.0
MULTI = {"thread_mode": ThreadMode.MULTI}
TRANSPORTS = {"shm": {}, "tcp": {"ucx_options": {"TLS": "tcp,self"}}}


class Joined:
    """Two connected workers."""

    def __init__(self, left: UcxWorker, right: UcxWorker) -> None:
        self.left, self.right = left, right
        self.there = left.connect(right.create_listener().address)
        (self.here,) = right.get_endpoint_ids()

    def send(self, data: bytes) -> None:
        self.left.send_stream(self.there, data, timeout=WAIT)

    def read(self, nbytes: int, wait_all: bool = True, timeout: float = WAIT) -> bytes:
        buffer = bytearray(nbytes)
        got = self.right.receive_stream(self.here, buffer, wait_all, timeout=timeout)
        return bytes(buffer[:got])


@pytest.fixture(params=TRANSPORTS)
def joined(request):
    fields = {**MULTI, **TRANSPORTS[request.param]}
    with UcxWorker(**fields) as left, UcxWorker(**fields) as right:
        yield Joined(left, right)


# ---- bytes in order


@pytest.mark.parametrize("size", [1, 100, 8192, 8193, 1 << 20, 5_000_001])
def test_what_is_sent_is_read(joined, size):
    data = os.urandom(size)
    thread = threading.Thread(target=joined.send, args=(data,))
    thread.start()
    assert joined.read(size) == data
    thread.join()
    assert joined.right.try_receive_stream(joined.here, bytearray(8)) is None


def test_there_are_no_boundaries(joined):
    for word in (b"one ", b"", b"two ", b"three"):
        joined.send(word)
    assert joined.read(13) == b"one two three"
    joined.send(b"abcdef")
    assert [joined.read(4), joined.read(2)] == [b"abcd", b"ef"]
    assert joined.right.receive_stream(joined.here, bytearray()) == 0


def test_one_byte_is_enough_unless_all_are_waited_for(joined):
    joined.send(b"abc")
    eventually(lambda: joined.right.stats(joined.here).unreceived_bytes == 3)
    assert joined.read(100, wait_all=False) == b"abc"


def test_what_is_neither_true_nor_false(joined):
    for read in (joined.right.receive_stream, joined.right.ireceive_stream):
        with pytest.raises(ArgumentError, match="wait_all"):
            read(joined.here, bytearray(1), np.array([1, 2]))
    joined.send(b"abc")
    assert joined.read(3) == b"abc"


def test_both_directions_at_once(joined):
    data = random.Random(1).randbytes(3_000_000)
    back = bytearray(len(data))
    reads = [
        joined.left.ireceive_stream(joined.there, back, True),
        joined.right.isend_stream(joined.here, data),
        joined.left.isend_stream(joined.there, data),
    ]
    assert joined.read(len(data)) == data
    wait_all(reads, WAIT)
    assert back == data


def test_a_stream_and_messages_do_not_mix(joined):
    joined.send(b"stream")
    joined.left.send_tag(joined.there, 1, b"message")
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b"message"
    assert joined.read(6) == b"stream"


def test_each_connection_has_a_stream_of_its_own():
    with UcxWorker() as server, UcxWorker() as one, UcxWorker() as two:
        listener = server.create_listener()
        for client in (one, two):
            endpoint_id = client.connect(listener.address)
            client.send_stream(endpoint_id, client.name.encode(), timeout=WAIT)
        for info in server.endpoints():
            buffer = bytearray(len(info.peer_name))
            server.receive_stream(info.endpoint_id, buffer, True, timeout=WAIT)
            assert buffer.decode() == info.peer_name


def test_streams_work_where_tags_are_the_workers():
    with UcxWorker(tag_scope="worker") as left, UcxWorker(tag_scope="worker") as right:
        joined = Joined(left, right)
        joined.send(b"scope")
        assert joined.read(5) == b"scope"


def test_threads_that_send_at_once_do_not_tear_each_others_bytes(joined):
    sizes = [3, 3000, 3_000_000]
    threads = [
        threading.Thread(target=joined.send, args=(bytes([n]) * size,))
        for n, size in enumerate(sizes * 4)
    ]
    for thread in threads:
        thread.start()
    rest = joined.read(4 * sum(sizes))
    for thread in threads:
        thread.join()
    seen = set()
    while rest:
        size = sizes[rest[0] % 3]
        assert rest[:size] == rest[:1] * size
        seen.add(rest[0])
        rest = rest[size:]
    assert len(seen) == 12


# ---- waiting


def test_a_timeout_loses_nothing(joined):
    joined.send(b"abc")
    with pytest.raises(OperationTimeoutError, match="3 bytes of 5 came"):
        joined.read(5, timeout=0.05)
    assert joined.right.stats(joined.here).unreceived_bytes == 3
    joined.send(b"de")
    assert joined.read(5) == b"abcde"


def test_ctrl_c_loses_nothing(joined):
    joined.send(b"abc")
    main = threading.main_thread().ident
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        joined.read(5)
    timer.join()
    joined.send(b"de")
    assert joined.read(5) == b"abcde"


def test_a_cancelled_read_leaves_its_bytes_to_the_next(joined):
    buffers = [bytearray(4) for _ in range(3)]
    reads = [joined.right.ireceive_stream(joined.here, b, True) for b in buffers]
    joined.send(b"ab")
    eventually(lambda: buffers[0][:2] == b"ab")
    assert reads[0].cancel()
    assert not reads[0].cancel()
    with pytest.raises(RequestCancelledError):
        reads[0].wait()
    joined.send(b"cdefghij")
    assert [read.wait(WAIT).nbytes for read in reads[1:]] == [4, 4]
    assert buffers[1] + buffers[2] == b"abcdefgh"
    assert joined.read(2) == b"ij"


def test_a_read_whose_result_nobody_saw_is_read_again(joined):
    def begin_and_drop() -> None:
        read = joined.right.ireceive_stream(joined.here, bytearray(10))
        joined.send(b"abc")
        eventually(lambda: read.done)

    begin_and_drop()
    assert joined.read(3) == b"abc"
    assert joined.right.stats().stream_bytes_received == 3


def test_reads_are_served_in_the_order_they_were_begun(joined):
    buffers = [bytearray(1) for _ in range(50)]
    reads = [joined.right.ireceive_stream(joined.here, buffer) for buffer in buffers]
    joined.send(bytes(range(50)))
    wait_all(reads, WAIT)
    assert b"".join(buffers) == bytes(range(50))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 40_000), max_size=12),
    st.lists(st.tuples(st.integers(1, 50_000), st.sampled_from("waotc")), max_size=40),
    st.integers(0, 2**32),
)
def test_however_it_is_read_no_byte_is_lost(sends, reads, seed):
    random_ = random.Random(seed)  # hypothesis would count each of its bytes as one it chose
    data = [random_.randbytes(size) for size in sends]
    got = bytearray()
    with UcxWorker() as left, UcxWorker() as right:
        joined = Joined(left, right)
        pending = [left.isend_stream(joined.there, piece) for piece in data]
        for size, how in reads:
            buffer = bytearray(size)
            nbytes = 0
            if how == "w":
                with contextlib.suppress(OperationTimeoutError):
                    nbytes = right.receive_stream(joined.here, buffer, timeout=0.002)
            elif how == "a":
                with contextlib.suppress(OperationTimeoutError):
                    nbytes = right.receive_stream(joined.here, buffer, True, timeout=0.002)
            elif how == "o":
                right.ireceive_stream(joined.here, buffer, True)  # dropped
            elif how == "t":
                nbytes = right.try_receive_stream(joined.here, buffer) or 0
            else:
                read = right.ireceive_stream(joined.here, buffer)
                nbytes = 0 if read.cancel() else read.wait().nbytes
            got += buffer[:nbytes]
        got += joined.read(max(sum(sends) - len(got), 0))
        assert got == b"".join(data)
        wait_all(pending, WAIT)
        assert right.stats().stream_bytes_received == left.stats().stream_bytes_sent == len(got)


def test_one_who_reads_nothing_is_sent_no_more_than_he_allows():
    most = 256 * 1024
    with UcxWorker() as left, UcxWorker(max_unexpected_bytes=most) as right:
        joined = Joined(left, right)
        data = random.Random(2).randbytes(4 << 20)
        sending = left.isend_stream(joined.there, data)
        time.sleep(0.3)
        assert not sending.done
        assert right.stats().unreceived_bytes <= most
        with pytest.raises(PeerFullError):
            left.send_stream(joined.there, b"more", timeout=0.05)
        assert joined.read(len(data)) == data
        assert sending.wait(WAIT).nbytes == len(data)
        assert right.try_receive_stream(joined.here, bytearray(4)) is None


def test_a_send_that_has_begun_goes_on_after_its_time():
    with UcxWorker() as left, UcxWorker(max_unexpected_bytes=64 * 1024) as right:
        joined = Joined(left, right)
        data = random.Random(3).randbytes(1 << 20)
        with pytest.raises(OperationTimeoutError):
            left.send_stream(joined.there, data, timeout=0.1)
        left.isend_stream(joined.there, b"end")
        assert joined.read(len(data) + 3) == data + b"end"


# ---- counters


def test_both_sides_count_bytes_and_no_messages(joined):
    joined.send(b"x" * 1000)
    joined.read(1000)
    sent, received = joined.left.stats(), joined.right.stats(joined.here)
    assert (sent.stream_bytes_sent, sent.bytes_sent, sent.messages_sent) == (1000, 1000, 0)
    assert (received.stream_bytes_received, received.bytes_received) == (1000, 1000)
    assert received.messages_received == received.unreceived_bytes == 0


# ---- ends


def test_what_came_before_the_peer_closed_can_be_read(joined):
    data = os.urandom(2_000_000)
    joined.left.isend_stream(joined.there, data)
    thread = threading.Thread(target=joined.left.disconnect, args=(joined.there,))
    thread.start()
    assert joined.read(len(data) - 5) == data[:-5]
    thread.join()
    with pytest.raises(PeerClosedError, match="5 of 10 bytes"):
        joined.read(10)
    assert joined.read(10, wait_all=False) == data[-5:]
    with pytest.raises(PeerClosedError):
        joined.read(1)
    with pytest.raises(PeerClosedError):
        joined.right.send_stream(joined.here, b"x")


@pytest.mark.parametrize("wait_all", [False, True])
def test_reads_that_wait_end_with_the_peer(joined, wait_all):
    reads = [joined.right.ireceive_stream(joined.here, bytearray(8), wait_all) for _ in range(3)]
    joined.left.disconnect(joined.there)
    for read in reads:
        with pytest.raises(PeerClosedError):
            read.wait(WAIT)


def test_a_read_that_blocks_ends_when_the_worker_is_closed(joined):
    errors = []

    def read() -> None:
        try:
            joined.read(1)
        except WorkerClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    request = joined.right.ireceive_stream(joined.here, bytearray(8))
    thread.start()
    joined.right.close()
    thread.join(WAIT)
    assert errors
    with pytest.raises(WorkerClosedError):
        request.wait()


def test_what_you_closed_cannot_be_used(joined):
    joined.send(b"unread")
    joined.right.disconnect(joined.here)
    with pytest.raises(EndpointClosedError):
        joined.read(1)
    with pytest.raises(EndpointClosedError):
        joined.right.open_stream(joined.here)
    eventually(lambda: not joined.left.is_connected(joined.there))
    with pytest.raises(PeerClosedError):
        joined.send(b"x")


def sending_for_ever(channel, address):
    # What is sent to it, and it never reads, cannot all leave.
    with UcxWorker(ucx_options={"TLS": "tcp,self"}, max_unexpected_bytes=1 << 20) as worker:
        endpoint_id = worker.connect(address)
        worker.send_stream(endpoint_id, b"begin")
        channel.send(None)
        while True:
            worker.send_stream(endpoint_id, b"x" * 100_000)


def read_to_the_end(worker, endpoint_id):
    while True:
        worker.receive_stream(endpoint_id, bytearray(1 << 20), timeout=WAIT)


def test_a_peer_that_is_killed_ends_reads_and_sends(start_child):
    with UcxWorker(ucx_options={"TLS": "tcp,self"}) as worker:
        child = start_child(sending_for_ever, worker.create_listener().address)
        child.receive()
        (endpoint_id,) = worker.get_endpoint_ids()
        buffer = bytearray(5)
        worker.receive_stream(endpoint_id, buffer, True, timeout=WAIT)
        assert buffer == b"begin"
        sending = worker.isend_stream(endpoint_id, bytes(64 << 20))
        child.kill()
        with pytest.raises(EndpointLostError):
            read_to_the_end(worker, endpoint_id)
        with pytest.raises(EndpointLostError):
            sending.wait(WAIT)
        with pytest.raises(EndpointLostError):
            worker.send_stream(endpoint_id, b"x")


# ---- wrong calls


def test_wrong_calls_are_typed_errors(joined):
    left, there = joined.left, joined.there
    for call in (left.receive_stream, left.try_receive_stream, left.ireceive_stream):
        with pytest.raises(InvalidBufferError):
            call(there, b"read only")
        with pytest.raises(InvalidBufferError):
            call(there, None)
        with pytest.raises(UnknownEndpointError):
            call(999, bytearray(1))
        with pytest.raises(ArgumentError):
            call("1", bytearray(1))
    for send in (left.send_stream, left.isend_stream):
        with pytest.raises(InvalidBufferError):
            send(there, "text")
        with pytest.raises(UnknownEndpointError):
            send(999, b"")
    with pytest.raises(InvalidBufferError, match="empty"):
        left.ireceive_stream(there, bytearray())
    with pytest.raises(ArgumentError):
        left.receive_stream(there, bytearray(1), timeout="soon")
    joined.send(b"works")
    assert joined.read(5) == b"works"


def test_where_streams_are_switched_off_both_sides_say_so():
    with UcxWorker(enable_stream=False) as left, UcxWorker() as right:
        joined = Joined(left, right)
        with pytest.raises(FeatureDisabledError, match="enable_stream=True"):
            joined.send(b"x")
        with pytest.raises(FeatureDisabledError, match="switched off there"):
            right.send_stream(joined.here, b"x")
        left.send_tag(joined.there, 1, b"tags go on")
        assert right.receive_tag(joined.here, 1, timeout=WAIT) == b"tags go on"


# ---- files


def test_a_stream_is_a_file(joined, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    writer = joined.left.open_stream(joined.there)
    table = {"rows": list(range(10_000))}

    def write() -> None:
        pickle.dump(table, writer, 5)
        writer.write(b"two\nlines\n")
        with source.open("rb") as file:
            shutil.copyfileobj(file, writer)
        joined.left.disconnect(joined.there)

    thread = threading.Thread(target=write)
    thread.start()
    with io.BufferedReader(joined.right.open_stream(joined.here, timeout=WAIT)) as reader:
        assert pickle.load(reader) == table
        assert [reader.readline(), reader.readline()] == [b"two\n", b"lines\n"]
        with target.open("wb") as file:
            shutil.copyfileobj(reader, file)
        assert reader.read() == b""
    thread.join()
    assert target.read_bytes() == source.read_bytes()


def test_a_file_that_is_closed_leaves_the_connection_open(joined):
    with joined.left.open_stream(joined.there) as file:
        assert file.readable()
        assert file.writable()
        assert file.endpoint_id == joined.there
        assert "open" in repr(file)
    assert "closed" in repr(file)
    for call in (lambda: file.write(b"x"), lambda: file.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            call()
    joined.send(b"goes on")
    assert joined.read(7) == b"goes on"


def test_the_time_a_read_may_take_is_kept(joined):
    file = joined.right.open_stream(joined.here, timeout=0.02)
    with pytest.raises(OperationTimeoutError):
        file.read(1)
    with pytest.raises(ArgumentError):
        joined.right.open_stream(joined.here, timeout=-1)
    file.close()
