"""A fault that UCX's TCP transport would answer with a crash: in a process of its own."""

from __future__ import annotations

import random
import signal
import time

import pytest
from call_in_thread import Call
from fault_peers import TIMEOUT, fault_peer, prepare, send_large

import ucxnb
from ucxnb import ThreadMode, UcxWorker

MOMENT = "in 1 GiB to it"
FIELDS = {"ucx_options": {"TLS": "tcp"}, "heartbeat_interval": 0.1}
LOST_AFTER = 1.5


def sender(channel):
    prepare(MOMENT)
    with UcxWorker(thread_mode=ThreadMode.MULTI, heartbeat_timeout=LOST_AFTER, **FIELDS) as server:
        channel.send(server.create_listener().address)
        server.receive_tag(None, 1, timeout=TIMEOUT)
        call = Call(send_large, server, *server.get_endpoint_ids())
        time.sleep(random.uniform(0.05, 0.2))
        channel.send("under way")
        call.join()
        channel.send(type(call.error))
        assert server.receive_tag(None, 2, timeout=TIMEOUT) == b"again"


@pytest.mark.reliability
def test_a_lost_peer_that_comes_back(start_child, saw):
    """It closes its end of a connection whose other end was closed with bytes left over."""
    server = start_child(sender)
    address = server.receive()
    peer = start_child(fault_peer, address, FIELDS)
    peer.receive()
    for command in (("begin", MOMENT), ("send_tag", 1, b"ready")):
        peer.send(command)
        peer.receive()
    server.receive()
    peer.kill(signal.SIGSTOP)
    began = time.perf_counter()
    try:
        assert server.receive() is ucxnb.EndpointLostError
        seconds = time.perf_counter() - began
    finally:
        peer.kill(signal.SIGCONT)
    for command in (("outcome",), ("connect", address), ("send_tag", 2, b"again")):
        peer.send(command)
        peer.receive()
    server.result()
    peer.send(None)
    peer.result()
    saw(
        "faults",
        f"SIGSTOP of a peer {MOMENT}, SIGCONT after `heartbeat_timeout`, tcp",
        tried=1,
        sees="`EndpointLostError` on both sides; it connects again",
        seconds=[seconds],
        lost="what was under way",
    )
