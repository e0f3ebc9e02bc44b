"""The packet filter on the TCP ports that UCX opens by itself."""

from __future__ import annotations

import contextlib
import socket

import pytest

from ucxnb import WorkerConfig
from ucxnb.binding import UcpWorker
from ucxnb.frontdoor.ucx_ports import UcxPorts, hosts_of
from ucxnb.frontdoor.worker_address import tcp_interfaces


@contextlib.contextmanager
def ucx_ports(**options):
    """The ports of a worker, and a function that tells whether a host gets through to one."""
    config = WorkerConfig(ucx_options={"TLS": "tcp", "NET_DEVICES": "lo", **options})
    worker = UcpWorker(config)
    try:
        ((family, _, port),) = tcp_interfaces(worker.address)

        def gets_in(source):
            with socket.socket(family) as knocks:
                knocks.settimeout(0.2)
                knocks.bind((source, 0))
                return knocks.connect_ex((sorted(hosts_of(worker.address))[0], port)) == 0

        yield UcxPorts(worker.address), gets_in
    finally:
        worker.close()


def test_nobody_gets_in_at_first():
    with ucx_ports() as (_, gets_in):
        assert not gets_in("127.0.0.1")


def test_a_host_gets_in_until_it_was_taken_back_as_often():
    with ucx_ports() as (ports, gets_in):
        ports.admit({"127.0.0.1", "127.0.0.2", "::1"})
        assert gets_in("127.0.0.1")
        assert gets_in("127.0.0.2")
        assert not gets_in("127.0.0.3")
        ports.admit({"127.0.0.1"})
        ports.admit(set(), instead_of={"127.0.0.1", "127.0.0.2", "::1"})
        assert gets_in("127.0.0.1")
        assert not gets_in("127.0.0.2")
        ports.admit({"127.0.0.3"}, instead_of={"127.0.0.1"})
        assert gets_in("127.0.0.3")
        assert not gets_in("127.0.0.1")


def test_ipv6():
    with ucx_ports(TCP_AF_PRIO="inet6") as (ports, gets_in):
        ports.admit({"::2", "127.0.0.1"})
        assert not gets_in("::1")
        ports.admit({"fe80::1%lo", "::1"})
        assert gets_in("::1")


def test_with_too_many_hosts_the_ports_are_open_to_all():
    with ucx_ports() as (ports, gets_in):
        many = {f"192.0.2.{n}" for n in range(256)}
        ports.admit(many)
        assert not gets_in("127.0.0.1")
        ports.admit({"198.51.100.1"})
        assert gets_in("127.0.0.1")
        ports.admit(set(), instead_of={"198.51.100.1"})
        assert not gets_in("127.0.0.1")


@pytest.mark.parametrize(
    ("listens", "connects"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.9"),
        ("::", "127.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_a_peer_of_this_machine_may_come_from_all_its_interfaces(listens, connects):
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with ucx_ports() as (ports, _), socket.socket(family) as server:
        if listens == "::":
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind((listens, 0))
        server.listen()
        to = connects if listens == "::" else listens
        with socket.create_connection((to, server.getsockname()[1]), source_address=(connects, 0)):
            accepted, _ = server.accept()
            with accepted:
                assert ports.hosts_behind(accepted) == {connects, "127.0.0.1"}


def test_a_worker_without_tcp_has_none():
    worker = UcpWorker(WorkerConfig(ucx_options={"TLS": "shm"}))
    try:
        assert hosts_of(worker.address) == set()
        UcxPorts(worker.address).admit({"127.0.0.1"})
    finally:
        worker.close()


def test_ports_that_are_not_found_are_said(caplog):
    config = WorkerConfig(ucx_options={"TLS": "tcp", "NET_DEVICES": "lo"})
    worker = UcpWorker(config)
    address = worker.address
    worker.close()
    UcxPorts(address)
    assert "open to all" in caplog.text
