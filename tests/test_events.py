"""What happened to a worker's connections is kept, in order and bounded."""

from __future__ import annotations

import signal
import socket
import time

import pytest
from eventually import eventually

import ucxnb
from ucxnb import Event, EventKind, UcxWorker
from ucxnb.events import EventLog

Kind = EventKind


def kinds(worker: UcxWorker) -> list[EventKind]:
    return [event.kind for event in worker.events()]


def wait_for(worker: UcxWorker, kind: EventKind) -> Event:
    return eventually(lambda: next((e for e in worker.events() if e.kind is kind), None))


def test_a_connection_begins_and_ends_on_both_sides():
    before = time.time()
    with UcxWorker(name="server") as server, UcxWorker(name="client") as client:
        peer = client.connect(server.create_listener().address)
        client.disconnect(peer)
        (connected, closed) = client.events()
        assert (connected.kind, connected.endpoint_id, connected.peer) == (
            Kind.CONNECTED,
            peer,
            "server",
        )
        assert (closed.kind, closed.endpoint_id) == (Kind.CLOSED, peer)
        assert "by you" in closed.text or "you" in closed.text
        wait_for(server, Kind.CLOSED)
        assert kinds(server) == [Kind.ACCEPTED, Kind.CLOSED]
        assert server.events()[0].peer == "client"
        assert [e.number for e in server.events()] == [1, 2]
        assert before <= connected.time <= closed.time <= time.time()
        assert client.snapshot().events == client.events()


def listen(channel) -> None:
    with UcxWorker(name="other") as worker:
        channel.send(worker.create_listener().address)
        channel.receive()


def test_a_peer_that_is_killed_is_lost(start_child):
    child = start_child(listen)
    with UcxWorker() as worker:
        peer = worker.connect(child.receive())
        child.kill()
        lost = wait_for(worker, Kind.LOST)
        assert (lost.endpoint_id, lost.peer) == (peer, "other")
        assert lost.text


def test_a_peer_that_is_stopped_for_a_while(start_child):
    child = start_child(listen)
    with UcxWorker(heartbeat_interval=0.05, heartbeat_timeout=60) as worker:
        worker.connect(child.receive())
        child.kill(signal.SIGSTOP)
        wait_for(worker, Kind.UNRESPONSIVE)
        child.kill(signal.SIGCONT)
        wait_for(worker, Kind.RESPONSIVE)
        assert kinds(worker) == [Kind.CONNECTED, Kind.UNRESPONSIVE, Kind.RESPONSIVE]


def test_a_stranger_is_refused_and_cannot_move_the_cursor():
    with UcxWorker() as worker:
        listener = worker.create_listener()
        with socket.create_connection((listener.host, listener.port)) as stranger:
            stranger.sendall(b"\x1b[2J" * 1000)
            refused = wait_for(worker, Kind.REFUSED)
            assert refused.peer == "{}:{}".format(*stranger.getsockname())
        assert refused.text.isprintable()
        assert refused.endpoint_id == 0


def test_failures_of_a_moment_are_one_event():
    with UcxWorker() as worker:
        for _ in range(50):
            with pytest.raises(ucxnb.ConnectRefusedError):
                worker.connect("127.0.0.1:1")
        wait_for(worker, Kind.ERROR)
    errors = worker.events()
    assert all(event.kind is Kind.ERROR for event in errors)
    assert 1 <= len(errors) < 25
    told = [event.text.split() for event in errors]
    assert sum(int(words[0]) if words[1] == "operations" else 1 for words in told) == 50
    assert "127.0.0.1:1" in errors[-1].text


def test_what_failed_last_is_told_when_the_worker_closes():
    with UcxWorker() as worker, pytest.raises(ucxnb.ConnectRefusedError):
        worker.connect("127.0.0.1:1")
    assert kinds(worker) == [Kind.ERROR]


def test_closing_a_worker_ends_its_connections():
    with UcxWorker() as server, UcxWorker() as client:
        client.connect(server.create_listener().address)
        client.close()
        assert kinds(client) == [Kind.CONNECTED, Kind.CLOSED]
        wait_for(server, Kind.CLOSED)


def test_the_latest_are_kept():
    log = EventLog()
    for number in range(3000):
        log.note(Kind.ERROR, text=str(number))
    assert [event.number for event in log.latest()] == list(range(1977, 3001))
    assert [event.text for event in log.latest(2)] == ["2998", "2999"]
