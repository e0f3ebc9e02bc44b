"""Making, watching and ending connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from eventually import eventually

import ucxnb
from ucxnb import EndpointState, UcxWorker

TIMEOUT = 30


@contextlib.contextmanager
def tcp_server(answer):
    """A TCP server on loopback that calls ``answer(connection)`` for its first client."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def worker():
    with UcxWorker() as worker:
        yield worker
        assert worker.get_endpoint_ids() == []


def test_a_port_where_nothing_listens(worker):
    with pytest.raises(ucxnb.ConnectRefusedError, match="nothing listens"):
        worker.connect(f"127.0.0.1:{closed_port()}")
    assert worker.stats().errors == 1


def test_a_name_that_does_not_resolve(worker):
    with pytest.raises((ucxnb.UnreachableError, ucxnb.ConnectTimeoutError), match="name"):
        worker.connect("no-such-host.invalid:1", timeout=20)


@pytest.mark.parametrize("address", ["", "localhost", ":80", "127.0.0.1:0", "::1:80", None, 80])
def test_what_is_no_address(worker, address):
    with pytest.raises(ucxnb.AddressError):
        worker.connect(address)


def test_a_server_that_never_answers(worker):
    with (
        tcp_server(lambda connection: connection.recv(1 << 16) and connection.recv(1)) as address,
        pytest.raises(ucxnb.ConnectTimeoutError, match="handshake"),
    ):
        worker.connect(address, timeout=0.3)


@pytest.mark.parametrize(
    "junk",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0",
        bytes(range(256)) * 8,
        b"UCXn\x01\x02\xff\xff\xff\xff",
    ],
)
def test_a_server_that_answers_junk(worker, junk):
    with (
        tcp_server(
            lambda connection: (connection.sendall(junk), connection.recv(1 << 16))
        ) as address,
        pytest.raises(ucxnb.HandshakeError, match="no ucxnb worker"),
    ):
        worker.connect(address)


def test_a_server_that_hangs_up(worker):
    with tcp_server(lambda connection: None) as address, pytest.raises(ucxnb.HandshakeError):
        worker.connect(address)


def test_a_peer_of_another_version(worker):
    with (
        tcp_server(
            lambda connection: (
                connection.sendall(b"UCXn\x63\x02\0\0\0\0"),
                connection.recv(1 << 16),
            )
        ) as address,
        pytest.raises(ucxnb.HandshakeError, match="version 99"),
    ):
        worker.connect(address)


def test_a_peer_with_another_tag_scope(worker):
    with UcxWorker(tag_scope="worker") as other:
        address = other.create_listener().address
        with pytest.raises(ucxnb.RejectedError, match="tag_scope"):
            worker.connect(address)
        with UcxWorker(tag_scope="worker") as same:
            same.connect(address)


def test_names_and_ipv6(worker):
    with UcxWorker() as server:
        listener = server.create_listener("localhost:0")
        worker.disconnect(worker.connect(f"localhost:{listener.port}"))
        if socket.has_ipv6:
            try:
                listener = server.create_listener("[::1]:0")
            except ucxnb.AddressInUseError:
                pytest.skip("this machine has no IPv6 loopback")
            assert listener.address == f"[::1]:{listener.port}"
            endpoint_id = worker.connect(listener.address)
            worker.send_tag(endpoint_id, 1, b"six")
            assert server.receive_tag(None, 1, timeout=TIMEOUT) == b"six"
            worker.disconnect(endpoint_id)


def test_a_listener_tells_where_it_is_and_frees_its_port(worker):
    listener = worker.create_listener()
    assert listener.host == "127.0.0.1"
    assert listener.port > 0
    assert listener.address == f"127.0.0.1:{listener.port}"
    assert worker.listeners == (listener,)
    with pytest.raises(ucxnb.AddressInUseError, match="port"):
        worker.create_listener(listener.address)
    listener.close()
    listener.close()
    assert listener.closed
    assert worker.listeners == ()
    with worker.create_listener(f"127.0.0.1:{listener.port}") as again:
        assert again.port == listener.port
    assert again.closed


def test_an_address_of_another_machine_cannot_be_listened_on(worker):
    with pytest.raises(ucxnb.AddressInUseError, match="this machine"):
        worker.create_listener("192.0.2.1:0")


def test_connections_outlive_their_listener():
    with UcxWorker() as server, UcxWorker() as client:
        with server.create_listener() as listener:
            endpoint_id = client.connect(listener.address)
        client.send_tag(endpoint_id, 1, b"still")
        assert server.receive_tag(None, 1, timeout=TIMEOUT) == b"still"


def test_both_sides_see_the_connection_without_a_call():
    with UcxWorker(name="the server") as server, UcxWorker(name="the client") as client:
        before = time.time()
        endpoint_id = client.connect(server.create_listener().address)
        (here,), (there,) = client.endpoints(), server.endpoints()
        assert (here.endpoint_id, here.direction, here.peer_name) == (
            endpoint_id,
            "connected",
            "the server",
        )
        assert (there.direction, there.peer_name) == ("accepted", "the client")
        assert here.state is there.state is EndpointState.OPEN
        assert before - 1 <= here.since <= time.time() + 1
        assert here.peer_address == server.listeners[0].address
        assert any("memory" in transport for transport in here.transports)
        client.disconnect(endpoint_id)
        assert client.get_endpoint_ids() == server.get_endpoint_ids() == []
        assert not client.is_connected(endpoint_id)
        (ended,) = server.endpoints(ended=True)
        assert ended.state is EndpointState.CLOSED
        assert "closed" in ended.reason
        assert ended.transports == ()


def test_what_was_sent_before_a_goodbye_is_received_after_it():
    with UcxWorker() as server:
        address = server.create_listener().address
        with UcxWorker() as client:
            endpoint_id = client.connect(address)
            for number in range(1000):
                client.send_tag(endpoint_id, number % 3, number.to_bytes(4, "big"))
            client.disconnect(endpoint_id)
        (there,) = server.endpoints(ended=True)
        for number in range(1000):
            data = server.receive_tag(there.endpoint_id, number % 3, timeout=TIMEOUT)
            assert data == number.to_bytes(4, "big")
        with pytest.raises(ucxnb.PeerClosedError):
            server.receive_tag(there.endpoint_id, 0)
        with pytest.raises(ucxnb.PeerClosedError):
            server.try_receive_tag(there.endpoint_id, 0)
        with pytest.raises(ucxnb.PeerClosedError):
            server.send_tag(there.endpoint_id, 0, b"")


def test_what_was_sent_over_tcp_before_a_goodbye_is_received_after_it():
    options = {"TLS": "tcp"}
    with UcxWorker(ucx_options=options) as server, UcxWorker(ucx_options=options) as client:
        endpoint_id = client.connect(server.create_listener().address)
        for number in range(3000):
            client.send_tag(endpoint_id, 0, number.to_bytes(4, "big") + bytes(500))
        client.disconnect(endpoint_id)
        (there,) = server.endpoints(ended=True)
        for number in range(3000):
            data = server.receive_tag(there.endpoint_id, 0, timeout=TIMEOUT)
            assert data[:4] == number.to_bytes(4, "big")


def test_an_endpoint_that_you_closed_says_so():
    with UcxWorker() as server, UcxWorker() as client:
        endpoint_id = client.connect(server.create_listener().address)
        client.disconnect(endpoint_id)
        client.disconnect(endpoint_id)
        for call in (
            lambda: client.send_tag(endpoint_id, 1, b""),
            lambda: client.receive_tag(endpoint_id, 1),
            lambda: client.try_receive_tag(endpoint_id, 1),
        ):
            with pytest.raises(ucxnb.EndpointClosedError, match="you closed it"):
                call()


@pytest.mark.parametrize(
    ("endpoint_id", "error"),
    [(99, ucxnb.UnknownEndpointError), ("1", ucxnb.ArgumentError), ([], ucxnb.ArgumentError)],
)
def test_endpoint_ids_that_are_none(worker, endpoint_id, error):
    for call in (worker.disconnect, worker.stats, lambda i: worker.send_tag(i, 1, b"")):
        with pytest.raises(error):
            call(endpoint_id)
    assert not worker.is_connected(endpoint_id)


def test_receiving_from_anyone_needs_a_way_for_someone_to_come(worker):
    with pytest.raises(ucxnb.NoPeersError):
        worker.receive_tag(None, 1)
    with worker.create_listener(), pytest.raises(ucxnb.OperationTimeoutError):
        worker.receive_tag(None, 1, timeout=0.02)
    with pytest.raises(ucxnb.NoPeersError):
        worker.try_receive_tag(None, 1)


def test_a_worker_connects_to_itself(worker):
    endpoint_id = worker.connect(worker.create_listener().address)
    mine, accepted = worker.get_endpoint_ids()
    assert endpoint_id in (mine, accepted)
    other = accepted if endpoint_id == mine else mine
    worker.send_tag(endpoint_id, 1, b"echo")
    assert worker.receive_tag(other, 1, timeout=TIMEOUT) == b"echo"
    worker.cleanup_all()


def test_cleanup_all_closes_every_connection():
    with UcxWorker() as server:
        address = server.create_listener().address
        clients = [UcxWorker() for _ in range(3)]
        try:
            for client in clients:
                client.connect(address)
            assert len(server.get_endpoint_ids()) == 3
            server.cleanup_all()
            assert server.get_endpoint_ids() == []
            for client in clients:
                eventually(lambda client=client: client.get_endpoint_ids() == [])
            clients[0].connect(address)
            assert len(server.get_endpoint_ids()) == 1
        finally:
            for client in clients:
                client.close()


def test_the_same_peer_can_come_back_many_times():
    with UcxWorker() as server, UcxWorker() as client:
        address = server.create_listener().address
        for round_trip in range(300):
            endpoint_id = client.connect(address)
            assert endpoint_id == round_trip + 1
            client.send_tag(endpoint_id, 1, b"again")
            assert server.receive_tag(None, 1, timeout=TIMEOUT) == b"again"
            client.disconnect(endpoint_id)
        assert server.stats().connections == 0
        assert len(server.endpoints(ended=True)) <= 256
        with pytest.raises(ucxnb.UnknownEndpointError):
            server.receive_tag(1, 1)


def test_both_sides_may_close_at_the_same_time():
    with UcxWorker() as server, UcxWorker() as client:
        address = server.create_listener().address
        for _ in range(50):
            here = client.connect(address)
            (there,) = server.get_endpoint_ids()
            threads = [
                threading.Thread(target=client.disconnect, args=(here,)),
                threading.Thread(target=server.disconnect, args=(there,)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.get_endpoint_ids() == server.get_endpoint_ids() == []


def test_a_silent_stranger_holds_nobody_up():
    with UcxWorker(handshake_timeout=0.5) as server, UcxWorker() as client:
        listener = server.create_listener()
        where = (listener.host, listener.port)
        with contextlib.ExitStack() as stack:
            strangers = [stack.enter_context(socket.create_connection(where)) for _ in range(300)]
            strangers[0].sendall(b"UCXn")
            endpoint_id = client.connect(listener.address, timeout=5)
            for stranger in strangers:  # each is shown the door
                stranger.settimeout(TIMEOUT)
                with contextlib.suppress(ConnectionError):
                    while stranger.recv(1 << 16):
                        pass
        assert client.is_connected(endpoint_id)
        assert server.get_endpoint_ids() == [1]


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"x",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(2000),
        b"UCXn\x01\x01\0\0\0\x02{]",
        b"UCXn\x01\x05\0\0\0\0",
    ],
)
def test_a_stranger_who_talks_junk_is_shown_the_door(junk):
    with UcxWorker() as server, UcxWorker() as client:
        listener = server.create_listener()
        with socket.create_connection((listener.host, listener.port)) as stranger:
            stranger.sendall(junk)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionError):
                while stranger.recv(1 << 16):
                    pass
        client.connect(listener.address)
        assert len(server.get_endpoint_ids()) == 1
