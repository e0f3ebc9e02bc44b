"""Peers that die or interrupt: with real processes and real signals.

`test_faults` has the matrix of faults and moments; here is what is told of each in detail.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from call_in_thread import Call
from eventually import eventually

import ucxnb
from ucxnb import EndpointState, ThreadMode, UcxWorker

TIMEOUT = 30
LARGE = 256 << 20
# UCX's own choice on one machine, where the receiver reads the sender's memory; and a wire that
# needs both sides to move every byte.
WIRES = [{}, {"TLS": "tcp"}]


def puppet(channel, address, fields):
    """A connected worker that calls what the test says, ``(name, *arguments)``, until None."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the parent ignores it
    with UcxWorker(**fields) as worker:
        endpoint_id = worker.connect(address)
        channel.send(endpoint_id)
        while (command := channel.receive()) is not None:
            name, *arguments = command
            channel.send(getattr(worker, name)(endpoint_id, *arguments))


def start_puppet(start_child, server, **fields):
    """A puppet, and the server's id for it."""
    before = set(server.get_endpoint_ids())
    listener = server.listeners[0] if server.listeners else server.create_listener()
    child = start_child(puppet, listener.address, fields)
    child.receive()
    (endpoint_id,) = set(server.get_endpoint_ids()) - before
    return child, endpoint_id


def exchange(server, endpoint_id, child):
    """A message each way."""
    child.send(("send_tag", 77, b"ping"))
    assert server.receive_tag(endpoint_id, 77, timeout=TIMEOUT) == b"ping"
    child.receive()
    child.send(("receive_tag", 77))
    server.send_tag(endpoint_id, 77, b"pong", timeout=TIMEOUT)
    assert child.receive() == b"pong"


def finish(*puppets):
    for child in puppets:
        child.send(None)
        child.result()


def pattern(size):
    return np.arange(size // 8, dtype=np.uint64)


def is_pattern(data):
    return bool((np.frombuffer(data, np.uint64) == pattern(len(data))).all())


def state_of(worker, endpoint_id):
    (info,) = [i for i in worker.endpoints(ended=True) if i.endpoint_id == endpoint_id]
    return info


# ---- SIGKILL ----


@pytest.mark.parametrize("options", WIRES, ids=["default", "tcp"])
def test_a_killed_peer_is_lost_and_nobody_else(start_child, record_property, options):
    with UcxWorker(thread_mode=ThreadMode.MULTI, ucx_options=options) as server:
        victim, lost = start_puppet(start_child, server, ucx_options=options)
        survivor, other = start_puppet(start_child, server, ucx_options=options)
        exchange(server, lost, victim)
        exchange(server, other, survivor)
        for number in range(3):
            victim.send(("send_tag", 5, b"last words %d" % number))
            victim.receive()
        victim.send(("send_tag", 6, b""))
        assert server.receive_tag(lost, 6, timeout=TIMEOUT) == b""  # what was before has come too
        blocked = Call(server.receive_tag, lost, 1)
        time.sleep(0.1)
        assert blocked.running

        killed = time.perf_counter()
        victim.kill()
        eventually(lambda: not server.is_connected(lost))
        record_property("noticed_ms", 1e3 * (time.perf_counter() - killed))

        assert type(blocked.join().error) is ucxnb.EndpointLostError
        assert server.get_endpoint_ids() == [other]
        with pytest.raises(ucxnb.EndpointLostError):
            server.send_tag(lost, 1, b"")
        for number in range(3):
            data = server.receive_tag(lost, 5, timeout=TIMEOUT)
            assert data == b"last words %d" % number
        for receive in (server.receive_tag, server.try_receive_tag):
            with pytest.raises(ucxnb.EndpointLostError, match=f"endpoint {lost}"):
                receive(lost, 5)
        info = state_of(server, lost)
        assert info.state is EndpointState.LOST
        assert info.reason
        assert server.stats().errors >= 1
        exchange(server, other, survivor)
        finish(survivor)


def announcing(channel, address, options, size):
    """Sends one large message, until it is killed."""
    with UcxWorker(ucx_options=options) as worker:
        endpoint_id = worker.connect(address)
        channel.send(endpoint_id)
        worker.send_tag(endpoint_id, 1, pattern(size))
        channel.receive()


def start_announcing(start_child, server, options):
    """A child whose large message is announced and waits to be fetched."""
    child = start_child(announcing, server.create_listener().address, options, LARGE)
    child.receive()
    (endpoint_id,) = server.get_endpoint_ids()
    with pytest.raises(ucxnb.BufferTooSmallError):
        server.receive_tag(endpoint_id, 1, bytearray(1), timeout=TIMEOUT)
    return child, endpoint_id


@pytest.mark.parametrize("options", WIRES, ids=["default", "tcp"])
@pytest.mark.parametrize("received", [True, False])
def test_a_sender_killed_before_its_large_message_is_fetched(start_child, options, received):
    with UcxWorker(ucx_options=options) as server:
        child, endpoint_id = start_announcing(start_child, server, options)
        child.kill()
        eventually(lambda: not server.is_connected(endpoint_id))
        if received:
            buffer = bytearray(LARGE)
            with pytest.raises(ucxnb.EndpointLostError):
                server.receive_tag(endpoint_id, 1, buffer, timeout=TIMEOUT)
            buffer.clear()  # it is ours again
            with pytest.raises(ucxnb.EndpointLostError):
                server.receive_tag(endpoint_id, 1, timeout=TIMEOUT)


def test_a_broadcast_tells_who_got_it(start_child):
    with UcxWorker(thread_mode=ThreadMode.MULTI) as server:
        puppets = [start_puppet(start_child, server) for _ in range(3)]
        (victim, lost), *others = puppets
        data = pattern(16 << 20).tobytes()
        call = Call(server.broadcast_tag, 9, data, timeout=TIMEOUT)
        for child, _ in others:
            child.send(("receive_tag", 9))
        for child, _ in others:
            assert child.receive() == data
        assert call.running
        victim.kill()
        error = call.join().error
        assert isinstance(error, ucxnb.BroadcastError)
        assert error.delivered == tuple(endpoint_id for _, endpoint_id in others)
        assert list(error.failed) == [lost]
        assert isinstance(error.failed[lost], ucxnb.EndpointLostError)
        assert "2 of 3" in str(error)
        eventually(lambda: not server.is_connected(lost))
        assert server.broadcast_tag(9, b"again") == list(error.delivered)
        for child, endpoint_id in others:
            child.send(("receive_tag", 9))
            assert child.receive() == b"again"
            exchange(server, endpoint_id, child)
            finish(child)


# ---- SIGINT and timeouts ----


def interrupted(channel, fields):
    """Listens, and receives one message however often it is interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with UcxWorker(**fields) as worker:
        channel.send(worker.create_listener().address)
        sender_pid = channel.receive()
        (endpoint_id,) = worker.get_endpoint_ids()
        if sender_pid:
            with contextlib.suppress(ucxnb.BufferTooSmallError):
                worker.receive_tag(endpoint_id, 1, bytearray(1), timeout=TIMEOUT)
        buffer = bytearray(LARGE)
        if sender_pid:  # begin, and stop the sender in the middle
            with contextlib.suppress(ucxnb.OperationTimeoutError):
                worker.receive_tag(endpoint_id, 1, buffer, timeout=0)
                raise AssertionError("it came at once")
            os.kill(sender_pid, signal.SIGSTOP)
            with contextlib.suppress(ucxnb.OperationTimeoutError):
                worker.receive_tag(endpoint_id, 1, buffer, timeout=0.1)
                raise AssertionError("it came from a stopped process")
        try:
            channel.send("receiving")
            worker.receive_tag(endpoint_id, 1, buffer, timeout=TIMEOUT)
        except KeyboardInterrupt:
            channel.send("interrupted")
        else:
            raise AssertionError("the interrupt did not end it")
        if sender_pid:
            with contextlib.suppress(ucxnb.BufferTooSmallError):
                worker.receive_tag(endpoint_id, 1, bytearray(1), timeout=TIMEOUT)
                raise AssertionError("too small a buffer was taken")
            os.kill(sender_pid, signal.SIGCONT)
        nbytes = worker.receive_tag(endpoint_id, 1, buffer, timeout=TIMEOUT)
        channel.send((nbytes, is_pattern(memoryview(buffer)[:nbytes])))
        assert worker.try_receive_tag(endpoint_id, 1) is None


def test_ctrl_c_in_a_process_that_waits_for_a_message(start_child):
    receiver = start_child(interrupted, {})
    with UcxWorker() as sender:
        endpoint_id = sender.connect(receiver.receive())
        receiver.send(None)
        assert receiver.receive() == "receiving"
        time.sleep(0.2)
        receiver.kill(signal.SIGINT)
        assert receiver.receive() == "interrupted"
        sender.send_tag(endpoint_id, 1, pattern(1 << 20), timeout=TIMEOUT)
        assert receiver.receive() == (1 << 20, True)
        receiver.result()


# Without cma the bytes pass through shared memory that both sides attend to.
@pytest.mark.parametrize("tls", ["tcp", "posix"])
def test_ctrl_c_and_timeouts_in_the_middle_of_a_large_message(start_child, tls):
    options = {"TLS": tls}
    receiver = start_child(interrupted, {"ucx_options": options})
    sender = start_child(announcing, receiver.receive(), options, LARGE)
    sender.receive()
    receiver.send(sender.pid)
    assert receiver.receive() == "receiving"
    time.sleep(0.2)
    receiver.kill(signal.SIGINT)
    assert receiver.receive() == "interrupted"
    assert receiver.receive() == (LARGE, True)
    receiver.result()
    sender.send(None)
    sender.result()


# ---- many at once ----

ANSWERS = 10_000


def answering_server(channel):
    """The guide's server."""
    with UcxWorker() as worker:
        channel.send(worker.create_listener().address)
        buffer = bytearray(worker.config.buffer_size)
        answered = 0
        while answered < 2 * ANSWERS:
            for endpoint_id in worker.get_endpoint_ids():
                try:
                    nbytes = worker.try_receive_tag(endpoint_id, 1, buffer)
                except ucxnb.PeerClosedError:  # it has all its answers, and left meanwhile
                    continue
                if nbytes is not None:
                    worker.send_tag(endpoint_id, 1, b"answer to " + buffer[:nbytes])
                    answered += 1
        channel.receive()  # until the clients have everything


def asking_client(channel, address, name):
    with UcxWorker() as worker:
        endpoint_id = worker.connect(address)
        wrong = []
        for start in range(0, ANSWERS, 50):
            questions = [f"{name} {number}".encode() for number in range(start, start + 50)]
            for question in questions:
                worker.send_tag(endpoint_id, 1, question)
            for question in questions:
                answer = worker.receive_tag(endpoint_id, 1, timeout=TIMEOUT)
                if answer != b"answer to " + question:
                    wrong.append((question, answer))
        assert worker.try_receive_tag(endpoint_id, 1) is None
        return wrong[:10]


def test_two_clients_with_the_same_tag_get_each_its_own_answers(start_child):
    server = start_child(answering_server)
    address = server.receive()
    clients = [start_child(asking_client, address, name) for name in ("first", "second")]
    assert [client.result() for client in clients] == [[], []]
    server.send(None)
    server.result()


def flooding_client(channel, address, size):
    """Sends as fast as it can until it cannot; returns the error and what the next send raised."""
    data = bytes(size)
    with UcxWorker() as worker:
        endpoint_id = worker.connect(address)
        channel.send(endpoint_id)
        errors = []
        while len(errors) < 2:
            try:
                worker.send_tag(endpoint_id, 1, data, timeout=TIMEOUT)
            except Exception as error:
                errors.append(error)
        return [(type(error).__name__, str(error)) for error in errors]


@pytest.mark.parametrize("options", WIRES, ids=["default", "tcp"])
def test_closing_under_fire(start_child, options):
    with UcxWorker(ucx_options=options) as server:
        address = server.create_listener().address
        clients = [start_child(flooding_client, address, size) for size in (8, 2000, 1 << 20)]
        for client in clients:
            client.receive()
        small = server.get_endpoint_ids()
        for endpoint_id in small:  # each is at it
            server.receive_tag(endpoint_id, 1, timeout=TIMEOUT)
        server.close()
        for client in clients:
            errors = client.result()
            assert all(kind in ("PeerClosedError", "EndpointLostError") for kind, _ in errors), (
                errors
            )


# ---- fork ----

FORKING = """
import os, sys, threading, ucxnb
a = ucxnb.UcxWorker(thread_mode=ucxnb.ThreadMode.MULTI); b = ucxnb.UcxWorker()
i = a.connect(b.create_listener().address)
got = []
waiting = threading.Thread(target=lambda: got.append(a.receive_tag(i, 1)))
waiting.start()
pid = os.fork()
if pid == 0:
    try:
        a.send_tag(i, 2, b"from the child")
    except ucxnb.WorkerClosedError:
        a.close()
        with ucxnb.UcxWorker() as c, ucxnb.UcxWorker() as d:
            c.send_tag(c.connect(d.create_listener().address), 1, b"own")
            assert d.receive_tag(None, 1, timeout=20) == b"own"
        sys.exit(7)
    sys.exit(8)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
a.send_tag(i, 2, b"goes on")
assert b.receive_tag(None, 2, timeout=20) == b"goes on"
b.send_tag(1, 1, b"reply")
waiting.join(20)
assert got == [b"reply"]
a.close(); b.close()
"""


def test_a_fork_exits_cleanly_and_may_make_workers_of_its_own():
    run = subprocess.run(
        [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", FORKING],
        timeout=TIMEOUT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
