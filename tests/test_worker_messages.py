"""Tagged messages: what goes in comes out, whole, in order, to the right receiver."""

from __future__ import annotations

import array
import itertools
import random
import threading

import numpy as np
import pytest
from eventually import eventually

import ucxnb
from ucxnb import ThreadMode, UcxWorker

TIMEOUT = 30


@pytest.mark.parametrize(
    "size", [0, 1, 8, 4095, 8191, 8192, 8193, 65536, 1 << 20, (1 << 24) + 3], ids=str
)
def test_bytes_of_any_size_arrive_whole(pair, size):
    left, to_right, right, to_left = pair
    data = random.Random(size).randbytes(size)
    # A message beyond the eager size is sent only while somebody receives it.
    with UcxSender(left, to_right, 3, data):
        assert right.receive_tag(to_left, 3, timeout=TIMEOUT) == data
    buffer = bytearray(size + 5)
    with UcxSender(left, to_right, 3, data):
        assert right.receive_tag(to_left, 3, buffer, timeout=TIMEOUT) == size
    assert buffer[:size] == data
    assert buffer[size:] == bytes(5)


class UcxSender:
    """Sends from a thread of its own while the block runs."""

    def __init__(self, worker, endpoint_id, tag, data):
        self.error = None
        self._thread = threading.Thread(target=self._send, args=(worker, endpoint_id, tag, data))

    def _send(self, worker, endpoint_id, tag, data):
        try:
            worker.send_tag(endpoint_id, tag, data, timeout=TIMEOUT)
        except Exception as error:
            self.error = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._thread.join()
        if kind is None and self.error is not None:
            raise self.error


@pytest.mark.timeout(300)
def test_a_message_over_two_gibibytes(pair):
    left, to_right, right, to_left = pair
    size = (1 << 31) + 4097
    step = (1 << 16) + 1
    data, buffer = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    data[::step] = np.arange(len(data[::step])) % 251 + 1
    with UcxSender(left, to_right, 0, data):
        assert right.receive_tag(to_left, 0, buffer, timeout=120) == size
    assert np.array_equal(buffer[::step], data[::step])
    assert np.count_nonzero(buffer) == len(data[::step])


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(b"0123456789")[2:7],
        array.array("d", [1.5, 2.5]),
        np.arange(6, dtype=np.float64).reshape(2, 3),
        np.arange(5, dtype=np.int16)[1:4],
        np.array(["2026-01-01"], "datetime64[D]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(3.5),
        np.empty((0, 4)),
    ],
    ids=lambda data: f"{type(data).__name__}-{getattr(data, 'dtype', '')}",
)
def test_anything_with_a_contiguous_buffer_can_be_sent(pair, data):
    left, to_right, right, to_left = pair
    left.send_tag(to_right, 1, data)
    whole = data.tobytes() if hasattr(data, "tobytes") else bytes(data)
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == whole


@pytest.mark.parametrize(
    "buffer", [bytearray(16), memoryview(bytearray(16)), np.zeros(2), array.array("q", [0, 0])]
)
def test_any_writable_contiguous_buffer_receives(pair, buffer):
    left, to_right, right, to_left = pair
    data = np.array([1.25, -3.5]).tobytes()
    left.send_tag(to_right, 1, data)
    assert right.receive_tag(to_left, 1, buffer, timeout=TIMEOUT) == 16
    assert memoryview(buffer).tobytes() == data


@pytest.mark.parametrize(
    "data", [np.arange(10)[::2], np.zeros((3, 3), order="F"), np.array([object()]), "text", 7, None]
)
def test_what_has_no_contiguous_bytes_cannot_be_sent(pair, data):
    left, to_right, right, _ = pair
    with pytest.raises(ucxnb.InvalidBufferError):
        left.send_tag(to_right, 1, data)
    assert right.try_receive_tag(None, 1) is None


@pytest.mark.parametrize("buffer", [b"read only", np.zeros(8)[::2], memoryview(b"ro"), 5])
def test_a_buffer_that_cannot_be_written_receives_nothing_and_loses_nothing(pair, buffer):
    left, to_right, right, to_left = pair
    left.send_tag(to_right, 1, b"ab")
    with pytest.raises(ucxnb.InvalidBufferError):
        right.receive_tag(to_left, 1, buffer, timeout=TIMEOUT)
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == b"ab"


def test_a_buffer_is_free_after_the_call(pair):
    left, to_right, right, to_left = pair
    data = bytearray(b"x" * 100)
    left.send_tag(to_right, 1, data)
    data.extend(b"more")  # fails while it is exported
    buffer = bytearray(200)
    right.receive_tag(to_left, 1, buffer, timeout=TIMEOUT)
    buffer.clear()
    with pytest.raises(ucxnb.OperationTimeoutError):
        right.receive_tag(to_left, 1, bytearray(1), timeout=0)


@pytest.mark.parametrize("size", [9, 100_000, 3_000_000])
@pytest.mark.parametrize("how", ["receive_tag", "try_receive_tag"])
def test_a_message_too_large_for_the_buffer_is_kept(pair, size, how):
    left, to_right, right, to_left = pair
    data = random.Random(1).randbytes(size)
    with UcxSender(left, to_right, 4, data):
        with pytest.raises(ucxnb.BufferTooSmallError) as caught:
            eventually(lambda: getattr(right, how)(to_left, 4, bytearray(8)))
        assert caught.value.needed == size
        buffer = bytearray(size)
        assert right.receive_tag(to_left, 4, buffer, timeout=TIMEOUT) == size
    assert buffer == data


def test_a_kept_message_does_not_let_a_later_one_overtake(pair):
    left, to_right, right, to_left = pair
    for data in (b"first, long", b"2", b"3"):
        left.send_tag(to_right, 4, data)
    with pytest.raises(ucxnb.BufferTooSmallError):
        right.receive_tag(to_left, 4, bytearray(2), timeout=TIMEOUT)
    got = [right.receive_tag(to_left, 4, timeout=TIMEOUT) for _ in range(3)]
    assert got == [b"first, long", b"2", b"3"]


def test_try_receive_gives_none_until_something_arrives(pair):
    left, to_right, right, to_left = pair
    assert right.try_receive_tag(to_left, 1) is None
    assert right.try_receive_tag(to_left, 1, bytearray(8)) is None
    assert right.try_receive_message(to_left, 1) is None
    left.send_tag(to_right, 1, b"now")
    assert eventually(lambda: right.try_receive_tag(to_left, 1)) == b"now"


@pytest.mark.parametrize("size", [20_000, 5_000_000])
@pytest.mark.parametrize("into", ["buffer", "bytes"])
def test_try_receive_brings_a_large_message_in_steps(pair, size, into):
    left, to_right, right, to_left = pair
    data = random.Random(2).randbytes(size)
    buffer = bytearray(size) if into == "buffer" else None
    with UcxSender(left, to_right, 1, data):
        result = eventually(lambda: right.try_receive_tag(to_left, 1, buffer))
    assert (buffer, result) == (data, size) if buffer else result == data


def test_a_timeout_loses_nothing(pair):
    left, to_right, right, to_left = pair
    with pytest.raises(ucxnb.OperationTimeoutError, match="tag 1"):
        right.receive_tag(to_left, 1, timeout=0.05)
    left.send_tag(to_right, 1, b"late")
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == b"late"


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", [1]])
def test_a_timeout_that_is_none_is_refused(pair, timeout):
    left, to_right, right, to_left = pair
    with pytest.raises(ucxnb.ArgumentError):
        right.receive_tag(to_left, 1, timeout=timeout)
    with pytest.raises(ucxnb.ArgumentError):
        left.send_tag(to_right, 1, b"", timeout=timeout)


@pytest.mark.parametrize("tag", [0, 1, 2**40 - 1, np.int64(5)])
def test_tags_in_range(pair, tag):
    left, to_right, right, to_left = pair
    left.send_tag(to_right, tag, b"x")
    assert right.receive_message(to_left, tag, timeout=TIMEOUT) == (to_left, tag, 1, b"x")


@pytest.mark.parametrize("tag", [-1, 2**40, 2**64, 10**30])
def test_tags_out_of_range_name_the_range(pair, tag):
    left, to_right, right, to_left = pair
    for call in (
        lambda: left.send_tag(to_right, tag, b""),
        lambda: left.broadcast_tag(tag, b""),
        lambda: right.receive_tag(to_left, tag),
        lambda: right.receive_tag(to_left, 0, tag_mask=tag),
    ):
        with pytest.raises(ucxnb.TagRangeError, match=r"2\*\*40"):
            call()


@pytest.mark.parametrize("tag", ["1", 1.0, None, b"1"])
def test_tags_that_are_no_integers(pair, tag):
    left, to_right, _, _ = pair
    with pytest.raises(ucxnb.TagTypeError):
        left.send_tag(to_right, tag, b"")


def test_worker_scoped_tags_have_64_bits_and_no_source():
    with UcxWorker(tag_scope="worker") as left, UcxWorker(tag_scope="worker") as right:
        to_right = left.connect(right.create_listener().address)
        left.send_tag(to_right, 2**64 - 1, b"all bits")
        message = right.receive_message(None, 2**64 - 1, timeout=TIMEOUT)
        assert message == (None, 2**64 - 1, 8, b"all bits")
        with pytest.raises(ucxnb.ArgumentError, match="endpoint_id=None"):
            right.receive_tag(right.get_endpoint_ids()[0], 1)
        left.send_tag(to_right, 1, b"last")
        left.disconnect(to_right)
        assert right.receive_tag(None, 1, timeout=TIMEOUT) == b"last"


def test_different_tags_are_received_in_any_order(pair):
    left, to_right, right, to_left = pair
    for tag in range(10):
        left.send_tag(to_right, tag, bytes([tag]))
    for tag in reversed(range(10)):
        assert right.receive_tag(to_left, tag, timeout=TIMEOUT) == bytes([tag])


def test_a_mask_takes_every_tag_that_agrees_in_its_bits(pair):
    left, to_right, right, to_left = pair
    for tag in (0x11, 0x21, 0x12):
        left.send_tag(to_right, tag, bytes([tag]))
    got = [right.receive_message(to_left, 0x01, tag_mask=0x0F, timeout=TIMEOUT) for _ in range(2)]
    assert [message.tag for message in got] == [0x11, 0x21]
    assert right.receive_message(None, 0, tag_mask=0, timeout=TIMEOUT).tag == 0x12


def test_messages_of_one_endpoint_and_tag_stay_in_order(pair):
    left, to_right, right, to_left = pair
    sizes = [8, 20_000, 0, 300_000, 1, 9000] * 20

    def numbered():
        for number, size in enumerate(sizes):
            left.send_tag(to_right, 6, number.to_bytes(4, "big") + bytes(size), timeout=TIMEOUT)

    sender = threading.Thread(target=numbered)
    sender.start()
    got = [right.receive_tag(to_left, 6, timeout=TIMEOUT) for _ in sizes]
    sender.join()
    assert [int.from_bytes(data[:4], "big") for data in got] == list(range(len(sizes)))
    assert [len(data) - 4 for data in got] == sizes


def test_receives_are_scoped_to_the_endpoint_they_name():
    with UcxWorker() as server, UcxWorker() as first, UcxWorker() as second:
        address = server.create_listener().address
        a, b = first.connect(address), second.connect(address)
        from_first, from_second = server.get_endpoint_ids()
        second.send_tag(b, 1, b"second")
        assert server.try_receive_tag(from_first, 1) is None
        first.send_tag(a, 1, b"first")
        assert server.receive_tag(from_first, 1, timeout=TIMEOUT) == b"first"
        assert server.receive_tag(from_second, 1, timeout=TIMEOUT) == b"second"


def test_receiving_from_anyone_says_who():
    with UcxWorker() as server, UcxWorker() as first, UcxWorker() as second:
        address = server.create_listener().address
        for name, worker in (("1", first), ("2", second)):
            worker.send_tag(worker.connect(address), 1, name.encode())
        got = {server.receive_message(None, 1, timeout=TIMEOUT) for _ in range(2)}
        assert {(m.endpoint_id, m.data) for m in got} == {(1, b"1"), (2, b"2")}


def test_many_messages_may_wait(pair):
    left, to_right, right, to_left = pair
    count = 5000
    for number in range(count):
        left.send_tag(to_right, number, number.to_bytes(8, "big"))
    order = list(range(count))
    random.Random(3).shuffle(order)
    for number in order:
        data = right.receive_tag(to_left, number, timeout=TIMEOUT)
        assert int.from_bytes(data, "big") == number


def test_backlog_keeps_order_for_every_mask(pair):
    """Messages put aside (too large, then wildcard) come out as a plain queue would give them."""
    left, to_right, right, to_left = pair
    rng = random.Random(4)
    queue = []
    for number in range(3000):
        tag = rng.randrange(8)
        queue.append((tag, number))
        left.send_tag(to_right, tag, number.to_bytes(4, "big"))
    small = bytearray(1)
    while queue:
        tag, mask = rng.choice([(t, None) for t in range(8)] + [(0, 0), (1, 1), (4, 6)])
        bits = 2**40 - 1 if mask is None else mask
        expected = next((m for m in queue if (m[0] ^ tag) & bits == 0), None)
        if rng.random() < 0.3 and expected is not None:
            with pytest.raises(ucxnb.BufferTooSmallError):
                right.receive_tag(to_left, tag, small, tag_mask=mask, timeout=TIMEOUT)
        message = right.try_receive_message(to_left, tag, tag_mask=mask)
        if expected is None:
            assert message is None
            continue
        assert message is not None
        # Between tags no order is promised; within one it is.
        same_tag = next(m for m in queue if m[0] == message.tag)
        assert int.from_bytes(message.data, "big") == same_tag[1]
        queue.remove(same_tag)


def test_broadcast_reaches_every_endpoint():
    with UcxWorker() as server:
        assert server.broadcast_tag(1, b"nobody") == []
        address = server.create_listener().address
        clients = [UcxWorker() for _ in range(3)]
        try:
            ids = [client.connect(address) for client in clients]
            assert server.broadcast_tag(7, b"all") == server.get_endpoint_ids()
            for client, endpoint_id in zip(clients, ids, strict=True):
                assert client.receive_tag(endpoint_id, 7, timeout=TIMEOUT) == b"all"
        finally:
            for client in clients:
                client.close()


def test_counters(pair):
    left, to_right, right, to_left = pair
    for size in (0, 10, 1000):
        left.send_tag(to_right, 1, bytes(size))
        right.receive_tag(to_left, 1, timeout=TIMEOUT)
    sent, received = left.stats(), right.stats(to_left)
    assert (sent.messages_sent, sent.bytes_sent, sent.connections) == (3, 1010, 1)
    assert (received.messages_received, received.bytes_received) == (3, 1010)
    assert (sent.messages_received, received.messages_sent, sent.errors) == (0, 0, 0)
    assert left.stats(to_right).bytes_sent == 1010
    assert sent.throughput_mbps() > 0
    rates = left.stats().since(sent)
    assert rates.messages_sent == 0
    assert rates.seconds > 0


def test_history_is_sampled_in_the_background():
    with UcxWorker(history_interval=0.01, history_length=5) as worker:
        eventually(lambda: len(worker.history()) >= 2)
        assert len(worker.history()) <= 5


def test_tag_calls_can_be_switched_off(pair):
    with UcxWorker(enable_tag=False) as worker:
        for call in (
            lambda: worker.send_tag(1, 1, b""),
            lambda: worker.receive_tag(1, 1),
            lambda: worker.try_receive_tag(1, 1),
            lambda: worker.broadcast_tag(1, b""),
        ):
            with pytest.raises(ucxnb.FeatureDisabledError, match="enable_tag=True"):
                call()


@pytest.mark.parametrize("features", list(itertools.product([False, True], repeat=2)), ids=str)
def test_ucx_features_can_be_switched_on(features):
    stream, rma = features
    with UcxWorker(enable_stream=stream, enable_rma=rma) as worker:
        to_self = worker.connect(worker.create_listener().address)
        worker.send_tag(to_self, 1, b"me")
        assert worker.receive_tag(None, 1, timeout=TIMEOUT) == b"me"


def test_progress_and_its_loop(pair):
    left, to_right, right, to_left = pair
    assert left.progress() >= 0
    assert left.run_progress_loop(0.02) >= 0
    with pytest.raises(ucxnb.ArgumentError):
        left.run_progress_loop(-1)
    for _ in range(100):
        left.send_tag(to_right, 1, b"12345678")
    assert right.run_progress_loop(0.05) >= 0
    for _ in range(100):
        assert right.try_receive_tag(to_left, 1) == b"12345678"


def test_multi_allows_many_threads():
    count, each = 4, 2000
    with (
        UcxWorker(thread_mode=ThreadMode.MULTI) as left,
        UcxWorker(thread_mode=ThreadMode.MULTI) as right,
    ):
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        wrong = []

        def ping(tag):
            for number in range(each):
                data = number.to_bytes(8, "big")
                left.send_tag(to_right, tag, data, timeout=TIMEOUT)
                if left.receive_tag(to_right, tag, timeout=TIMEOUT) != data:
                    wrong.append((tag, number))

        def pong(tag):
            buffer = bytearray(8)
            for _ in range(each):
                right.receive_tag(to_left, tag, buffer, timeout=TIMEOUT)
                right.send_tag(to_left, tag, buffer, timeout=TIMEOUT)

        threads = [
            threading.Thread(target=target, args=(tag,))
            for tag in range(count)
            for target in (ping, pong)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert left.stats().messages_received == right.stats().messages_received == count * each
