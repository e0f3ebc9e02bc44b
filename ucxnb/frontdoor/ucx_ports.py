"""The TCP ports that UCX opens by itself: only hosts of peers get through to them.

UCX's TCP transport listens on every interface, whether the worker has a listener or not, and
whoever speaks the first words of its protocol and then junk ends the process. A packet filter on
each of these sockets, which needs no rights, drops the packets of everybody else.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from .protocol import ProtocolError
from .worker_address import tcp_interfaces

__all__ = ["UcxPorts", "hosts_of"]

_log = logging.getLogger("ucxnb")

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_MAX_HOSTS = 256  # of the kernel's memory for a socket's filter
_LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
# Classic BPF.
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NETWORK_HEADER = 0xFFF00000
_SOURCE = {socket.AF_INET: 12, socket.AF_INET6: 8}  # where it is in that header


class UcxPorts:
    """Closed to all at first. Everything runs on the thread of the front door.

    Parameters
    ----------
    worker_address : bytes
        Of the worker in this process whose ports they are.
    """

    def __init__(self, worker_address: bytes) -> None:
        self._hosts: collections.Counter[str] = collections.Counter()
        self._for_all = 0
        try:
            interfaces = tcp_interfaces(worker_address)
        except ProtocolError:
            interfaces = []
        wanted = {(host or _LOOPBACK[family], port) for family, host, port in interfaces}
        self._own_hosts = {host for host, _ in wanted}
        self._listening = dict(_listening(wanted))
        if len(self._listening) < len(wanted):
            _log.warning("UCX's TCP ports were not all found: they are open to all")
        self._apply(frozenset())

    def admit(self, hosts: set[str], *, instead_of: Iterable[str] = ()) -> None:
        """Let hosts in, each until it is taken back as often; what it has open then stays so."""
        before = frozenset(self._hosts)
        self._hosts.update(hosts)
        self._hosts.subtract(instead_of)
        self._hosts += collections.Counter()
        if (now := frozenset(self._hosts)) != before:
            self._apply(now)

    def open_to_all(self, more: int) -> None:
        """So many more, or fewer, have peers of which nobody tells where they come from."""
        before, self._for_all = self._for_all, self._for_all + more
        if (before == 0) != (self._for_all == 0):
            self._apply(frozenset(self._hosts))

    def hosts_behind(self, control: socket.socket) -> set[str]:
        """Where the peer on a control channel may come from, as long as it does not say more."""
        here, there = _ip(control.getsockname()[0]), _ip(control.getpeername()[0])
        near = here == there or there.is_loopback
        return {str(there), *self._own_hosts} if near else {str(there)}

    def _apply(self, hosts: frozenset[str]) -> None:
        for descriptor, where in self._listening.items():
            with contextlib.suppress(OSError), _borrowed(descriptor) as sock:
                if sock.getsockname()[:2] != where:
                    continue
                try:
                    if self._for_all == 0 and len(hosts) <= _MAX_HOSTS:
                        _attach(sock, hosts)
                        continue
                except OSError as error:  # no memory for it: a peer must not be kept out
                    _log.warning("UCX's TCP port %s is open to all: %s", where[1], error)
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def hosts_of(worker_address: bytes) -> set[str]:
    """Where a worker's UCX comes from.

    Parameters
    ----------
    worker_address : bytes
        The worker's.

    Returns
    -------
    set of str
        IP addresses; none if the address is of a form that is not known here.
    """
    try:
        return {host or _LOOPBACK[family] for family, host, _ in tcp_interfaces(worker_address)}
    except ProtocolError:
        return set()


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address without its scope, and IPv4 as such."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def _listening(wanted: set[tuple[str, int]]) -> Iterator[tuple[int, tuple[str, int]]]:
    """Descriptor and address of each socket of this process that listens at one of these."""
    for name in os.listdir("/proc/self/fd") if wanted else []:
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with _borrowed(int(name)) as sock:
                listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and (where := sock.getsockname()[:2]) in wanted:
                    yield int(name), where


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """UCX's socket, which stays UCX's to close."""
    sock = socket.socket(fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()


def _attach(sock: socket.socket, hosts: frozenset[str]) -> None:
    size = 4 if sock.family == socket.AF_INET else 16
    program = []
    for host in hosts:
        source = _ip(host).packed
        if len(source) != size:
            continue
        words = struct.unpack(f"!{size // 4}I", source)
        for number, word in enumerate(words):
            rest = 2 * (len(words) - number) - 1
            at = _NETWORK_HEADER + _SOURCE[sock.family] + 4 * number
            program += [(_LOAD_WORD, 0, 0, at), (_JUMP_IF_EQUAL, 0, rest, word)]
        program.append((_RETURN, 0, 0, 0xFFFFFFFF))
    program.append((_RETURN, 0, 0, 0))
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    where = struct.pack("HP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)
