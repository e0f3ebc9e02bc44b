"""Requests: sends and receives that go on while the program does something else."""

from __future__ import annotations

import gc
import os
import pickle
import random
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from eventually import eventually

from ucxnb import (
    ArgumentError,
    BufferTooSmallError,
    EndpointClosedError,
    EndpointLostError,
    InvalidBufferError,
    Message,
    NoPeersError,
    OperationTimeoutError,
    PeerClosedError,
    Request,
    RequestCancelledError,
    ThreadMode,
    ThreadModeError,
    UcxWorker,
    WorkerClosedError,
    as_completed,
    wait_all,
    wait_any,
)

TIMEOUT = 30
LARGE = 8 << 20  # far beyond what UCX sends before the receiver asks for it


def test_a_send_and_a_receive_tell_what_moved(pair):
    left, to_right, right, to_left = pair
    receive = right.ireceive_tag(to_left, 7)
    assert not receive.done
    assert not receive.is_send
    send = left.isend_tag(to_right, 7, b"hello")
    assert send.is_send
    assert send.wait(TIMEOUT) == Message(to_right, 7, 5, None)
    assert receive.wait(TIMEOUT) == Message(to_left, 7, 5, b"hello")
    assert receive.done
    assert receive.wait(0) == Message(to_left, 7, 5, b"hello")


def test_into_a_buffer_and_from_anyone_with_a_mask(pair):
    left, to_right, right, to_left = pair
    buffer = bytearray(16)
    receive = right.ireceive_tag(None, 0, buffer, tag_mask=0)
    left.send_tag(to_right, 99, b"any tag")
    assert receive.wait(TIMEOUT) == Message(to_left, 99, 7, None)
    assert buffer[:7] == b"any tag"


@pytest.mark.parametrize("size", [0, 8, 8192, LARGE])
def test_the_background_thread_completes_both_sides(pair, size):
    left, to_right, right, to_left = pair
    data = random.Random(size).randbytes(size)
    receive, send = right.ireceive_tag(to_left, 1), left.isend_tag(to_right, 1, data)
    before = right.stats().messages_received, left.stats().messages_sent
    eventually(lambda: "done" in repr(receive) and "done" in repr(send))  # looks, never pushes
    assert receive.wait(0).data == data
    assert send.wait(0).nbytes == size
    assert before <= (right.stats().messages_received, left.stats().messages_sent) == (1, 1)


def test_receives_are_served_in_the_order_they_were_posted(pair):
    left, to_right, right, to_left = pair
    requests = [right.ireceive_tag(to_left, 5) for _ in range(10)]
    masked = right.ireceive_tag(None, 0, tag_mask=0)
    last = right.ireceive_tag(to_left, 5)
    for i in range(12):
        left.send_tag(to_right, 5, bytes([i]))
    assert [r.wait(TIMEOUT).data[0] for r in [*requests, masked, last]] == list(range(12))


def test_a_posted_receive_comes_before_a_blocking_one(pair):
    left, to_right, right, to_left = pair
    posted = right.ireceive_tag(to_left, 5)
    left.send_tag(to_right, 5, b"first")
    left.send_tag(to_right, 5, b"second")
    assert right.receive_tag(to_left, 5, timeout=TIMEOUT) == b"second"
    assert posted.wait(TIMEOUT).data == b"first"


def test_a_message_that_was_there_before(pair):
    left, to_right, right, to_left = pair
    for i in range(3):
        left.send_tag(to_right, 5, bytes([i]))
    assert right.receive_tag(to_left, 5, timeout=TIMEOUT) == b"\0"
    assert [right.ireceive_tag(to_left, 5).wait(TIMEOUT).data for _ in range(2)] == [b"\1", b"\2"]


def test_a_buffer_that_is_too_small_keeps_the_message(pair):
    left, to_right, right, to_left = pair
    small, next_one = right.ireceive_tag(to_left, 5, bytearray(3)), right.ireceive_tag(to_left, 5)
    left.send_tag(to_right, 5, b"four")
    with pytest.raises(BufferTooSmallError) as caught:
        small.wait(TIMEOUT)
    assert caught.value.needed == 4
    assert next_one.wait(TIMEOUT).data == b"four"


def test_a_buffer_that_a_message_still_arrives_in_takes_no_other(pair):
    left, to_right, right, to_left = pair
    left.send_tag(to_right, 8, b"8" * 100)
    sending = left.isend_tag(to_right, 7, b"7" * LARGE)
    with pytest.raises(BufferTooSmallError):
        right.receive_tag(to_left, 8, bytearray(1), timeout=TIMEOUT)  # so that it waits
    buffer = bytearray(LARGE)
    begun = False
    while not begun:
        with pytest.raises(OperationTimeoutError) as caught:
            right.receive_tag(to_left, 7, buffer, timeout=0)
        begun = "not all came in time" in str(caught.value)
    for _ in range(2):
        try:
            got = right.receive_message(to_left, 0, buffer, tag_mask=0, timeout=TIMEOUT)
        except InvalidBufferError:  # the other one is arriving
            got = right.receive_message(to_left, 0, tag_mask=0, timeout=TIMEOUT)
        data = bytes(buffer[: got.nbytes]) if got.data is None else got.data
        assert data == (b"8" * 100 if got.tag == 8 else b"7" * LARGE)
    sending.wait(TIMEOUT)


def test_a_request_that_failed_holds_nothing(pair):
    left, to_right, right, to_left = pair

    def wait_in_vain(other):
        with pytest.raises(BufferTooSmallError, match="has 3 bytes"):
            request.wait(TIMEOUT)

    request = right.ireceive_tag(to_left, 1, bytearray(1))
    other = right.ireceive_tag(to_left, 2)
    left.send_tag(to_right, 1, b"abc")
    wait_in_vain(other)
    gone = weakref.ref(other)
    del other
    assert gone() is None  # no traceback keeps the caller's frame, and what is in it
    wait_in_vain(None)


def test_waiting_can_run_out_and_be_taken_up_again(pair):
    left, to_right, right, to_left = pair
    request = right.ireceive_tag(to_left, 5)
    with pytest.raises(OperationTimeoutError):
        request.wait(0.02)
    with pytest.raises(ArgumentError):
        request.wait(-1)
    left.send_tag(to_right, 5, b"late")
    assert request.wait(TIMEOUT).data == b"late"


def test_a_receive_can_be_cancelled_until_its_message_comes(pair):
    left, to_right, right, to_left = pair
    request = right.ireceive_tag(to_left, 5)
    assert request.cancel()
    assert request.done
    assert request.cancelled
    assert not request.cancel()
    for kind in (RequestCancelledError, CancelledError):
        with pytest.raises(kind, match="tag 5"):
            request.wait()
    left.send_tag(to_right, 5, b"kept")
    assert right.receive_tag(to_left, 5, timeout=TIMEOUT) == b"kept"
    request = right.ireceive_tag(to_left, 6)
    left.send_tag(to_right, 6, b"here")
    eventually(lambda: request.done)
    assert not request.cancel()
    assert request.wait(0).data == b"here"


def test_a_send_cannot_be_cancelled(pair):
    left, to_right, right, to_left = pair
    request = left.isend_tag(to_right, 5, bytes(LARGE))
    assert not request.cancel()
    assert not request.cancelled
    assert len(right.receive_tag(to_left, 5, timeout=TIMEOUT)) == LARGE
    assert request.wait(TIMEOUT).nbytes == LARGE


@pytest.mark.parametrize("size", [8, LARGE])
@pytest.mark.parametrize("into_buffer", [False, True])
def test_a_receive_that_is_dropped_gives_its_message_back(pair, size, into_buffer):
    left, to_right, right, to_left = pair
    data = random.Random(1).randbytes(size)
    for moment in ("before", "meanwhile", "after"):
        buffer = bytearray(size) if into_buffer else None
        request = right.ireceive_tag(to_left, 5, buffer)
        if moment == "before":
            del request
        send = left.isend_tag(to_right, 5, data)
        if moment == "after":
            eventually(lambda: request.done)  # noqa: B023
        request = None
        if moment == "after" and buffer:
            buffer[:] = bytes(size)  # it is the program's again
        assert right.receive_tag(to_left, 5, timeout=TIMEOUT) == data
        send.wait(TIMEOUT)
    assert right.stats().messages_received == 3


def test_messages_given_back_keep_their_order(pair):
    left, to_right, right, to_left = pair
    requests = [right.ireceive_tag(to_left, 5) for _ in range(20)]
    for i in range(30):
        left.send_tag(to_right, 5, bytes([i]))
    eventually(lambda: all(request.done for request in requests))
    random.Random(0).shuffle(requests)
    while requests:
        requests.pop()
    got = [right.receive_tag(to_left, 5, timeout=TIMEOUT)[0] for _ in range(30)]
    assert got == list(range(30))


def test_a_message_given_back_goes_to_a_receive_that_waits(pair):
    left, to_right, right, to_left = pair
    first, second = right.ireceive_tag(to_left, 5), right.ireceive_tag(to_left, 5)
    left.send_tag(to_right, 5, b"one")
    eventually(lambda: first.done)
    assert not second.done
    first = None
    assert second.wait(TIMEOUT).data == b"one"
    large = random.Random(2).randbytes(LARGE)
    first, second = right.ireceive_tag(to_left, 6), right.ireceive_tag(to_left, 6)
    send = left.isend_tag(to_right, 6, large)
    first = None  # while it arrives
    left.send_tag(to_right, 6, b"after")
    assert second.wait(TIMEOUT).data == large
    assert right.receive_tag(to_left, 6, timeout=TIMEOUT) == b"after"
    send.wait(TIMEOUT)


def test_a_dropped_send_goes_on_and_keeps_its_buffer(pair):
    left, to_right, right, to_left = pair
    data = np.random.default_rng(0).integers(0, 255, LARGE, dtype=np.uint8)
    expected, alive = data.tobytes(), weakref.ref(data)
    left.isend_tag(to_right, 5, data)
    del data
    gc.collect()
    assert alive() is not None
    assert right.receive_tag(to_left, 5, timeout=TIMEOUT) == expected
    left.cleanup_all()
    left.stats()
    assert alive() is None


def test_a_buffer_is_locked_only_while_it_is_in_use(pair):
    left, to_right, right, to_left = pair
    buffer = bytearray(100)
    request = right.ireceive_tag(to_left, 5, buffer)
    with pytest.raises(BufferError):
        buffer.clear()
    left.send_tag(to_right, 5, b"x")
    request.wait(TIMEOUT)
    buffer.clear()
    request = right.ireceive_tag(to_left, 5, bytearray(8))
    request.cancel()
    with pytest.raises(InvalidBufferError):
        right.ireceive_tag(to_left, 5, b"read-only")


def test_waves_of_requests_leave_nothing_behind(pair):
    left, to_right, right, to_left = pair
    data = bytes(64)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    sizes = []
    for wave in range(100):
        receives = [right.ireceive_tag(to_left, tag) for tag in range(1000)]
        sends = [left.isend_tag(to_right, tag, data) for tag in range(1000)]
        assert all(m.data == data for m in wait_all(receives, TIMEOUT))
        wait_all(sends, TIMEOUT)
        if wave % 10 == 9:
            del receives, sends
            gc.collect()
            sizes.append(resident())
    assert left.stats().messages_sent == right.stats().messages_received == 100_000
    assert sizes[-1] - sizes[4] < 4 << 20, sizes


def test_wait_all_keeps_the_order_and_raises_the_first_error(pair):
    left, to_right, right, to_left = pair
    requests = [right.ireceive_tag(to_left, tag) for tag in range(5)]
    for tag in reversed(range(5)):
        left.send_tag(to_right, tag, bytes([tag]))
    assert [m.tag for m in wait_all(requests, TIMEOUT)] == list(range(5))
    small = right.ireceive_tag(to_left, 5, bytearray(1))
    good = right.ireceive_tag(to_left, 6)
    for tag in (5, 6):
        left.send_tag(to_right, tag, b"two")
    with pytest.raises(BufferTooSmallError):
        wait_all([good, small], TIMEOUT)
    assert good.wait(0).data == b"two"
    assert wait_all([]) == []
    never = right.ireceive_tag(to_left, 9)
    with pytest.raises(OperationTimeoutError, match="0 of 1"):
        wait_all([never], 0.02)


def test_wait_any_and_as_completed_over_several_workers(pair):
    left, to_right, right, to_left = pair
    here, there = right.ireceive_tag(to_left, 1), left.ireceive_tag(to_right, 2)
    with pytest.raises(OperationTimeoutError):
        wait_any([here, there], 0.02)
    right.send_tag(to_left, 2, b"b")
    assert wait_any([here, there], TIMEOUT) is there
    requests = [right.ireceive_tag(to_left, tag) for tag in range(3)]
    order = as_completed([here, *requests], TIMEOUT)
    for tag in (2, 0, 1):
        left.send_tag(to_right, tag, b"")
        if tag != 1:
            assert next(order).wait(0).tag == tag
    assert next(order) is here  # the older receive of tag 1
    left.send_tag(to_right, 1, b"")
    assert [r.wait(0).tag for r in order] == [1]
    for function in (wait_all, wait_any, as_completed):
        with pytest.raises(ArgumentError):
            function(["no request"])
        with pytest.raises(ArgumentError):
            function([here], -1)
    with pytest.raises(ArgumentError):
        wait_any([])


def test_what_ends_a_receive_that_nobody_serves(pair):
    left, to_right, right, to_left = pair
    mine, theirs = left.ireceive_tag(to_right, 1), right.ireceive_tag(to_left, 1)
    anyone = left.ireceive_tag(None, 2)
    left.disconnect(to_right)
    with pytest.raises(EndpointClosedError):
        mine.wait(TIMEOUT)
    with pytest.raises(PeerClosedError):
        theirs.wait(TIMEOUT)
    with pytest.raises(NoPeersError):
        anyone.wait(TIMEOUT)
    with pytest.raises(NoPeersError):
        left.ireceive_tag(None, 3).wait(TIMEOUT)
    open_still = right.ireceive_tag(None, 3)  # its listener could bring somebody
    assert not open_still.done
    right.listeners[0].close()
    with pytest.raises(NoPeersError):
        open_still.wait(TIMEOUT)


def test_what_came_before_the_end_is_received(pair):
    left, to_right, right, to_left = pair
    requests = [right.ireceive_tag(to_left, 1) for _ in range(3)]
    left.send_tag(to_right, 1, b"a")
    left.send_tag(to_right, 1, b"b")
    left.disconnect(to_right)
    assert [r.wait(TIMEOUT).data for r in requests[:2]] == [b"a", b"b"]
    with pytest.raises(PeerClosedError):
        requests[2].wait(TIMEOUT)


def killed_peer(channel, address):
    with UcxWorker() as worker:
        endpoint_id = worker.connect(address)
        worker.send_tag(endpoint_id, 0, b"")
        requests = [worker.isend_tag(endpoint_id, 1, bytes(LARGE)) for _ in range(4)]
        channel.send(len(requests))
        channel.receive()


def test_a_killed_peer_ends_requests(start_child):
    with UcxWorker() as worker:
        child = start_child(killed_peer, worker.create_listener().address)
        peer = worker.receive_message(None, 0, timeout=TIMEOUT).endpoint_id
        child.receive()
        waiting = worker.ireceive_tag(peer, 2)
        send = worker.isend_tag(peer, 3, bytes(64 << 20))
        child.kill()
        for request in (waiting, send):
            with pytest.raises(EndpointLostError):
                request.wait(TIMEOUT)


def test_closing_the_worker_ends_requests_and_keeps_results():
    with UcxWorker() as right:
        left = UcxWorker()
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        got, waiting = left.ireceive_tag(to_right, 1), left.ireceive_tag(to_right, 2)
        right.send_tag(to_left, 1, b"got")
        eventually(lambda: got.done)
        stuck = left.isend_tag(to_right, 3, bytes(LARGE))
        left.close()
        assert got.wait(0).data == b"got"
        with pytest.raises(WorkerClosedError):
            waiting.wait()
        with pytest.raises((WorkerClosedError, EndpointClosedError)):
            stuck.wait()


def test_threads_in_single_mode_and_in_multi(pair):
    _, _, right, to_left = pair
    request, errors = right.ireceive_tag(to_left, 1), []

    def wait():
        with pytest.raises(RequestCancelledError) as caught:
            request.wait()
        errors.append(caught.value)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: right._calls_inside)
    with pytest.raises(ThreadModeError):
        right.ireceive_tag(to_left, 2)
    assert request.cancel()
    thread.join()
    assert errors


def test_many_threads_share_a_worker():
    fields = {"thread_mode": ThreadMode.MULTI}
    with UcxWorker(**fields) as left, UcxWorker(**fields) as right:
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        problems = []

        def exchange(tag: int) -> None:
            try:
                for i in range(300):
                    receive = right.ireceive_tag(to_left, tag)
                    data = bytes([i % 251]) * (20_000 if i % 50 == 0 else 8)
                    left.isend_tag(to_right, tag, data)
                    if i % 3:
                        assert receive.wait(TIMEOUT).data == data
                    else:
                        del receive
                        assert right.receive_tag(to_left, tag, timeout=TIMEOUT) == data
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=exchange, args=[tag]) for tag in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert right.stats().messages_received == 1800


def test_a_request_cannot_be_made_by_hand_or_pickled(pair):
    _, _, right, to_left = pair
    with pytest.raises(TypeError):
        Request()
    request = right.ireceive_tag(to_left, 1)
    with pytest.raises(TypeError):
        pickle.dumps(request)
    assert "receive of tag 1" in repr(request)


# ---- several threads, and odd moments


@pytest.mark.parametrize("how", ["polled", "waited in vain", "any"])
def test_a_request_that_nobody_read_outlives_its_worker(how):
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        request = right.ireceive_tag(None, 1)
        if how == "waited in vain":
            with pytest.raises(OperationTimeoutError):
                request.wait(0)
        left.send_tag(to_right, 1, b"x")
        if how == "any":
            assert wait_any([request], TIMEOUT) is request
        else:
            while not request.done:
                pass
    del request
    gc.collect()


def test_a_receive_is_posted_while_its_message_comes():
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        go, rounds = threading.Semaphore(0), 3000

        def send() -> None:
            for number in range(rounds):
                go.acquire()
                left.send_tag(to_right, 1, number.to_bytes(4, "little"))

        thread = threading.Thread(target=send)
        thread.start()
        for number in range(rounds):
            go.release()
            got = right.ireceive_tag(to_left, 1).wait(TIMEOUT)
            assert int.from_bytes(got.data, "little") == number
        thread.join()


def test_a_flood_reaches_receives_in_order(pair):
    left, to_right, right, to_left = pair
    waves, each = 40, 1000
    numbers = np.arange(waves * each, dtype="u8")
    thread = threading.Thread(target=left.send_rows, args=(to_right, 1, numbers))
    thread.start()
    for wave in range(waves):
        messages = wait_all([right.ireceive_tag(to_left, 1) for _ in range(each)], TIMEOUT)
        got = [int.from_bytes(message.data, "little") for message in messages]
        assert got == list(range(wave * each, (wave + 1) * each))
    thread.join()


def test_receives_of_every_kind_are_served_oldest_first(pair):
    left, to_right, right, to_left = pair
    kinds = [(to_left, 7, None), (None, 7, None), (None, 0, 0), (to_left, 0, 0), (None, 7, 7)]
    rng = random.Random(3)
    posted = [right.ireceive_tag(e, t, tag_mask=m) for e, t, m in rng.choices(kinds, k=200)]
    small = right.ireceive_tag(to_left, 7, bytearray(1))
    last = right.ireceive_tag(None, 7)
    for number in range(201):
        left.send_tag(to_right, 7, number.to_bytes(2, "little"))
    got = [int.from_bytes(message.data, "little") for message in wait_all(posted, TIMEOUT)]
    assert got == list(range(200))
    with pytest.raises(BufferTooSmallError):
        small.wait(TIMEOUT)
    assert last.wait(TIMEOUT).data == (200).to_bytes(2, "little")  # what was too large for `small`


@pytest.fixture
def often_switched():
    """Threads take turns a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_wait_for_poll_and_cancel_one_request(often_switched):
    with (
        UcxWorker(thread_mode=ThreadMode.MULTI) as left,
        UcxWorker(thread_mode=ThreadMode.MULTI) as right,
    ):
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        got, cancelled = [], 0

        def wait(request: Request) -> None:
            try:
                got.append(request.wait(TIMEOUT))
            except RequestCancelledError:
                got.append(None)

        for number in range(1000):
            request = right.ireceive_tag(to_left, 1)
            threads = [threading.Thread(target=wait, args=[request]) for _ in range(2)]
            for thread in threads:
                thread.start()
            left.send_tag(to_right, 1, number.to_bytes(4, "little"))
            mine = request.cancel()
            wait(request)
            for thread in threads:
                thread.join()
            if mine:
                cancelled += 1
                assert got == [None] * 3
                assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == number.to_bytes(
                    4, "little"
                )
            else:
                assert [message.data for message in got] == [number.to_bytes(4, "little")] * 3
            got.clear()
        assert right.stats().messages_received == 1000


def test_closing_while_another_thread_looks(often_switched):
    for _ in range(20):
        with UcxWorker(thread_mode=ThreadMode.MULTI) as left, UcxWorker() as right:
            endpoint_id = left.connect(right.create_listener().address)
            requests = [left.ireceive_tag(endpoint_id, 1) for _ in range(10)]
            requests.append(left.isend_tag(endpoint_id, 1, bytes(LARGE)))
            stop = threading.Event()

            def look(requests=requests, stop=stop) -> None:
                while not stop.is_set():
                    for request in requests:
                        assert request.done in (True, False)

            thread = threading.Thread(target=look)
            thread.start()
            time.sleep(0.002)
            left.close()
            stop.set()
            thread.join()


def test_a_worker_is_collected_inside_a_call_of_another(pair):
    _, _, right, to_left = pair
    other = UcxWorker()
    cycle = [other, other.create_listener()]
    cycle.append(cycle)
    gone = weakref.ref(other)
    with pytest.warns(ResourceWarning, match="dropped open"):
        del other, cycle
        gc.collect(0)  # whatever is left, so that what follows is the youngest
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        requests = [right.ireceive_tag(to_left, 1) for _ in range(100)]
        gc.set_threshold(*threshold)
        gc.collect()
    assert gone() is None
    del requests


def test_a_fork_leaves_the_parents_requests_alone():
    with UcxWorker(ucx_options={"TLS": "tcp"}) as left, UcxWorker(ucx_options={"TLS": "tcp"}) as r:
        to_right = left.connect(r.create_listener().address)
        for _ in range(5):
            request = r.ireceive_tag(None, 1)
            child = os.fork()
            if child == 0:
                for _ in range(10_000):
                    if request.done:
                        os._exit(1)
                try:
                    wait_any([request])
                except WorkerClosedError:
                    os._exit(0)
                os._exit(2)
            left.send_tag(to_right, 1, b"for the parent")
            assert request.wait(TIMEOUT).data == b"for the parent"
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
