"""Memory of GPUs in every kind of transfer; ``test_gpu.py`` runs this, also without a GPU."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
import time
import weakref

import pytest
from eventually import eventually
from gpu.cuda import DlpackArray, GpuArray, InContext, call, device_count

from ucxnb import ThreadMode, UcxWorker, wait_all
from ucxnb.errors import (
    ArgumentError,
    EndpointLostError,
    GpuMemoryError,
    InvalidBufferError,
    OperationTimeoutError,
    RemoteKeyError,
)

WAIT = 30
SIZES = [1, 8, 100, 8192, 8193, 65536, 1_000_001]
TLS = {"shm": "^cuda_ipc", "tcp": "tcp,self,cuda_copy"}


class Joined:
    """Two workers, joined over one transport."""

    def __init__(self, left: UcxWorker, right: UcxWorker) -> None:
        self.left, self.right = left, right
        self.there = left.connect(right.create_listener().address)
        (self.here,) = right.get_endpoint_ids()


@pytest.fixture(params=TLS)
def joined(request):
    fields = {
        "ucx_options": {"TLS": TLS[request.param]},
        "enable_stream": True,
        "enable_rma": True,
        "thread_mode": ThreadMode.MULTI,
    }
    with UcxWorker(**fields) as left, UcxWorker(**fields) as right:
        yield Joined(left, right)


@pytest.fixture
def gpu():
    """``gpu(content)`` is an array on a GPU; they are freed after the test."""
    arrays = []

    def make(content, **how):
        arrays.append(GpuArray(content, **how))
        return arrays[-1]

    yield make
    gc.collect()
    for array in arrays:
        array.free()


LENT_AS = {"interface": lambda array: array, "dlpack": DlpackArray}


@pytest.fixture(params=LENT_AS)
def lent(request):
    """How an array gives its memory."""
    return LENT_AS[request.param]


# ---- messages


@pytest.mark.parametrize("size", SIZES)
def test_from_gpu_to_gpu(joined, gpu, lent, size):
    content = os.urandom(size)
    source, target = gpu(content), gpu(bytes(size))
    send = joined.left.isend_tag(joined.there, 1, lent(source))
    assert joined.right.receive_tag(joined.here, 1, lent(target), timeout=WAIT) == size
    send.wait(WAIT)
    assert target.read() == content


@pytest.mark.parametrize("size", SIZES)
def test_from_gpu_to_host(joined, gpu, size):
    content = os.urandom(size)
    send = joined.left.isend_tag(joined.there, 1, gpu(content))
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == content
    send.wait(WAIT)


@pytest.mark.parametrize("size", SIZES)
def test_from_host_to_gpu(joined, gpu, size):
    content = os.urandom(size)
    target = gpu(bytes(size))
    receive = joined.right.ireceive_tag(joined.here, 1, target)
    joined.left.send_tag(joined.there, 1, content, timeout=WAIT)
    assert receive.wait(WAIT).nbytes == size
    assert target.read() == content


def test_a_part_of_the_array_is_filled(joined, gpu):
    target = gpu(b"." * 10)
    joined.left.send_tag(joined.there, 1, gpu(b"abc"))
    assert joined.right.receive_tag(joined.here, 1, target, timeout=WAIT) == 3
    assert target.read() == b"abc......."


def test_an_empty_array_is_an_empty_message(joined):
    nothing = {"version": 3, "shape": (0, 3), "typestr": "<f4", "data": (0, False)}
    empty = type("Empty", (), {"__cuda_array_interface__": nothing})()
    joined.left.send_tag(joined.there, 1, empty)
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b""


def test_managed_memory(joined, gpu, lent):
    source, target = gpu(b"managed", managed=True), gpu(bytes(7), managed=True)
    joined.left.send_tag(joined.there, 1, lent(source))
    joined.right.receive_tag(joined.here, 1, lent(target), timeout=WAIT)
    assert target.read() == b"managed"


def test_each_gpu_is_reached_in_its_own_context(joined, gpu):
    if device_count() < 2:
        pytest.skip("one GPU")
    arrays = [gpu(os.urandom(300_000), device=device) for device in (0, 1, 1, 0)]
    sends = [joined.left.isend_tag(joined.there, 1, array) for array in arrays]
    for array, device in zip(arrays, (1, 1, 0, 0), strict=True):
        target = gpu(bytes(300_000), device=device)
        joined.right.receive_tag(joined.here, 1, target, timeout=WAIT)
        assert target.read() == array.read()
    wait_all(sends, WAIT)


def test_the_threads_context_is_left_alone(joined, gpu):
    source = gpu(b"abc")
    seen = []

    def send() -> None:
        with InContext(device_count() - 1):
            joined.left.send_tag(joined.there, 1, source)
            device = ctypes.c_int()
            call("cuCtxGetDevice", ctypes.byref(device))
            seen.append(device.value)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    assert seen == [device_count() - 1]
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b"abc"


def test_sends_that_wait_for_the_peer_to_receive(gpu):
    with UcxWorker() as left, UcxWorker(max_unexpected_bytes=1 << 16) as right:
        joined = Joined(left, right)
        content = os.urandom(30_000)
        sends = [left.isend_tag(joined.there, 1, gpu(content)) for _ in range(10)]
        assert left.stats().sends_held > 0
        for send in sends:
            assert right.receive_tag(joined.here, 1, timeout=WAIT) == content
            send.wait(WAIT)


def test_a_broadcast_goes_out_of_a_gpu(joined, gpu):
    joined.left.broadcast_tag(1, gpu(b"to all"))
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b"to all"


# ---- the order of streams


@pytest.mark.parametrize("size", [100, 100_000])
def test_what_was_launched_before_is_waited_for(joined, gpu, lent, size):
    source = gpu(bytes(size))
    source.fill_after(lambda: time.sleep(0.1), 7)
    send = joined.left.isend_tag(joined.there, 1, lent(source))
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b"\7" * size
    send.wait(WAIT)


def test_what_was_launched_before_does_not_write_over_a_message(joined, gpu, lent):
    target = gpu(bytes(1000))
    target.fill_after(lambda: time.sleep(0.1), 7)
    joined.left.send_tag(joined.there, 1, b"m" * 1000)
    joined.right.receive_tag(joined.here, 1, lent(target), timeout=WAIT)
    time.sleep(0.2)
    assert target.read() == b"m" * 1000


def test_work_on_another_array_is_not_waited_for(joined, gpu):
    busy, idle = gpu(bytes(10)), gpu(b"idle")
    go_on = threading.Event()
    busy.fill_after(lambda: go_on.wait(WAIT), 7)
    joined.left.send_tag(joined.there, 1, idle, timeout=WAIT)
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b"idle"
    assert not go_on.is_set()
    go_on.set()


# ---- receives that are given up


@pytest.mark.parametrize("size", [100, 9000, 1_000_000])
@pytest.mark.parametrize("again", ["gpu", "host", "posted"])
def test_a_message_that_nobody_looked_at_is_received_again(joined, gpu, size, again):
    content = os.urandom(size)
    first, second = gpu(bytes(size)), gpu(bytes(size))

    def receive_and_drop() -> None:
        receive = joined.right.ireceive_tag(joined.here, 1, first)
        joined.left.send_tag(joined.there, 1, content, timeout=WAIT)
        eventually(lambda: receive.done)

    receive_and_drop()
    if again == "host":
        assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == content
        return
    if again == "gpu":
        joined.right.receive_tag(joined.here, 1, second, timeout=WAIT)
    else:
        joined.right.ireceive_tag(joined.here, 1, second).wait(WAIT)
    assert second.read() == content


@pytest.mark.parametrize("size", [100, 9000, 1_000_000])
def test_a_receive_that_does_not_wait(joined, gpu, size):
    content = os.urandom(size)
    target = gpu(bytes(size))
    send = joined.left.isend_tag(joined.there, 1, content)
    eventually(lambda: joined.right.try_receive_tag(joined.here, 1, target) == size)
    send.wait(WAIT)
    assert target.read() == content


def test_the_array_lives_until_its_send_is_over(joined):
    array = GpuArray(os.urandom(10_000_000))
    alive = weakref.ref(array)
    content, free = array.read(), (array.in_context, array.address)
    send = joined.left.isend_tag(joined.there, 1, array)
    del array
    gc.collect()
    assert alive() is not None
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == content
    send.wait(WAIT)
    eventually(lambda: alive() is None)
    with free[0]:
        call("cuMemFree_v2", free[1])


# ---- batches


def test_rows(joined, gpu):
    content = os.urandom(4000)
    source, target = gpu(content, shape=(40, 100)), gpu(bytes(4000), shape=(40, 100))
    joined.left.send_rows(joined.there, 1, source, timeout=WAIT)
    joined.right.receive_rows(joined.here, 1, target, timeout=WAIT)
    assert target.read() == content


def test_every_other_row(joined, gpu):
    source = gpu(bytes(range(40)), shape=(2, 10), strides=(20, 1))
    joined.left.send_rows(joined.there, 1, source, timeout=WAIT)
    got = joined.right.receive_tags(joined.here, [1, 1], timeout=WAIT)
    assert got == [bytes(range(10)), bytes(range(20, 30))]


def test_messages_of_the_host_and_of_gpus_in_one_batch(joined, gpu):
    messages = [(1, b"host"), (2, gpu(b"gpu")), (3, b"host again"), (4, gpu(b"x" * 50_000))]
    thread = threading.Thread(target=joined.left.send_tags, args=(joined.there, messages))
    thread.start()
    got = joined.right.receive_tags(joined.here, [1, 2, 3, 4], timeout=WAIT)
    thread.join()
    assert got == [b"host", b"gpu", b"host again", b"x" * 50_000]


def test_rows_of_a_batch_that_timed_out_are_received_again(joined, gpu):
    target = gpu(bytes(20), shape=(2, 10))
    joined.left.send_tag(joined.there, 1, b"only one..")
    with pytest.raises(OperationTimeoutError):
        joined.right.receive_rows(joined.here, 1, target, timeout=0.05)
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b"only one.."


# ---- streams


@pytest.mark.parametrize("size", [1, 8192, 1_000_000])
def test_streams(joined, gpu, lent, size):
    content = os.urandom(size)
    source, target = gpu(content), gpu(bytes(size))
    send = joined.left.isend_stream(joined.there, lent(source))
    got = joined.right.receive_stream(joined.here, lent(target), True, timeout=WAIT)
    assert got == size
    send.wait(WAIT)
    assert target.read() == content


def test_bytes_of_a_stream_that_were_read_in_vain_are_read_again(joined, gpu):
    target = gpu(bytes(10))
    joined.left.send_stream(joined.there, gpu(b"half."))
    with pytest.raises(OperationTimeoutError):
        joined.right.receive_stream(joined.here, target, True, timeout=0.1)
    joined.left.send_stream(joined.there, b" rest")
    read = joined.right.ireceive_stream(joined.here, target, True)
    assert read.wait(WAIT).nbytes == 10
    assert target.read() == b"half. rest"


# ---- one-sided memory


def registered(joined, how, gpu, content):
    """Memory of the right worker: of a GPU, of its host, or mapped into others."""
    if how == "gpu":
        return joined.right.register(gpu(content))
    if how == "host":
        return joined.right.register(bytearray(content))
    memory = joined.right.allocate(len(content))
    memoryview(memory)[:] = content
    return memory


@pytest.mark.parametrize("size", [1, 8192, 700_000])
@pytest.mark.parametrize("there", ["gpu", "host", "mapped"])
@pytest.mark.parametrize("here", ["gpu", "host"])
def test_put_and_get(joined, gpu, here, there, size):
    content = os.urandom(size)
    with registered(joined, there, gpu, bytes(size)) as memory:
        key = memory.remote_key()
        joined.left.put(joined.there, gpu(content) if here == "gpu" else content, key, timeout=WAIT)
        joined.left.flush(joined.there, timeout=WAIT)
        back = gpu(bytes(size)) if here == "gpu" else bytearray(size)
        joined.left.get(joined.there, back, key, timeout=WAIT)
        assert (back.read() if here == "gpu" else back) == content
        request = joined.left.iget(joined.there, back, key)
        assert request.wait(WAIT).nbytes == size


def test_what_is_registered_is_no_buffer(joined, gpu):
    with (
        joined.right.register(gpu(b"abc")) as memory,
        pytest.raises(BufferError, match="is on a GPU: use the array"),
    ):
        memoryview(memory)


def test_atomics_do_not_reach_it(joined, gpu):
    with joined.right.register(gpu(bytes(16))) as memory:
        with pytest.raises(RemoteKeyError, match="on a GPU, which atomics do not reach"):
            joined.left.atomic_add(joined.there, memory.remote_key(), 0, 1, timeout=WAIT)
        joined.left.get(joined.there, bytearray(16), memory.remote_key(), timeout=WAIT)


# ---- what is refused


def test_a_read_only_array_is_not_written_to(joined, gpu, lent):
    array = lent(gpu(b"abc", readonly=True))
    joined.left.send_tag(joined.there, 1, array)
    with pytest.raises(InvalidBufferError, match="this is read-only"):
        joined.right.receive_tag(joined.here, 1, array)
    assert joined.right.receive_tag(joined.here, 1, timeout=WAIT) == b"abc"
    with pytest.raises(InvalidBufferError, match="read-only"):
        joined.right.register(array, writable=True)


def test_an_array_with_gaps_is_refused(joined, gpu):
    array = gpu(bytes(40), shape=(2, 10), strides=(20, 1))
    with pytest.raises(InvalidBufferError, match="contiguous"):
        joined.left.send_tag(joined.there, 1, array)


def test_a_shape_below_nothing_is_refused(joined, gpu):
    with pytest.raises(InvalidBufferError, match="no extent is below 0"):
        joined.left.send_tag(joined.there, 1, gpu(b"abc", shape=(-3,)))


def test_memory_that_was_freed_is_an_error(joined):
    array = GpuArray(b"abc")
    array.free()
    with pytest.raises(GpuMemoryError, match=r"invalid argument.*copy it to the host"):
        joined.left.send_tag(joined.there, 1, array)


def test_other_devices_are_refused(joined, gpu):
    rocm = 10
    with pytest.raises(GpuMemoryError, match="type 10, and only CUDA's"):
        joined.left.send_tag(joined.there, 1, DlpackArray(gpu(b"abc"), rocm))


def test_a_worker_whose_ucx_cannot_reach_gpus_says_so(gpu, lent):
    with UcxWorker(ucx_options={"TLS": "tcp,self"}) as worker:
        endpoint_id = worker.connect(worker.create_listener().address)
        with pytest.raises(GpuMemoryError, match=r"no CUDA support here.*cuda_copy among"):
            worker.send_tag(endpoint_id, 1, lent(gpu(b"abc")))


@pytest.mark.parametrize(
    "interface",
    [
        None,
        {},
        {"version": 3, "shape": (3,), "typestr": "|u1"},
        {"version": 3, "shape": "abc", "typestr": "|u1", "data": (1, False)},
        {"version": 3, "shape": (3,), "typestr": "", "data": (1, False)},
        {"version": 3, "shape": (3,), "typestr": "|u1", "data": (1, False)},
        {"version": 3, "shape": (-3,), "typestr": "|u1", "data": (1, False)},
        {"version": 3, "shape": (3, 3), "typestr": "|u1", "data": (1, 0), "strides": (1,)},
    ],
)
def test_an_interface_that_makes_no_sense(joined, interface):
    array = type("Odd", (), {"__cuda_array_interface__": interface})()
    with pytest.raises((InvalidBufferError, ArgumentError)):
        joined.left.send_tag(joined.there, 1, array)


# ---- other processes


def echo(channel, count):
    """Send arrays back, each through a GPU of this process."""
    with UcxWorker(ucx_options={"TLS": TLS["shm"]}) as worker:
        channel.send(worker.create_listener().address)
        for _ in range(count):
            size = int(worker.receive_tag(None, 1, timeout=WAIT))
            array = GpuArray(bytes(size))
            worker.receive_tag(None, 2, array, timeout=WAIT)
            worker.send_tag(worker.get_endpoint_ids()[0], 3, array, timeout=WAIT)
        channel.receive()


def test_to_another_process_and_back(start_child, gpu):
    child = start_child(echo, len(SIZES))
    with UcxWorker(ucx_options={"TLS": TLS["shm"]}) as worker:
        there = worker.connect(child.receive())
        for size in SIZES:
            content = os.urandom(size)
            back = gpu(bytes(size))
            worker.send_tag(there, 1, b"%d" % size)
            sent = worker.isend_tag(there, 2, gpu(content))
            assert worker.receive_tag(there, 3, back, timeout=WAIT) == size
            sent.wait(WAIT)
            assert back.read() == content
        child.send("end")


def sink(channel):
    with UcxWorker(ucx_options={"TLS": TLS["tcp"]}) as worker:
        channel.send(worker.create_listener().address)
        channel.receive()


def sender(channel, content):
    """Begin to send, over TCP: all but the announcement waits for the receive."""
    with UcxWorker(ucx_options={"TLS": TLS["tcp"]}) as worker:
        channel.send(worker.create_listener().address)
        channel.receive()
        send = worker.isend_tag(worker.get_endpoint_ids()[0], 1, content)
        worker.send_tag(worker.get_endpoint_ids()[0], 2, b"announced")
        channel.send(None)
        send.wait(WAIT)
        channel.receive()


def test_a_receive_that_goes_on_into_memory_that_overlaps(start_child, gpu):
    content = os.urandom(4_000_000)
    child = start_child(sender, content)
    with UcxWorker(ucx_options={"TLS": TLS["tcp"]}) as worker:
        there = worker.connect(child.receive())
        child.send(None)
        child.receive()
        assert worker.receive_tag(there, 2, timeout=WAIT) == b"announced"
        array = gpu(bytes(len(content) + 500))
        child.kill(signal.SIGSTOP)
        go_on = threading.Timer(0.3, child.kill, (signal.SIGCONT,))
        with pytest.raises(OperationTimeoutError, match="not all came in time"):
            worker.receive_tag(there, 1, array.part(0, len(content)), timeout=0.1)
        go_on.start()
        nbytes = worker.receive_tag(there, 1, array.part(500, len(content)), timeout=WAIT)
        assert nbytes == len(content)
        assert array.read()[500:] == content
        go_on.join()
        child.send("end")


def test_a_peer_that_dies_while_it_is_sent_an_array(start_child, gpu):
    child = start_child(sink)
    with UcxWorker(ucx_options={"TLS": TLS["tcp"]}) as worker:
        there = worker.connect(child.receive())
        array = gpu(os.urandom(4_000_000))
        send = worker.isend_tag(there, 1, array)
        child.kill()
        with pytest.raises(EndpointLostError):
            send.wait(WAIT)
        itself = worker.connect(worker.create_listener().address)
        again = worker.isend_tag(itself, 1, array)
        assert worker.receive_tag(None, 1, timeout=WAIT) == array.read()
        again.wait(WAIT)
