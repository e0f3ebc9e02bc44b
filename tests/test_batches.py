"""Many messages in one call: lists, and the rows of arrays."""

from __future__ import annotations

import array
import random
import signal
import threading
import time

import numpy as np
import pytest
from eventually import eventually

from ucxnb import (
    ArgumentError,
    BufferTooSmallError,
    EndpointClosedError,
    EndpointLostError,
    InvalidBufferError,
    OperationTimeoutError,
    PeerClosedError,
    TagRangeError,
    TagTypeError,
    UcxWorker,
    UnknownEndpointError,
)
from ucxnb.engine import mark_toolkit_thread

TIMEOUT = 30


class Sender:
    """Sends from a thread of its own while the block runs."""

    def __init__(self, send, *arguments):
        self._thread = threading.Thread(target=send, args=arguments)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._thread.join()


@pytest.mark.parametrize("size", [0, 8, 8192, 300_000])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_list_arrives_in_order(pair, size, count):
    left, to_right, right, to_left = pair
    rng = random.Random(size)
    count = min(count, 20) if size > 100_000 else count
    messages = [(i % 7, rng.randbytes(size)) for i in range(count)]
    with Sender(left.send_tags, to_right, messages):
        got = right.receive_tags(to_left, [tag for tag, _ in messages], timeout=TIMEOUT)
    assert got == [data for _, data in messages]
    for stats in (left.stats(to_right), left.stats()):
        assert (stats.messages_sent, stats.bytes_sent) == (count, count * size)
    for stats in (right.stats(to_left), right.stats()):
        assert (stats.messages_received, stats.bytes_received) == (count, count * size)


@pytest.mark.parametrize("columns", [1, 1000, 40_000], ids=lambda n: f"{8 * n}B")
@pytest.mark.parametrize("tags", ["one", "array", "list", "int32"])
def test_rows_arrive_in_order(pair, columns, tags):
    left, to_right, right, to_left = pair
    count = 5000 if columns == 1 else 40
    sent = np.random.default_rng(0).random((count, columns))
    got = np.zeros_like(sent)
    numbers = np.arange(count, dtype="u8") % 5
    chosen = {
        "one": 3,
        "array": numbers,
        "list": numbers.tolist(),
        "int32": numbers.astype("i4"),
    }[tags]
    with Sender(left.send_rows, to_right, chosen, sent):
        right.receive_rows(to_left, chosen, got, timeout=TIMEOUT)
    assert np.array_equal(got, sent)
    assert left.stats().messages_sent == right.stats().messages_received == count
    assert left.stats().bytes_sent == right.stats().bytes_received == sent.nbytes


def test_what_counts_as_rows(pair):
    left, to_right, right, to_left = pair
    wide = np.arange(60, dtype="u4").reshape(3, 4, 5)
    left.send_rows(to_right, 1, wide[::2])  # every second: rows need not lie side by side
    assert right.receive_tags(to_left, [1, 1], timeout=TIMEOUT) == [
        wide[0].tobytes(),
        wide[2].tobytes(),
    ]
    left.send_rows(to_right, 2, array.array("d", [1.5, 2.5]))
    flat = np.zeros(2)
    right.receive_rows(to_left, 2, flat, timeout=TIMEOUT)
    assert flat.tolist() == [1.5, 2.5]
    left.send_rows(to_right, 3, np.zeros((0, 8)))
    right.receive_rows(to_left, 3, np.zeros((0, 8)), timeout=TIMEOUT)
    left.send_tags(to_right, [(4, b"abc"), (4, b"de")])
    rows = np.full((2, 4), ord("."), "u1")
    right.receive_rows(to_left, 4, rows, timeout=TIMEOUT)
    assert rows.tobytes() == b"abc.de.."
    assert right.stats().bytes_received == 2 * 80 + 16 + 5


class Odd(list):
    """Not as long as it says."""

    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda w, e: w.send_tags(e, 7), ArgumentError),
        (lambda w, e: w.send_tags(e, [(1, b""), 2]), ArgumentError),
        (lambda w, e: w.send_tags(e, [(1, b""), (2, "text")]), InvalidBufferError),
        (lambda w, e: w.send_tags(e, [(1, b""), (2**40, b"")]), TagRangeError),
        (lambda w, e: w.send_tags(99, [(1, b"")]), UnknownEndpointError),
        (lambda w, e: w.send_tags(e, [], timeout=-1), ArgumentError),
        (lambda w, e: w.send_rows(e, [1, 2], np.zeros((3, 1))), ArgumentError),
        (lambda w, e: w.send_rows(e, 1, np.float64(1)), InvalidBufferError),
        (lambda w, e: w.send_rows(e, 1, np.zeros((4, 4))[:, ::2]), InvalidBufferError),
        (lambda w, e: w.send_rows(e, 1, np.array([None])), InvalidBufferError),
        (lambda w, e: w.send_rows(e, np.array([1, -1]), np.zeros(2)), TagRangeError),
        (lambda w, e: w.send_rows(e, np.array([1.5]), np.zeros(1)), TagTypeError),
        (lambda w, e: w.send_rows(e, np.array([2**63], "u8"), np.zeros(1)), TagRangeError),
        (lambda w, e: w.send_rows(e, Odd([1, 2]), np.zeros(3)), ArgumentError),
        (lambda w, e: w.send_rows(e, iter([1]), np.zeros(1)), TagTypeError),
        (lambda w, e: w.receive_tags(e, 5), ArgumentError),
        (lambda w, e: w.receive_tags(None, [1]), ArgumentError),
        (lambda w, e: w.receive_tags(e, ["1"]), TagTypeError),
        (lambda w, e: w.receive_rows(e, 1, b"read-only"), InvalidBufferError),
    ],
)
def test_wrong_arguments_move_nothing(pair, call, error):
    left, to_right, right, to_left = pair
    with pytest.raises(error):
        call(left, to_right)
    left.send_tag(to_right, 1, b"still")
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == b"still"
    assert left.stats().messages_sent == 1


@pytest.mark.parametrize("rows", [False, True], ids=["list", "rows"])
@pytest.mark.parametrize("size", [8, 100_000])
def test_a_batch_that_does_not_come_whole_is_not_received(pair, rows, size):
    left, to_right, right, to_left = pair
    messages = [(1, bytes([i]) * size) for i in range(10)]
    sends = [left.isend_tag(to_right, tag, data) for tag, data in messages]
    for _ in range(2):
        arguments = (1, np.zeros((11, size), "u1")) if rows else ([1] * 11,)
        receive = right.receive_rows if rows else right.receive_tags
        with pytest.raises(OperationTimeoutError, match="10 of 11"):
            receive(to_left, *arguments, timeout=0.2)
    assert right.stats().messages_received == 0
    left.send_tag(to_right, 1, b"eleventh")
    got = right.receive_tags(to_left, [1] * 11, timeout=TIMEOUT)
    assert got == [*(data for _, data in messages), b"eleventh"]
    assert right.stats().messages_received == 11
    assert all(send.done for send in sends)


def test_a_message_larger_than_its_row_is_kept_with_those_before(pair):
    left, to_right, right, to_left = pair
    left.send_tags(to_right, [(1, b"ab"), (1, b"cde"), (1, b"fg")])
    with pytest.raises(BufferTooSmallError) as caught:
        right.receive_rows(to_left, 1, np.zeros((3, 2), "u1"), timeout=TIMEOUT)
    assert caught.value.needed == 3
    assert right.receive_tags(to_left, [1] * 3, timeout=TIMEOUT) == [b"ab", b"cde", b"fg"]


def test_a_batch_whose_peer_leaves(pair):
    left, to_right, right, to_left = pair
    left.send_tags(to_right, [(1, b"a"), (1, b"b")])
    left.disconnect(to_right)
    with pytest.raises(PeerClosedError):
        right.receive_tags(to_left, [1] * 3, timeout=TIMEOUT)
    assert right.receive_tags(to_left, [1] * 2, timeout=TIMEOUT) == [b"a", b"b"]
    with pytest.raises(EndpointClosedError):
        left.send_tags(to_right, [(1, b"")])


def test_a_send_that_runs_out_of_time_says_how_much_is_on_its_way(pair):
    left, to_right, right, to_left = pair
    data = np.random.default_rng(0).integers(0, 255, (5, 1 << 20), dtype=np.uint8)
    with pytest.raises(OperationTimeoutError, match="5 of 5"):
        left.send_rows(to_right, 1, data, timeout=0.05)
    got = np.empty_like(data)
    right.receive_rows(to_left, 1, got, timeout=TIMEOUT)
    assert np.array_equal(got, data)


def test_a_batch_that_has_all_come_already_is_taken_at_once(pair):
    left, to_right, right, to_left = pair
    numbers, got = np.arange(400_000), np.zeros(400_000, int)
    left.send_rows(to_right, 1, numbers)
    right.receive_rows(to_left, 1, got, timeout=TIMEOUT)  # it would take longer if it slept
    assert np.array_equal(got, numbers)


def test_a_batch_given_back_is_served_oldest_first(pair):
    left, to_right, right, to_left = pair
    left.send_tags(to_right, [(1, b"%d" % number) for number in range(5)])
    eventually(lambda: right.progress() == 0)
    requests = []
    with (
        Sender(lambda: requests.extend(post(right, to_left))),
        pytest.raises(OperationTimeoutError),
    ):
        right.receive_tags(to_left, [1] * 6, timeout=0.3)
    assert [request.wait(TIMEOUT).data for request in requests] == [b"0", b"1"]
    assert right.receive_tags(to_left, [1] * 3, timeout=TIMEOUT) == [b"2", b"3", b"4"]


def post(worker, endpoint_id):
    """Post two receives while another thread is inside a batch."""
    time.sleep(0.1)
    mark_toolkit_thread()  # one that thread mode does not count
    return [worker.ireceive_tag(endpoint_id, 1) for _ in range(2)]


def test_with_worker_scoped_tags_a_batch_comes_from_anyone():
    with UcxWorker(tag_scope="worker") as left, UcxWorker(tag_scope="worker") as right:
        to_right = left.connect(right.create_listener().address)
        tags = np.array([2**64 - 1, 2**63], "u8")
        left.send_rows(to_right, tags, np.array([1.0, 2.0]))
        got = np.zeros(2)
        right.receive_rows(None, tags, got, timeout=TIMEOUT)
        assert got.tolist() == [1, 2]


def flood(channel, address, count):
    with UcxWorker() as worker:
        endpoint_id = worker.connect(address)
        rows = np.arange(count, dtype="u8")
        channel.send("ready")
        while channel.receive() == "again":
            worker.send_rows(endpoint_id, 1, rows)
            channel.send(worker.receive_tag(endpoint_id, 2, timeout=TIMEOUT))


def test_a_million_rows_between_processes(start_child):
    count = 1_000_000
    with UcxWorker() as worker:
        child = start_child(flood, worker.create_listener().address, count)
        child.receive()
        (peer,) = worker.get_endpoint_ids()
        got = np.zeros(count, "u8")
        for _ in range(2):
            got[:] = 0
            child.send("again")
            worker.receive_rows(peer, 1, got, timeout=TIMEOUT)
            assert np.array_equal(got, np.arange(count, dtype="u8"))
            worker.send_tag(peer, 2, b"ok")
            assert child.receive() == b"ok"
        child.send("enough")
        child.result()
        assert worker.stats().messages_received == 2 * count


def test_ctrl_c_in_a_batch_loses_nothing(pair):
    left, to_right, right, to_left = pair
    left.send_rows(to_right, 1, np.arange(100, dtype="u8"))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            right.receive_rows(to_left, 1, np.zeros(200, "u8"), timeout=TIMEOUT)
    finally:
        signal.signal(signal.SIGALRM, before)
    left.send_rows(to_right, 1, np.arange(100, 200, dtype="u8"))
    got = np.zeros(200, "u8")
    right.receive_rows(to_left, 1, got, timeout=TIMEOUT)
    assert np.array_equal(got, np.arange(200))


def test_ctrl_c_while_a_batch_is_posted_lets_go_of_it(pair):
    left, to_right, right, to_left = pair
    size = 1 << 20  # more than UCX sends before the receiver asks for it
    data = bytearray(size)
    rows = np.broadcast_to(np.frombuffer(data, "u1"), (2000, size))  # the same one again and again
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            left.send_rows(to_right, 1, rows, timeout=TIMEOUT)
    finally:
        signal.signal(signal.SIGALRM, before)
    del rows
    sent = left.stats().messages_sent
    assert 0 < sent < 2000
    for _ in range(sent):
        assert len(right.receive_tag(to_left, 1, timeout=TIMEOUT)) == size

    def is_free():
        try:
            data.append(0)
        except BufferError:
            return False
        return True

    eventually(is_free)
    assert right.try_receive_tag(to_left, 1) is None


def test_an_array_is_used_again_while_messages_arrive_in_it(pair):
    left, to_right, right, to_left = pair
    large = random.Random(1).randbytes(64 << 20)
    array = memoryview(bytearray(len(large))).cast("B", (1, len(large)))
    with Sender(left.send_tag, to_right, 1, large):
        come = ""
        while not come.startswith("1 of 1 messages came"):
            with pytest.raises(OperationTimeoutError) as caught:
                right.receive_rows(to_left, 1, array, timeout=0)
            come = str(caught.value)
    left.send_tag(to_right, 2, b"small")
    right.receive_rows(to_left, 2, array, timeout=TIMEOUT)
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == large


def test_messages_given_back_are_counted_once(pair):
    left, to_right, right, to_left = pair
    request = right.ireceive_tag(to_left, 1)
    left.send_tag(to_right, 1, b"x")
    eventually(lambda: right.stats().messages_received == 1)
    del request
    with pytest.raises(OperationTimeoutError):
        right.receive_tags(to_left, [1, 1], timeout=0)
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == b"x"
    assert right.stats().messages_received == 1


def silent(channel, address):
    with UcxWorker() as worker:
        worker.connect(address)
        channel.send("here")
        time.sleep(60)


def test_a_killed_peer_ends_a_batch(start_child):
    with UcxWorker() as worker:
        child = start_child(silent, worker.create_listener().address)
        child.receive()
        (peer,) = worker.get_endpoint_ids()
        errors = []

        def send() -> None:
            with pytest.raises(EndpointLostError) as caught:
                worker.send_rows(peer, 1, np.zeros((4, 1 << 20)))
            errors.append(caught.value)

        thread = threading.Thread(target=send)
        thread.start()
        eventually(lambda: worker._calls_inside)
        child.kill()
        thread.join(TIMEOUT)
        assert errors
        with pytest.raises(EndpointLostError):
            worker.receive_tags(peer, [1], timeout=TIMEOUT)
