"""Peers that are killed or stopped while a connection is being made."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from call_in_thread import Call
from eventually import eventually

import ucxnb
from ucxnb import ThreadMode, UcxWorker
from ucxnb.frontdoor.handshake import Handshake

THOROUGH = bool(os.environ.get("UCXNB_THOROUGH"))
KILL, STOP = signal.SIGKILL, signal.SIGSTOP
# How many frames of the handshake the peer takes before its signal.
LISTENING = list(itertools.product((KILL, STOP), (1, 2, 3))) if THOROUGH else [(KILL, 2), (STOP, 3)]
CONNECTING = (
    list(itertools.product((KILL, STOP), (1, 2, 3, 4))) if THOROUGH else [(KILL, 2), (STOP, 4)]
)
LIMIT = 1.0
BACKLOG = 512


def listening(channel):
    with UcxWorker() as worker:
        channel.send(worker.create_listener().address)
        channel.receive()


def signalled_in_handshake(channel, address, number, frames):
    """Connects, or listens if there is no address, and signals itself in the middle of that."""
    receive, taken = Handshake.receive, itertools.count(1)

    def receive_and_die(self, frame):
        replies = receive(self, frame)
        if next(taken) == frames:
            os.kill(os.getpid(), number)
            time.sleep(0.2)  # another thread may be the one that gets it
        return replies

    Handshake.receive = receive_and_die
    with UcxWorker() as worker:
        if address is None:
            channel.send(worker.create_listener().address)
        else:
            channel.send("connecting")
            with contextlib.suppress(ucxnb.UcxnbError):  # when it goes on, much later
                worker.connect(address)
        channel.receive()


def is_over(child):
    """Whether its own signal has stopped or ended it."""
    stat = Path(f"/proc/{child.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] in "TZ"


def end(child):
    child.kill(signal.SIGCONT)
    child.kill()


@pytest.mark.reliability
def test_connecting_to_a_stopped_listener(start_child, saw):
    child = start_child(listening)
    address = child.receive()
    with UcxWorker() as worker:
        child.kill(STOP)
        began = time.perf_counter()
        with pytest.raises(ucxnb.ConnectTimeoutError, match="stopped"):
            worker.connect(address, timeout=LIMIT)
        seconds = time.perf_counter() - began
        child.kill(signal.SIGCONT)
        assert worker.is_connected(worker.connect(address))  # those that left do not harm it
        child.send(None)
        child.result()
    saw(
        "faults",
        f"SIGSTOP of a listener before `connect(timeout={LIMIT:g})`",
        tried=1,
        sees="`ConnectTimeoutError`; connected at once after SIGCONT",
        seconds=[seconds],
        lost="nothing",
    )


@pytest.mark.reliability
@pytest.mark.parametrize(("number", "frames"), LISTENING)
def test_a_listener_in_the_handshake(start_child, saw, number, frames):
    child = start_child(signalled_in_handshake, None, number, frames)
    address = child.receive()
    with UcxWorker() as worker, UcxWorker() as other:
        began = time.perf_counter()
        kind = ucxnb.HandshakeError if number == KILL else ucxnb.ConnectTimeoutError
        with pytest.raises(kind):
            worker.connect(address, timeout=LIMIT)
        seconds = time.perf_counter() - began
        assert worker.get_endpoint_ids() == []
        assert worker.is_connected(worker.connect(other.create_listener().address))
    end(child)
    saw(
        "faults",
        f"{signal.Signals(number).name} of a listener in the handshake",
        tried=1,
        sees=f"`{kind.__name__}` from `connect(timeout={LIMIT:g})`",
        seconds=[seconds],
        lost="nothing",
    )


@pytest.mark.reliability
@pytest.mark.parametrize(("number", "frames"), CONNECTING)
def test_a_peer_that_connects_in_the_handshake(start_child, saw, number, frames):
    fields = {"handshake_timeout": LIMIT, "heartbeat_interval": 0.1, "heartbeat_timeout": LIMIT}
    with UcxWorker(**fields) as server, UcxWorker() as other:
        address = server.create_listener().address
        child = start_child(signalled_in_handshake, address, number, frames)
        assert child.receive() == "connecting"
        began = time.perf_counter()
        eventually(lambda: is_over(child))
        eventually(lambda: not server._door._handshakes and not server.get_endpoint_ids())
        seconds = time.perf_counter() - began
        assert other.is_connected(other.connect(address))
    end(child)
    saw(
        "faults",
        f"{signal.Signals(number).name} of a peer that connects, in the handshake",
        tried=1,
        sees="nothing; the listener drops it and goes on",
        seconds=[seconds],
        lost="nothing",
    )


@pytest.mark.reliability
def test_a_listener_that_dies_with_its_backlog_full(start_child, saw):
    child = start_child(listening)
    host, _, port = (address := child.receive()).rpartition(":")
    child.kill(STOP)
    with contextlib.ExitStack() as stack, UcxWorker(thread_mode=ThreadMode.MULTI) as worker:
        for _ in range(BACKLOG // 2):  # so that some of ours are let in, and some are not
            crowd = stack.enter_context(socket.socket())
            crowd.setblocking(False)
            crowd.connect_ex((host, int(port)))
        early = [Call(worker.connect, address, timeout=30) for _ in range(4)]
        eventually(lambda: len(worker._door._handshakes) == len(early))
        for _ in range(BACKLOG):
            crowd = stack.enter_context(socket.socket())
            crowd.setblocking(False)
            crowd.connect_ex((host, int(port)))
        calls = [*early, *(Call(worker.connect, address, timeout=30) for _ in range(4))]
        time.sleep(0.1)
        assert all(call.running for call in calls)
        began = time.perf_counter()
        child.kill()
        seconds = []
        for call in calls:
            call.join()
            seconds.append(time.perf_counter() - began)
            assert type(call.error) in (ucxnb.HandshakeError, ucxnb.ConnectRefusedError)
        assert worker.get_endpoint_ids() == []
    saw(
        "faults",
        "SIGKILL of a stopped listener, its backlog full, connects waiting inside and outside",
        tried=len(calls),
        sees="`HandshakeError` or `ConnectRefusedError`",
        seconds=seconds,
        lost="nothing",
    )
