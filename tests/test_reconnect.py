"""Connections that are made again when they were lost, and what is said about the loss."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mmap
import struct
import threading
import time

import pytest
from eventually import eventually
from relay import Relay

import ucxnb
from ucxnb import ThreadMode, UcxWorker

TIMEOUT = 30
QUICK = {"first_delay": 0.01, "longest_delay": 0.1}


@pytest.fixture
def server():
    with UcxWorker(heartbeat_interval=0.05, thread_mode=ThreadMode.MULTI) as worker:
        worker.create_listener()
        yield worker


@pytest.fixture
def client():
    with UcxWorker(heartbeat_interval=0.05, thread_mode=ThreadMode.MULTI) as worker:
        yield worker


@pytest.fixture
def relay(server):
    with Relay(server.listeners[0].address) as relay:
        yield relay


def come_back(relay, link):
    """Cut, and give the id of the connection after that."""
    before = link.endpoint_id
    relay.cut()
    eventually(lambda: link.endpoint_id not in (before, None))
    return link.wait(TIMEOUT)


# ---- a listener that dies and comes back ----


def answering(channel, address, file):
    """Answers questions, and counts in a file what it received, until it is killed."""
    with UcxWorker(heartbeat_interval=0.05) as worker, open(file, "r+b") as opened:
        count = mmap.mmap(opened.fileno(), 8)
        channel.send("ready")
        channel.receive()
        channel.send(worker.create_listener(address).address)
        for number in range(1, 2**62):
            message = worker.receive_message(None, 1)
            struct.pack_into("Q", count, 0, number)
            worker.send_tag(message.endpoint_id, 1, message.data)


@pytest.mark.reliability
def test_a_listener_that_dies_under_traffic_and_comes_back(start_child, saw, tmp_path, client):
    times = 3
    counts = [tmp_path / str(number) for number in range(times + 1)]
    for file in counts:
        file.write_bytes(bytes(8))
    life = start_child(answering, "127.0.0.1:0", str(counts[0]))
    life.receive()
    life.send("listen")
    address = life.receive()
    answered, seconds = 0, []

    def ask():
        nonlocal answered
        endpoint_id = link.wait(TIMEOUT)
        question = b"%d" % answered
        client.send_tag(endpoint_id, 1, question)
        assert client.receive_tag(endpoint_id, 1, timeout=TIMEOUT) == question
        answered += 1

    with client.keep_connected(address, **QUICK) as link:
        for file in counts[1:]:
            following = start_child(answering, address, str(file))
            following.receive()
            killer = threading.Timer(0.1, life.kill)
            killer.start()
            with contextlib.suppress(ucxnb.EndpointLostError):
                while True:
                    ask()
            killer.join()
            life = following
            life.send("listen")
            assert life.receive() == address
            began = time.perf_counter()
            link.wait(TIMEOUT)
            seconds.append(time.perf_counter() - began)
        ask()
        assert answered > times
        assert len({loss.endpoint_id for loss in link.losses} | {link.endpoint_id}) == times + 1
        for file, loss in zip(counts, link.losses, strict=False):
            (received,) = struct.unpack("Q", file.read_bytes())
            assert loss.messages_sent - received <= loss.messages_unconfirmed <= loss.messages_sent
            assert loss.messages_received <= received
            assert loss.bytes_unconfirmed <= loss.bytes_sent
    life.kill()
    saw(
        "faults",
        "SIGKILL of a listener under traffic, and a new one on its port: `keep_connected`",
        tried=times,
        sees="`EndpointLostError`, then a connection with a new id, and a record of the loss",
        seconds=seconds,
        lost="at most what `Loss.messages_unconfirmed` says; nothing is sent again",
    )


# ---- what a loss says ----


def test_a_loss_counts_what_the_peer_has_not_received(server, client, relay):
    with client.keep_connected(relay.address, **QUICK) as link:
        first = link.wait()
        there = server.get_endpoint_ids()[0]
        for number in range(10):
            client.send_tag(first, 1, b"%d" % number)
        for _ in range(7):
            server.receive_tag(there, 1, timeout=TIMEOUT)
        server.send_tag(there, 2, b"one back")
        client.receive_tag(first, 2, timeout=TIMEOUT)
        eventually(lambda: client.endpoints()[0].received_there == (7, 7))
        assert come_back(relay, link) != first
        (loss,) = link.losses
        assert (loss.endpoint_id, loss.messages_sent, loss.bytes_sent) == (first, 10, 10)
        assert (loss.messages_unconfirmed, loss.bytes_unconfirmed) == (3, 3)
        assert (loss.messages_received, loss.bytes_received) == (1, 8)
        assert "10 messages (10 bytes) sent" in str(loss)
        assert "3 of them (3 bytes)" in str(loss)
        assert loss.reason in str(loss)
        with pytest.raises(ucxnb.EndpointLostError):
            client.send_tag(first, 1, b"")


def test_what_a_peer_does_not_tell_is_not_guessed():
    fields = {"tag_scope": "worker"}
    with (
        UcxWorker(**fields) as server,
        UcxWorker(**fields) as client,
        Relay(server.create_listener().address) as relay,
        client.keep_connected(relay.address, **QUICK) as link,
    ):
        client.send_tag(link.wait(), 1, b"12345")
        come_back(relay, link)
        (loss,) = link.losses
        assert (loss.messages_sent, loss.bytes_sent) == (1, 5)
        assert loss.messages_unconfirmed is loss.bytes_unconfirmed is None
        assert "told nothing" in str(loss)


def test_what_had_arrived_can_be_received_after_the_loss(server, client, relay):
    with client.keep_connected(relay.address, **QUICK) as link:
        first = link.wait()
        server.send_tag(server.get_endpoint_ids()[0], 1, b"before")
        second = come_back(relay, link)
        assert client.receive_tag(first, 1, timeout=TIMEOUT) == b"before"
        client.send_tag(second, 1, b"after")
        assert server.receive_tag(None, 1, timeout=TIMEOUT) == b"after"


def test_a_receive_from_anyone_waits_for_the_next_connection(server, client, relay):
    server.listeners[0].close()
    relay.target = server.create_listener().address
    with client.keep_connected(relay.address, **QUICK) as link:
        got = []
        waiting = threading.Thread(target=lambda: got.append(client.receive_tag(None, 1)))
        waiting.start()
        come_back(relay, link)
        server.broadcast_tag(1, b"here again")
        waiting.join(TIMEOUT)
        assert got == [b"here again"]
    with pytest.raises(ucxnb.NoPeersError):
        client.receive_tag(None, 1, timeout=TIMEOUT)


# ---- how it ends ----


def has_ended(link, kind, client):
    with pytest.raises(kind) as caught:
        link.wait(TIMEOUT)
    assert type(link.error) is type(caught.value) is kind
    assert str(caught.value) == str(link.error)
    assert link.endpoint_id is None
    assert link.status == f"ended: {link.error}"
    eventually(lambda: client.kept_connections == ())
    link.close()
    return str(caught.value)


def test_a_goodbye_ends_it(server, client, relay):
    link = client.keep_connected(relay.address, **QUICK)
    assert client.kept_connections == (link,)
    assert link.endpoint_id == client.get_endpoint_ids()[0]
    assert "connected, endpoint" in repr(link)
    server.cleanup_all()
    eventually(lambda: link.error)
    has_ended(link, ucxnb.PeerClosedError, client)
    assert link.losses == ()


def test_a_listener_that_refuses_ends_it(server, client, relay):
    link = client.keep_connected(relay.address, **QUICK)
    with UcxWorker(tag_scope="worker") as other:
        relay.target = other.create_listener().address
        relay.cut()
        eventually(lambda: link.error)
        assert "tag_scope" in has_ended(link, ucxnb.RejectedError, client)
    assert len(link.losses) == 1


def test_it_gives_up(server, client, relay):
    link = client.keep_connected(relay.address, **QUICK, give_up_after=0.5)
    relay.close()
    message = has_ended(link, ucxnb.EndpointLostError, client)
    assert "gave up" in message
    assert "nothing listens there" in message


def lost_for_long(client, relay):
    link = client.keep_connected(relay.address, first_delay=60, longest_delay=60)
    relay.cut()
    eventually(lambda: "attempt 1 in" in link.status)
    return link


@pytest.mark.parametrize("lost", [False, True])
def test_closing_it_ends_it(server, client, relay, lost):
    link = lost_for_long(client, relay) if lost else client.keep_connected(relay.address)
    link.close()
    has_ended(link, ucxnb.EndpointClosedError, client)
    eventually(lambda: not client.get_endpoint_ids() and not server.get_endpoint_ids())


def test_disconnecting_its_endpoint_ends_it(server, client, relay):
    with client.keep_connected(relay.address) as link:
        client.disconnect(link.wait())
        has_ended(link, ucxnb.EndpointClosedError, client)


@pytest.mark.parametrize("lost", [False, True])
def test_closing_the_worker_ends_it(server, client, relay, lost):
    link = lost_for_long(client, relay) if lost else client.keep_connected(relay.address)
    client.close()
    has_ended(link, ucxnb.WorkerClosedError, client)


def test_a_worker_that_is_dropped_ends_it(relay):
    worker = UcxWorker()
    lost_for_long(worker, relay)
    with pytest.warns(ResourceWarning):
        del worker
        gc.collect()


def test_closing_while_it_connects(server, client, relay):
    for _ in range(20):
        link = client.keep_connected(relay.address, first_delay=0.001, longest_delay=0.001)
        relay.cut()
        link.close()
        has_ended(link, ucxnb.EndpointClosedError, client)
    eventually(lambda: not client.get_endpoint_ids())


def test_the_first_connection_fails_as_any_other(client):
    with pytest.raises(ucxnb.ConnectRefusedError):
        client.keep_connected("127.0.0.1:1")
    for fields in ({"first_delay": 0}, {"longest_delay": None}, {"give_up_after": -1}):
        with pytest.raises(ucxnb.ArgumentError):
            client.keep_connected("127.0.0.1:1", **fields)
    assert client.kept_connections == ()


# ---- waiting ----


def test_waiting_has_a_limit(server, client, relay):
    link = lost_for_long(client, relay)
    assert link.endpoint_id is None
    with pytest.raises(ucxnb.OperationTimeoutError, match="attempt 1"):
        link.wait(0.01)
    with pytest.raises(ucxnb.ArgumentError):
        link.wait(-1)
    link.close()


def test_waiting_in_asyncio(server, client, relay):
    async def story():
        link = client.keep_connected(relay.address, **QUICK)
        first = await link.wait_async()
        relay.cut()
        while (second := await link.wait_async(TIMEOUT)) == first:
            await asyncio.sleep(0.001)
        relay.close()
        while link.endpoint_id is not None:
            await asyncio.sleep(0.001)
        with pytest.raises(ucxnb.OperationTimeoutError):
            await link.wait_async(0.01)
        task = asyncio.create_task(link.wait_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waiting = asyncio.create_task(link.wait_async())
        await asyncio.sleep(0)
        link.close()
        with pytest.raises(ucxnb.EndpointClosedError):
            await waiting
        return first, second

    first, second = asyncio.run(story())
    assert first != second
