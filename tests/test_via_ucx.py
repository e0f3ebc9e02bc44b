"""UCX's own client-server wire-up: with other UCX programs, and what it cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import warnings

import pytest
from eventually import eventually

from ucxnb import (
    AddressInUseError,
    ArgumentError,
    ConnectRefusedError,
    ConnectTimeoutError,
    EndpointLostError,
    FeatureDisabledError,
    Listener,
    ThreadMode,
    UcxListenerWarning,
    UcxWorker,
    WorkerClosedError,
)

WAIT = 30.0
PLAIN = {"tag_scope": "worker", "thread_mode": ThreadMode.MULTI}
OPTIONS = {"shm": {}, "tcp": {"TLS": "tcp,self"}}


def listening(worker: UcxWorker, address: str = "127.0.0.1:0") -> Listener:
    with pytest.warns(UcxListenerWarning, match="trusted networks only"):
        return worker.create_listener(address, via="ucx")


@pytest.fixture(params=OPTIONS)
def two(request):
    fields = {**PLAIN, "ucx_options": OPTIONS[request.param]}
    with UcxWorker(**fields) as left, UcxWorker(**fields) as right:
        there = left.connect(listening(right).address, via="ucx", timeout=WAIT)
        eventually(right.get_endpoint_ids)
        yield left, there, right, right.get_endpoint_ids()[0]


def test_messages_pass_both_ways(two):
    left, there, right, here = two
    for size in (0, 8, 10_000, 3_000_000):
        data = os.urandom(size)
        request = left.isend_tag(there, 2**63 + size, data)
        assert right.receive_tag(None, 2**63 + size, timeout=WAIT) == data
        request.wait(WAIT)
        request = right.isend_tag(here, 5, data)
        assert left.receive_tag(None, 5, timeout=WAIT) == data
        request.wait(WAIT)
    left.send_stream(there, b"a stream", timeout=WAIT)
    buffer = bytearray(8)
    right.receive_stream(here, buffer, True, timeout=WAIT)
    assert buffer == b"a stream"
    assert left.broadcast_tag(1, b"all") == [there]
    assert right.receive_tag(None, 1, timeout=WAIT) == b"all"


def test_what_is_known_of_such_a_peer(two):
    left, there, right, _ = two
    (ours,), (theirs,) = left.endpoints(), right.endpoints()
    assert (ours.direction, theirs.direction) == ("connected", "accepted")
    assert ours.peer_address == right.listeners[0].address
    assert theirs.peer_address.startswith("127.0.0.1:")
    assert ours.peer_name == theirs.peer_name == ""
    assert ours.transports
    with pytest.raises(FeatureDisabledError):
        left.open_remote(there, b"UCXm" + bytes(32))


def test_a_peer_that_closes_is_lost(two):
    left, there, right, here = two
    waiting = right.ireceive_stream(here, bytearray(1))
    left.disconnect(there)
    eventually(lambda: not right.is_connected(here))
    assert "closed it or is gone" in right.endpoints(ended=True)[0].reason
    with pytest.raises(EndpointLostError):
        waiting.wait(WAIT)
    with pytest.raises(EndpointLostError):
        right.send_tag(here, 1, b"x")


def test_in_asyncio():
    async def meet():
        async with UcxWorker(**PLAIN) as left, UcxWorker(**PLAIN) as right:
            listener = listening(right)
            there = await left.connect_async(listener.address, via="ucx")
            here = await right.accept()
            await left.isend_tag(there, 1, b"hello")
            assert (await right.ireceive_tag(None, 1)).data == b"hello"
            await right.disconnect_async(here)

    asyncio.run(asyncio.wait_for(meet(), WAIT))


def test_many_come_and_go():
    with UcxWorker(**PLAIN) as server:
        listener = listening(server)
        for number in range(10):
            with UcxWorker(**PLAIN) as client:
                there = client.connect(listener.address, via="ucx", timeout=WAIT)
                client.send_tag(there, number, b"x", timeout=WAIT)
                assert server.receive_tag(None, number, timeout=WAIT) == b"x"
        eventually(lambda: not server.get_endpoint_ids())
        assert len(server.endpoints(ended=True)) == 10


# ---- with programs that know nothing of ucxnb


def plain_client(channel, port):
    """A UCX program, by UCXX's core calls."""
    import ucxx._lib.libucxx as ucx
    from ucxx._lib.arr import Array

    features = (ucx.Feature.TAG, ucx.Feature.WAKEUP)
    worker = ucx.UCXWorker(ucx.UCXContext({}, feature_flags=features))
    endpoint = ucx.UCXEndpoint.create(worker, "127.0.0.1", port, endpoint_error_handling=True)
    question, answer = bytearray(b"question"), bytearray(6)
    run(worker, endpoint.tag_send(Array(question), tag=ucx.UCXXTag(7)))
    mask = ucx.UCXXTagMaskFull
    run(worker, endpoint.tag_recv(Array(answer), tag=ucx.UCXXTag(8), tag_mask=mask))
    channel.send(bytes(answer))
    channel.receive()
    endpoint.close_blocking()


def run(worker, request):
    deadline = time.monotonic() + WAIT
    while not request.completed:
        worker.progress()
        assert time.monotonic() < deadline
    request.check_error()


def plain_server(channel):
    import ucxx._lib.libucxx as ucx
    from ucxx._lib.arr import Array

    features = (ucx.Feature.TAG, ucx.Feature.WAKEUP)
    worker = ucx.UCXWorker(ucx.UCXContext({}, feature_flags=features))
    came = []
    listener = ucx.UCXListener.create(worker, 0, came.append)
    channel.send(listener.port)
    while not came:
        worker.progress()
    endpoint = listener.create_endpoint_from_conn_request(came[0], True)
    data = bytearray(1_000_000)
    mask = ucx.UCXXTagMaskFull
    run(worker, endpoint.tag_recv(Array(data), tag=ucx.UCXXTag(1), tag_mask=mask))
    run(worker, endpoint.tag_send(Array(data), tag=ucx.UCXXTag(2)))
    channel.send("answered")
    with contextlib.suppress(TimeoutError):
        while True:  # until it is killed
            worker.progress()
            channel.receive(timeout=0.001)


def test_another_program_connects(start_child):
    with UcxWorker(**PLAIN) as worker:
        child = start_child(plain_client, listening(worker).port)
        assert worker.receive_tag(None, 7, timeout=WAIT) == b"question"
        (endpoint_id,) = worker.get_endpoint_ids()
        worker.send_tag(endpoint_id, 8, b"answer", timeout=WAIT)
        assert child.receive() == b"answer"
        child.send(None)
        eventually(lambda: not worker.is_connected(endpoint_id))


def test_another_program_listens(start_child):
    child = start_child(plain_server)
    with UcxWorker(**PLAIN) as worker:
        port = child.receive()
        endpoint_id = worker.connect(f"127.0.0.1:{port}", via="ucx", timeout=WAIT)
        data = os.urandom(1_000_000)
        sending = worker.isend_tag(endpoint_id, 1, data)
        assert worker.receive_tag(None, 2, timeout=WAIT) == data
        sending.wait(WAIT)
        assert child.receive() == "answered"
        child.kill()
        eventually(lambda: not worker.is_connected(endpoint_id))
        with pytest.raises(EndpointLostError):
            worker.send_tag(endpoint_id, 1, b"x")


# ---- what cannot be


def test_what_it_needs_is_said():
    with UcxWorker() as scoped, UcxWorker(tag_scope="worker", auth_key="0" * 16) as keyed:
        for worker, words in ((scoped, "tag_scope"), (keyed, "auth_key")):
            for call in (worker.connect, worker.create_listener):
                with pytest.raises(ArgumentError, match=words):
                    call("127.0.0.1:1", via="ucx")
                with pytest.raises(ArgumentError, match="it takes"):
                    call("127.0.0.1:1", via="tcp")


def test_where_nothing_listens_it_is_refused():
    with UcxWorker(**PLAIN) as worker:
        with pytest.raises(ConnectRefusedError, match="UCX listener"):
            worker.connect("127.0.0.1:1", via="ucx")
        assert worker.get_endpoint_ids() == worker.endpoints(ended=True) == []


def test_where_nobody_answers_it_ends_in_time():
    with UcxWorker(**PLAIN) as worker, socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(ConnectTimeoutError):
            worker.connect(f"127.0.0.1:{silent.getsockname()[1]}", via="ucx", timeout=0.3)
        assert worker.get_endpoint_ids() == []


def test_a_listener_is_bound_where_it_is_told_and_frees_its_port():
    with UcxWorker(**PLAIN) as worker:
        with listening(worker, "127.0.0.2:0") as listener:
            assert listener.host == "127.0.0.2"
            assert worker.listeners == (listener,)
            with pytest.raises(AddressInUseError):
                worker.create_listener(listener.address, via="ucx")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", listener.port))
        assert listener.closed
        assert worker.listeners == ()
        listening(worker, listener.address).close()
        listening(worker)
    assert worker.listeners == ()
    with pytest.raises(WorkerClosedError):
        worker.create_listener(via="ucx")


def test_a_warning_that_is_an_error_opens_nothing():
    with UcxWorker(**PLAIN) as worker:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UcxListenerWarning):
                worker.create_listener(via="ucx")
        assert worker.listeners == ()
