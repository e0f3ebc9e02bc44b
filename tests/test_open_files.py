"""Processes that run out of file descriptors, and one with a thousand connections."""

from __future__ import annotations

import os
import resource
import time

import pytest
from eventually import eventually

import ucxnb
from ucxnb import UcxWorker
from ucxnb.echo import echo_messages

TIMEOUT = 30
MANY = 1000


def open_descriptors():
    return len(os.listdir("/proc/self/fd")) - 1


def leave_descriptors(count):
    """So many more, and no more, can be opened from here on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + count, hard))


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def start_worker_without_descriptors(channel):
    with UcxWorker():
        pass  # what UCX opens once is open
    before = open_descriptors()
    for count in (0, 1, 8, 20, 40, 63):
        leave_descriptors(count)
        with pytest.raises(ucxnb.OpenFilesError, match="ulimit -n") as caught:
            UcxWorker()
        assert isinstance(caught.value, OSError)
        raise_limit()
        assert open_descriptors() == before
    leave_descriptors(70)
    with UcxWorker() as left:
        with pytest.raises(ucxnb.OpenFilesError):
            UcxWorker()
        assert left.progress() >= 0


def serve_with_few_descriptors(channel, count):
    with UcxWorker(thread_mode=ucxnb.ThreadMode.MULTI) as worker:
        address = worker.create_listener().address
        leave_descriptors(count)
        channel.send(address)
        echo_messages(worker, until=channel._connection.poll)


def connect_with_few_descriptors(channel, address, count, options):
    """Connect until that fails; then with one connection less once more."""
    with UcxWorker(ucx_options=options) as worker:
        leave_descriptors(count)
        ids = []
        error = None
        while error is None:
            try:
                ids.append(worker.connect(address, timeout=TIMEOUT))
            except ucxnb.OpenFilesError as refusal:
                error = str(refusal)
        assert address in error
        assert "ulimit -n" in error
        assert worker.get_endpoint_ids() == ids
        for endpoint_id in ids:
            ask(worker, endpoint_id)
        for endpoint_id in ids[:4]:
            worker.disconnect(endpoint_id)
        ask(worker, worker.connect(address, timeout=TIMEOUT))
        leave_descriptors(1)
        with pytest.raises(ucxnb.OpenFilesError):
            worker.create_listener()
        return len(ids)


def ask(worker, endpoint_id):
    data = b"number %d" % endpoint_id
    worker.send_tag(endpoint_id, 1, data, timeout=TIMEOUT)
    assert worker.receive_tag(endpoint_id, 1, timeout=TIMEOUT) == data


WIRES = pytest.mark.parametrize("options", [{}, {"TLS": "tcp"}], ids=["default", "tcp"])


@pytest.mark.reliability
def test_a_worker_needs_descriptors(start_child, saw):
    start_child(start_worker_without_descriptors).result()
    saw(
        "load",
        "a worker is made where too few descriptors are left",
        tried=7,
        sees="`OpenFilesError` names the limit and how to raise it; other workers go on",
        seconds=[],
        lost="nothing",
    )


@WIRES
@pytest.mark.reliability
def test_connecting_until_no_descriptors_are_left(start_child, saw, options):
    with ucxnb.EchoPeer() as peer:
        child = start_child(connect_with_few_descriptors, peer.address, 60, options)
        assert child.result() >= 4
    saw(
        "load",
        "a process connects until too few descriptors are left",
        tried=1,
        sees="`OpenFilesError` from `connect`; what is open goes on, and less open it connects",
        seconds=[],
        lost="nothing",
    )


@WIRES
@pytest.mark.reliability
def test_a_listener_without_descriptors_says_so_and_goes_on_serving(start_child, saw, options):
    child = start_child(serve_with_few_descriptors, 60)
    address = child.receive()
    with UcxWorker(ucx_options=options) as worker:
        ids, seconds = [], []
        while not seconds:
            start = time.perf_counter()
            try:
                ids.append(worker.connect(address, timeout=TIMEOUT))
            except ucxnb.RejectedError as error:
                seconds.append(time.perf_counter() - start)
                assert "it has too few file descriptors" in str(error)
        assert len(ids) >= 4
        for endpoint_id in ids:
            ask(worker, endpoint_id)
        for endpoint_id in ids[:4]:
            worker.disconnect(endpoint_id)
        ask(worker, worker.connect(address, timeout=TIMEOUT))
    child.send(None)
    child.result()
    saw(
        "load",
        "peers connect to a listener until it has too few descriptors left",
        tried=1,
        sees="`RejectedError` that says so; all others are served, and later ones too",
        seconds=seconds,
        lost="nothing",
    )


def hold_connections(channel, address, count):
    raise_limit()
    with UcxWorker() as worker:
        ids = [worker.connect(address, timeout=TIMEOUT) for _ in range(count)]
        for endpoint_id in ids:
            worker.send_tag(endpoint_id, 1, b"from %d" % endpoint_id)
        for endpoint_id in ids:
            data = worker.receive_tag(endpoint_id, 1, timeout=TIMEOUT)
            assert data == b"from %d" % endpoint_id
        channel.send(None)
        channel.receive()


def listen_for_many(channel, count):
    """Echo to a thousand, each by its own id; gives the descriptors that are left behind."""
    raise_limit()
    with UcxWorker() as worker:
        address = worker.create_listener().address
        with UcxWorker() as first:
            first.connect(address)  # for it UCX opens some that it keeps
        eventually(lambda: not worker.get_endpoint_ids())
        before = open_descriptors()
        channel.send(address)
        heard = set()
        for _ in range(count):
            message = worker.receive_message(None, 1, timeout=TIMEOUT)
            heard.add(message.endpoint_id)
            worker.send_tag(message.endpoint_id, 1, message.data)
        assert len(heard) == count == len(worker.get_endpoint_ids())
        channel.send(None)
        eventually(lambda: not worker.get_endpoint_ids())
        assert worker.stats().messages_received == count
        eventually(lambda: open_descriptors() <= before)


@pytest.mark.reliability
def test_a_thousand_endpoints_on_one_listener(start_child, saw):
    """Four processes of 250 connections each, all at the same time."""
    server = start_child(listen_for_many, MANY)
    address = server.receive()
    start = time.perf_counter()
    clients = [start_child(hold_connections, address, MANY // 4) for _ in range(4)]
    for client in clients:
        client.receive()
    server.receive()
    seconds = time.perf_counter() - start
    for client in clients:
        client.send(None)
        client.result()
    server.result()
    saw(
        "load",
        "1,000 connections on one listener, from 4 processes at once; each is answered by its id",
        tried=MANY,
        sees="each message comes from the right endpoint; no descriptor is left behind",
        seconds=[seconds],
        lost="nothing",
    )
