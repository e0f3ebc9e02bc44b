"""Worker addresses that lie: refused before UCX, which believes them, gets to see them."""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import time

import pytest
from forgery import forgeries

from ucxnb import UcxError, UcxWorker, WorkerConfig
from ucxnb.binding import UcpWorker
from ucxnb.frontdoor import worker_address
from ucxnb.frontdoor.protocol import ProtocolError
from ucxnb.frontdoor.worker_address import check_worker_address

LOOPBACK = {"NET_DEVICES": "lo"}
KINDS = {
    "all": {},
    "loopback": LOOPBACK,
    "shm": {"TLS": "shm"},
    "posix": {"TLS": "posix"},
    "posix by name": {"TLS": "posix", "POSIX_USE_PROC_LINK": "n"},
    "posix elsewhere": {"TLS": "posix", "POSIX_USE_PROC_LINK": "n", "POSIX_DIR": "/tmp"},
    "sysv": {"TLS": "sysv,self"},
    "cma": {"TLS": "sysv,cma"},
    "tcp": {"TLS": "tcp"},
    "tcp6": {"TLS": "tcp", "TCP_AF_PRIO": "inet6"},
    "v2": {"ADDRESS_VERSION": "v2"},
    "debug": {"ADDRESS_DEBUG_INFO": "y"},
    "debug v2": {"ADDRESS_DEBUG_INFO": "y", "ADDRESS_VERSION": "v2"},
}


@contextlib.contextmanager
def ucp_workers(*options):
    workers = []
    try:
        for one in options:
            workers.append(UcpWorker(WorkerConfig(ucx_options=one)))
        yield [worker.address for worker in workers]
    finally:
        for worker in workers:
            worker.close()


@pytest.mark.parametrize("kind", KINDS)
def test_real_addresses_pass(kind):
    with ucp_workers(KINDS[kind], KINDS[kind], {}, {"ADDRESS_VERSION": "v2"}) as addresses:
        for theirs in addresses:
            for mine in addresses:
                if kind != "posix elsewhere" or theirs[8:] == mine[8:]:
                    check_worker_address(theirs, mine)


def test_an_address_of_every_kind_of_worker_works():
    for kind, options in KINDS.items():
        with UcxWorker(ucx_options=options) as server, UcxWorker(ucx_options=options) as client:
            there = client.connect(server.create_listener().address)
            client.send_tag(there, 1, kind.encode())
            assert server.receive_tag(None, 1, timeout=30) == kind.encode()


def test_addresses_of_a_form_unknown_here_are_not_judged(caplog):
    with ucp_workers({"UNIFIED_MODE": "y"}, {"UNIFIED_MODE": "y"}) as (mine, theirs):
        check_worker_address(theirs, mine)
    assert "not checked" in caplog.text


# ---- named lies ----


def tcp_address(family=2, host=b"\xc0\0\2\2", loopback=0, port=b"\x80\x01", tail=b""):
    """An address of one TCP device, laid out by hand."""
    device = bytes([loopback, family]) + host
    attributes = struct.pack("<fffI", 1e-5, 1e9, 1e-6, 0x00231301)
    transport = struct.pack("<H", 0x19CF) + attributes + bytes([0x80 | len(port)]) + port
    head = b"\x20" + b"u" * 8 + b"\0" + bytes([len(device)])
    return head + device + transport + b"\x85\x80" + tail


def sysv_address(machine, segment):
    attributes = struct.pack("<fffI", 1e-8, 1e9, 1e-6, 0x00234F00)
    transport = struct.pack("<H", 0x538D) + attributes + b"\x88" + struct.pack("<Q", segment)
    return b"\x20" + b"u" * 8 + b"\0\x08" + machine + transport + b"\x85\x80"


HONEST = tcp_address()
LIES = {
    "cut short": (HONEST[:-3], "too early"),
    "with a tail": (tcp_address(tail=b"\0"), "goes on for 1"),
    "one byte": (b"\x20", "too early"),
    "of another version": (b"\x2f" + HONEST[1:], "unknown version 16"),
    "without an id": (b"\x00" + HONEST[1:], "flags 0x0"),
    "of one client of many": (b"\x60" + HONEST[1:], "flags 0x6"),
    "of no device": (HONEST[:9] + b"\x85\x80", "names no transport"),
    "with a memory domain 64": (HONEST[:9] + b"\x40" + HONEST[10:], "memory domain 64"),
    "of an endpoint": (HONEST[:-5] + b"\xc2" + HONEST[-4:], "endpoint"),
    "with a bandwidth of none": (HONEST[:23] + bytes(4) + HONEST[27:], "claims 0.0"),
    "with a bandwidth of nan": (HONEST[:23] + b"\xff" * 4 + HONEST[27:], "claims nan"),
    "with 129 transports": (
        HONEST[:17] + (HONEST[17:35] + b"\x02\x80\x01") * 129 + HONEST[17:],
        "over 128",
    ),
    "to port 0": (tcp_address(port=b"\0\0"), "TCP address of a wrong"),
    "with a long port": (tcp_address(port=b"\0\1\2"), "TCP address of a wrong"),
    "IPv6 in 4 bytes": (tcp_address(family=10), "TCP address of a wrong"),
    "of another family": (tcp_address(family=1), "TCP address of a wrong"),
    "loopback as a host": (tcp_address(host=b"\x7f\0\0\1"), "127.0.0.1"),
    "multicast": (tcp_address(host=b"\xe0\0\0\1"), "224.0.0.1"),
    "nobody's host": (tcp_address(host=bytes(4)), "0.0.0.0"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(lie):
    check_worker_address(HONEST, HONEST)
    address, reason = LIES[lie]
    with pytest.raises(ProtocolError, match=reason):
        check_worker_address(address, HONEST)


def test_memory_domains_that_are_two_here_are_not_one_there():
    machine = b"machine."
    mine = HONEST[:-2] + b"\1" + sysv_address(machine, 0)[10:]
    theirs = HONEST[:-2] + b"\0" + sysv_address(b"another.", 0)[10:]
    check_worker_address(theirs[: len(HONEST) - 2] + b"\1" + theirs[len(HONEST) - 1 :], mine)
    with pytest.raises(ProtocolError, match="memory domains"):
        check_worker_address(theirs, mine)


def test_a_segment_of_shared_memory_is_one_of_ucx():
    """UCX would map any file that this process can write, and write into it."""
    with ucp_workers({"TLS": "posix"}, {"TLS": "posix"}) as (mine, theirs), _scratch() as file:
        at = 38  # after one device's and one transport's head
        segment = int.from_bytes(theirs[at : at + 8], "little")
        mask = (1 << 60) - (1 << 30)
        forged = ((segment & ~mask) | file.fileno() << 30).to_bytes(8, "little")
        with pytest.raises(ProtocolError, match="that is none"):
            check_worker_address(theirs[:at] + forged + theirs[at + 8 :], mine)


def test_a_segment_of_shared_memory_has_the_size_that_ucx_maps():
    with ucp_workers({"TLS": "sysv"}, {"TLS": "sysv"}) as (mine, _):
        machine = mine[11:19]
        sizes = worker_address._sysv_sizes()
        fifo = sizes[int.from_bytes(mine[38:46], "little")]
        large = next(segment for segment, size in sizes.items() if size > 2 * fifo)
        with pytest.raises(ProtocolError, match="another size"):
            check_worker_address(sysv_address(machine, large), mine)
        check_worker_address(sysv_address(b"another.", large), mine)


@contextlib.contextmanager
def _scratch():
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        yield file


# ---- any lie ----

FORGED = {
    "shm": {"TLS": "shm"},
    "tcp": {"TLS": "tcp", **LOOPBACK},
    "all": LOOPBACK,
    "shm v2": {"TLS": "shm", "ADDRESS_VERSION": "v2"},
    "all v2": {**LOOPBACK, "ADDRESS_VERSION": "v2"},
}
RANDOM = 800


def meet_liars(channel, kind, seed):
    """Give UCX what passes the check; returns how many were refused, by whom, and opened."""
    refused = declined = opened = 0
    options = {**FORGED[kind], "LOG_LEVEL": "fatal"}
    with UcxWorker(ucx_options=options) as me, UcxWorker(ucx_options=options) as peer:
        mine, real = me._ucp.address, peer._ucp.address
        for number, forged in enumerate(forgeries(real, [mine, HONEST], seed, RANDOM), 100):
            try:
                check_worker_address(forged, mine)
            except ProtocolError:
                refused += 1
                continue
            try:
                endpoint = me._open_endpoint(number, forged, 1, None, None)
            except UcxError:
                declined += 1
                continue
            opened += 1
            me.progress()
            endpoint.closed_by_me = True
            me._end_endpoint(endpoint)
            me._remove_endpoint(endpoint)
        there = peer.connect(me.create_listener().address)
        peer.send_tag(there, 1, b"still here")
        assert me.receive_tag(None, 1, timeout=30) == b"still here"
    return refused, declined, opened


@pytest.mark.reliability
@pytest.mark.parametrize("kind", FORGED)
def test_no_forged_address_ends_the_process(kind, start_child, saw):
    refused, declined, opened = start_child(meet_liars, kind, 1).result(100)
    assert refused > 500
    assert opened > 100
    saw(
        "strangers",
        "a forged worker address",
        tried=refused + declined + opened,
        sees="nothing: the connection is refused, or leads nowhere and ends",
        seconds=[],
        lost="nothing",
    )


@pytest.mark.reliability
def test_an_address_that_leads_nowhere_holds_nobody_up(saw):
    options = {"TLS": "tcp", **LOOPBACK, "LOG_LEVEL": "fatal"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(UcxWorker(ucx_options=options))
        client = stack.enter_context(UcxWorker(ucx_options=options))
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # from here on, who connects there waits for minutes
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        real = client._ucp.address
        port_at = real.index(b"\x82", 36) + 1
        forged = real[:port_at] + struct.pack("!H", full.getsockname()[1]) + real[port_at + 2 :]
        endpoint = server._open_endpoint(2**20, forged, 1, None, None)
        listener = server.create_listener()
        before = time.monotonic()
        there = client.connect(listener.address, timeout=20)
        client.send_tag(there, 1, b"in")
        assert server.receive_tag(None, 1, timeout=20) == b"in"
        seconds = time.monotonic() - before
        endpoint.closed_by_me = True
        server._end_endpoint(endpoint)
        server._remove_endpoint(endpoint)
    saw(
        "strangers",
        "a worker address that leads nowhere (a TCP port that never answers)",
        tried=1,
        sees="nothing: a new peer is in as always",
        seconds=[seconds],
        lost="nothing",
    )
