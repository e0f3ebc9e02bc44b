"""Peers that are not let in are counted, and the latest of them are named."""

from __future__ import annotations

import socket
import time

import pytest
from eventually import eventually

import ucxnb
from ucxnb import Refusals, UcxWorker


def refused(worker: UcxWorker, count: int = 1) -> Refusals:
    """Wait until that many were."""
    return eventually(lambda: r if (r := worker.refusals()).count >= count else None)


def test_nobody_was_refused_yet():
    assert Refusals() == Refusals(0, ())


def test_the_latest_are_kept_and_all_are_counted():
    refusals = Refusals()
    for number in range(100):
        refusals = refusals.plus(float(number), f"10.0.0.1:{number}", "why")
    assert refusals.count == 100
    assert [r.time for r in refusals.latest] == [float(n) for n in range(68, 100)]


def test_what_a_stranger_said_is_cut_and_cannot_move_the_cursor():
    (refusal,) = Refusals().plus(0.0, "10.0.0.1:1", "\x1b[2J\u202e" + "x" * 9999).latest
    assert refusal.reason.startswith("\ufffd[2J\ufffdx")
    assert len(refusal.reason) == 400


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it says b'GET"),
        (b"UCXn\xff\x01\0\0\0\0", "protocol version 255"),
        (b"", "without a goodbye"),
    ],
    ids=["junk", "version", "nothing"],
)
def test_a_stranger_is_refused(said, reason):
    before = time.time()
    with UcxWorker() as worker:
        listener = worker.create_listener()
        with socket.create_connection((listener.host, listener.port)) as stranger:
            host, port = stranger.getsockname()
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            (refusal,) = refused(worker).latest
        assert reason in refusal.reason
        assert refusal.peer_address == f"{host}:{port}"
        assert before <= refusal.time <= time.time()


def test_one_that_is_slow_is_refused():
    with UcxWorker(handshake_timeout=0.1) as worker:
        listener = worker.create_listener()
        with socket.create_connection((listener.host, listener.port)):
            assert "in time" in refused(worker).latest[0].reason


def test_one_that_cannot_be_talked_to_is_refused_on_the_listener_s_side_only():
    with UcxWorker(tag_scope="worker") as server, UcxWorker() as client:
        listener = server.create_listener()
        with pytest.raises(ucxnb.RejectedError):
            client.connect(listener.address)
        assert "tag_scope" in refused(server).latest[0].reason
        assert client.refusals() == Refusals()


def test_closing_refuses_nobody_and_what_was_refused_can_still_be_read():
    with UcxWorker() as worker, UcxWorker() as friend:
        listener = worker.create_listener()
        friend.connect(listener.address)
        with socket.create_connection((listener.host, listener.port)) as waits:
            eventually(lambda: worker._door._handshakes)
            worker.close()
            assert waits.recv(100) == b""
        assert worker.refusals() == Refusals()
