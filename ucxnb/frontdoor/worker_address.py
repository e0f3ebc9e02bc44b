"""A peer's worker address, looked through before UCX gets it: UCX believes every byte of one.

UCX (1.19 to 1.22) packs an address as a header and a list of devices, each with the transports
that run on it::

    address    header, worker uuid (8), name if flagged (1 + n), devices
    device     md index, length of its address and flags, paths if flagged, system device if
               flagged, its address, transports (none for the one that ends a version 1 list)
    transport  checksum of its name (2), attributes (16 in version 1, 8 in version 2), length of
               its address and flags, its address
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import math
import os
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .protocol import ProtocolError

__all__ = ["check_worker_address", "tcp_interfaces"]

_log = logging.getLogger("ucxnb")

# What UCX has room for.
_MAX_MDS = 64
_MAX_TRANSPORTS = 128

_HAS_NAME, _HAS_UUID, _EMPTY = 0x1, 0x2, 0x80
_LAST, _HAS_ENDPOINT = 0x80, 0x40  # in the length of a transport's address
_HAS_PATHS, _HAS_SYSTEM_DEVICE = 0x40, 0x20  # in the length of a device's, beside _LAST
_AM_SYNC = 0x2  # version 2: takes messages
_MIN_SEGMENT = 8  # and at least so large, in units of 64 bytes

# CRC-16 of a transport's name.
_TCP, _POSIX, _SYSV, _CMA = 0x19CF, 0xD3A7, 0x538D, 0x8B47

_POSIX_PROCFS, _POSIX_SHM_OPEN, _POSIX_PID_NS = 1 << 63, 1 << 62, 1 << 60
_POSIX_ID = (1 << 60) - 1
_POSIX_PID_BITS = 30
_POSIX_FILE = re.compile(r"(?:/.*)?/ucx_shm_posix_[0-9a-f]+(?: \(deleted\))?")
_CMA_PID_NS = 1 << 31


@dataclass(frozen=True, slots=True)
class _Transport:
    name: int
    md: int
    device_address: bytes
    address: bytes


class _Reader:
    """Takes values off the front of an address."""

    def __init__(self, data: bytes) -> None:
        self.left = memoryview(data)

    def take(self, count: int) -> bytes:
        if count > len(self.left):
            raise ProtocolError("its worker address ends too early")
        taken, self.left = bytes(self.left[:count]), self.left[count:]
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def extended(self, mask: int, version: int) -> tuple[int, int]:
        """A small number and the flags beside it; in version 2 a full mask says "in the next"."""
        byte = self.byte()
        number = byte & mask
        if version == 2 and number == mask:
            number = self.byte()
        return number, byte & ~mask


def check_worker_address(address: bytes, mine: bytes) -> None:
    """Refuse an address that no UCX worker can have.

    Parameters
    ----------
    address : bytes
        As the peer sent it.
    mine : bytes
        This side's. When that is of no form known here (``UNIFIED_MODE``, a later UCX), nothing
        can be said about the peer's, and a warning is logged.

    Raises
    ------
    ProtocolError
        UCX must not see it.
    """
    try:
        own = list(_transports(mine))
    except ProtocolError:
        _log.warning("the worker addresses of this UCX are of an unknown form: not checked")
        return
    transports = list(_transports(address))
    if not transports:
        raise ProtocolError("its worker address names no transport")
    _check_mds(transports, own)
    for transport in transports:
        _check_transport(transport, own)


def tcp_interfaces(address: bytes) -> list[tuple[int, str, int]]:
    """Where a worker's UCX listens for TCP.

    Parameters
    ----------
    address : bytes
        Of the worker.

    Returns
    -------
    list of tuple
        Address family, host (empty for loopback, of which UCX gives no address) and port.

    Raises
    ------
    ProtocolError
        The address is of a form that is not known here.
    """
    interfaces = []
    for transport in _transports(address):
        if transport.name == _TCP:
            loopback, family, host = _tcp_device(transport)
            port = int.from_bytes(transport.address, "big")
            interfaces.append((family, "" if loopback else socket.inet_ntop(family, host), port))
    return interfaces


# ---- its form ----


def _transports(address: bytes) -> Iterator[_Transport]:
    reader = _Reader(address)
    version, flags = _header(reader)
    if flags & ~_HAS_NAME != _HAS_UUID:
        raise ProtocolError(f"its worker address has the flags {flags:#x}")
    reader.take(8)
    if flags & _HAS_NAME:
        reader.take(reader.byte())
    last, count = 0, 0
    while not last:
        md, empty = reader.extended(0x7F, version)
        length, flags = reader.extended(0x1F, version)
        last = flags & _LAST
        if empty:
            if version == 2 or flags != _LAST or length:
                raise ProtocolError("its worker address has a device without a transport")
            break
        if md >= _MAX_MDS:
            raise ProtocolError(f"its worker address has a memory domain {md}")
        if flags & _HAS_PATHS and not reader.byte():
            raise ProtocolError("its worker address has a device that no path leads to")
        if flags & _HAS_SYSTEM_DEVICE:
            reader.byte()
        device_address = reader.take(length)
        last_on_device = 0
        while not last_on_device:
            count += 1
            if count > _MAX_TRANSPORTS:
                raise ProtocolError(f"its worker address names over {_MAX_TRANSPORTS} transports")
            (name,) = struct.unpack("<H", reader.take(2))
            _check_attributes(reader, version)
            length, flags = reader.extended(0x3F, version)
            if flags & _HAS_ENDPOINT:
                raise ProtocolError("its worker address is one of an endpoint")
            last_on_device = flags & _LAST
            yield _Transport(name, md, device_address, reader.take(length))
    if len(reader.left):
        raise ProtocolError(f"its worker address goes on for {len(reader.left)} bytes")


def _header(reader: _Reader) -> tuple[int, int]:
    byte = reader.byte()
    if byte & 0xF == 0:
        return 1, byte >> 4
    if byte & 0xF == 1:
        return 2, reader.byte()
    raise ProtocolError(f"its worker address is of the unknown version {(byte & 0xF) + 1}")


def _check_attributes(reader: _Reader, version: int) -> None:
    """UCX asserts on the scores it computes of these."""
    if version == 2:
        _, bandwidth, _, _, segment, flags = struct.unpack("<BBBBHH", reader.take(8))
        if not bandwidth or (flags & _AM_SYNC and segment < _MIN_SEGMENT):
            raise ProtocolError("its worker address has a transport that moves nothing")
        return
    overhead, bandwidth, latency, _ = struct.unpack("<fffI", reader.take(16))
    for value, low, high in ((overhead, 0, 1), (bandwidth, 1, 1e15), (latency, 0, 10)):
        if not (math.isfinite(value) and low <= value <= high):
            raise ProtocolError(f"its worker address has a transport that claims {value}")


# ---- what it says ----


def _check_mds(transports: list[_Transport], own: list[_Transport]) -> None:
    """Transports that are of different memory domains here cannot share one there."""
    domains: dict[int, set[int]] = {}
    for transport in own:
        domains.setdefault(transport.name, set()).add(transport.md)
    seen: dict[int, set[int]] = {}
    for transport in transports:
        mine = domains.get(transport.name)
        if mine is not None and not seen.setdefault(transport.md, mine) & mine:
            raise ProtocolError("its worker address mixes up memory domains")


def _check_transport(transport: _Transport, own: list[_Transport]) -> None:
    mine = [one for one in own if one.name == transport.name]
    if not mine:
        return  # UCX passes it over
    if transport.name == _TCP:
        _check_tcp(transport)
    elif transport.name in (_POSIX, _SYSV, _CMA):
        if len(transport.device_address) not in (8, 16):
            raise ProtocolError("its worker address has a machine of an unknown form")
        # Elsewhere in UCX's eyes, then it looks no further.
        here = transport.device_address == mine[0].device_address
        {_POSIX: _check_posix, _SYSV: _check_sysv, _CMA: _check_cma}[transport.name](
            transport.address, mine[0].address, here
        )
    elif all(len(transport.address) != len(one.address) for one in mine):
        raise ProtocolError("its worker address has a transport's address of a wrong length")


def _check_tcp(transport: _Transport) -> None:
    loopback, _, host = _tcp_device(transport)
    if not loopback:
        ip = ipaddress.ip_address(host)
        if ip.is_loopback or ip.is_multicast or ip.is_unspecified:
            raise ProtocolError(f"its worker address has the TCP address {ip}")


def _tcp_device(transport: _Transport) -> tuple[bool, int, bytes]:
    """Whether it is loopback, its address family, and its IP address unless it is loopback."""
    device = transport.device_address
    if len(device) < 2 or len(transport.address) != 2 or transport.address == b"\0\0":
        raise ProtocolError("its worker address has a TCP address of a wrong length")
    loopback, family, host = device[0], device[1], device[2:]
    if loopback == 1:
        right = family in (socket.AF_INET, socket.AF_INET6) and len(host) in (8, 16)
    else:
        known = ((0, socket.AF_INET, 4), (0, socket.AF_INET6, 16))
        right = (loopback, family, len(host)) in known
    if not right:
        raise ProtocolError("its worker address has a TCP address of a wrong form")
    return bool(loopback), family, host


def _check_cma(address: bytes, mine: bytes, here: bool) -> None:
    pid = int.from_bytes(address[:4], "little")
    if len(address) != (8 if pid & _CMA_PID_NS else 4) or not pid & ~_CMA_PID_NS:
        raise ProtocolError("its worker address has a process of an unknown form")


def _check_sysv(address: bytes, mine: bytes, here: bool) -> None:
    if len(address) != 8:
        raise ProtocolError("its worker address has a shared memory segment of an unknown form")
    if here and (sizes := _sysv_sizes()) is not None:
        _check_size(sizes.get(_number(address)), sizes.get(_number(mine)))


def _check_posix(address: bytes, mine: bytes, here: bool) -> None:
    segment, directory = _number(address), address[8:]
    if segment & _POSIX_PROCFS:
        right = len(directory) == (4 if segment & _POSIX_PID_NS else 0)
    elif segment & _POSIX_SHM_OPEN:
        right = not directory
    else:  # a directory of the user's choice: the same on both sides, or UCX may open anything
        right = directory == mine[8:] and directory.endswith(b"\0")
    if not right or len(address) < 8:
        raise ProtocolError("its worker address has a shared memory segment of an unknown form")
    if here:
        _check_size(_posix_size(address), _posix_size(mine))


def _check_size(size: int | None, mine: int | None) -> None:
    """UCX maps as much as its own segment has, and touches it."""
    if size is None:
        return  # it cannot be opened, so UCX does not
    if mine is not None and not mine <= size <= 2 * mine:
        raise ProtocolError("its worker address has a shared memory segment of another size")


def _number(address: bytes) -> int:
    return int.from_bytes(address[:8], "little")


def _sysv_sizes() -> dict[int, int] | None:
    """Size of each System V shared memory segment, by its id."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return {int(line.split()[1]): int(line.split()[3]) for line in lines}
    return None


def _posix_size(address: bytes) -> int | None:
    """Size of the file behind a segment of UCX's; None if it cannot be opened.

    Raises
    ------
    ProtocolError
        It is a file of somebody else's.
    """
    segment = _number(address)
    number = segment & _POSIX_ID
    if segment & _POSIX_PROCFS:
        pid, descriptor = number & ((1 << _POSIX_PID_BITS) - 1), number >> _POSIX_PID_BITS
        path = Path(f"/proc/{pid}/fd/{descriptor}")
    else:
        shm = bool(segment & _POSIX_SHM_OPEN)
        directory = "/dev/shm" if shm else os.fsdecode(address[8:].rstrip(b"\0"))
        path = Path(f"{directory}/ucx_shm_posix_{number:x}")
    try:
        name = os.readlink(path) if segment & _POSIX_PROCFS else str(path)
        size = path.stat().st_size
    except OSError:
        return None
    if not _POSIX_FILE.fullmatch(name):
        raise ProtocolError("its worker address has a shared memory segment that is none")
    return size
