"""A peer that is killed, or stopped for a while, while it streams, puts, gets or adds."""

from __future__ import annotations

import itertools
import signal
import struct
import time

import pytest
from call_in_thread import Call
from eventually import eventually

from ucxnb import EndpointLostError, ThreadMode, UcxWorker

TIMEOUT = 30
WIRES = {"shm": {}, "tcp": {"TLS": "tcp,self"}}
NUMBERS = struct.Struct("!1000Q")
SIZE = 4 << 20


def fields_of(wire):
    return {
        "enable_rma": True,
        "thread_mode": ThreadMode.MULTI,
        "heartbeat_interval": 0.1,
        "ucx_options": WIRES[wire],
    }


# ---- what one side does, until an error; each takes the key of the other's memory


def stream_numbers(worker, endpoint_id, key):
    for start in itertools.count(0, 1000):
        worker.send_stream(endpoint_id, NUMBERS.pack(*range(start, start + 1000)))


def read_numbers(worker, endpoint_id, key):
    buffer = bytearray(NUMBERS.size)
    for start in itertools.count(0, 1000):
        worker.receive_stream(endpoint_id, buffer, True, timeout=TIMEOUT)
        assert NUMBERS.unpack(buffer) == tuple(range(start, start + 1000))


def put(worker, endpoint_id, key):
    data = bytes(SIZE)
    while True:
        worker.put(endpoint_id, data, key, timeout=TIMEOUT)
        worker.flush(endpoint_id, timeout=TIMEOUT)


def get(worker, endpoint_id, key):
    buffer = bytearray(SIZE)
    while True:
        worker.get(endpoint_id, buffer, key, timeout=TIMEOUT)


def add(worker, endpoint_id, key):
    for number in itertools.count():
        assert worker.fetch_add(endpoint_id, key, 0, 1, timeout=TIMEOUT) == number


def nothing(worker, endpoint_id, key):
    """Its memory is reached; it has nothing to do with that."""
    while worker.is_connected(endpoint_id):
        time.sleep(0.01)
    raise EndpointLostError("as if a call had noticed", endpoint_id)


MOMENTS = {
    "while it streams": (stream_numbers, read_numbers),
    "while it is streamed to": (read_numbers, stream_numbers),
    "while it puts": (put, nothing),
    "while it is put into": (nothing, put),
    "while it gets": (get, nothing),
    "while it is got from": (nothing, get),
    "while it adds": (add, nothing),
    "while it is added to": (nothing, add),
}
# One that is killed in the middle of a write may block shared memory for all others.
ALONE = {"while it streams", "while it puts", "while it is got from"}


def faulty(channel, address, wire, moment):
    with UcxWorker(**fields_of(wire)) as worker:
        endpoint_id = worker.connect(address)
        memory = worker.allocate(SIZE)
        channel.send(memory.remote_key())
        key = channel.receive()
        channel.send("begin")
        try:
            MOMENTS[moment][0](worker, endpoint_id, key)
        except EndpointLostError:
            memory.close()


@pytest.fixture(params=WIRES)
def caught(request, start_child):
    """``caught(moment)``: a worker, its memory, a peer at that moment, and this side's part."""
    with UcxWorker(**fields_of(request.param)) as worker:
        listener = worker.create_listener()
        with worker.allocate(SIZE) as memory:

            def catch(moment):
                child = start_child(faulty, listener.address, request.param, moment)
                key = child.receive()
                endpoint_id = max(worker.get_endpoint_ids())
                child.send(memory.remote_key())
                assert child.receive() == "begin"
                call = Call(MOMENTS[moment][1], worker, endpoint_id, key)
                time.sleep(0.15)
                assert call.running, call.error
                return worker, memory, child, endpoint_id, call

            yield catch


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed(caught, moment, request):
    worker, memory, child, endpoint_id, call = caught(moment)
    child.kill()
    call.join()
    assert isinstance(call.error, EndpointLostError), call.error
    eventually(lambda: not worker.is_connected(endpoint_id))
    with pytest.raises(EndpointLostError):
        worker.send_stream(endpoint_id, b"x")
    memory.close(timeout=TIMEOUT)
    assert memory.closed
    if moment not in ALONE or "tcp" in request.node.callspec.id:
        with UcxWorker(**fields_of("tcp" if "tcp" in request.node.callspec.id else "shm")) as other:
            other.send_tag(other.connect(worker.listeners[0].address), 1, b"the others go on")
            assert worker.receive_tag(None, 1, timeout=TIMEOUT) == b"the others go on"


@pytest.mark.parametrize("moment", MOMENTS)
def test_stopped_for_a_while(caught, moment):
    worker, _, child, endpoint_id, call = caught(moment)
    child.kill(signal.SIGSTOP)
    time.sleep(0.5)
    assert worker.is_connected(endpoint_id)
    child.kill(signal.SIGCONT)
    before = worker.stats()
    time.sleep(0.1)
    if moment not in ("while it puts", "while it gets", "while it adds"):
        eventually(lambda: worker.stats() != before)
    assert call.running, call.error
    worker.disconnect(endpoint_id)
    call.join()
