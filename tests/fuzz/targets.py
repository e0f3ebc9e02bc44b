"""What the fuzzer drives: a function of bytes for each parser that strangers reach.

Only the typed errors of a parser may be raised; a target raises nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ucxnb import UcxnbError, WorkerConfig
from ucxnb.address import parse_address
from ucxnb.binding import UcpWorker
from ucxnb.errors import AddressError
from ucxnb.frontdoor.handshake import Handshake, Introduction
from ucxnb.frontdoor.protocol import FrameDecoder, ProtocolError, encode_frame
from ucxnb.frontdoor.ucx_ports import hosts_of
from ucxnb.frontdoor.worker_address import check_worker_address

__all__ = ["TARGETS"]

_LISTENING, _CONNECTING = 0, 1


class Target(NamedTuple):
    """What to call with each input, and inputs to begin with."""

    run: Callable[[bytes], None]
    corpus: Callable[[], list[bytes]]


@functools.cache
def _real_addresses() -> tuple[bytes, ...]:
    """The first is taken for this side's."""
    addresses = []
    for options in (
        {"NET_DEVICES": "lo"},
        {"TLS": "tcp"},
        {"TLS": "shm"},
        {"ADDRESS_VERSION": "v2"},
        {"TLS": "posix", "POSIX_USE_PROC_LINK": "n", "ADDRESS_DEBUG_INFO": "y"},
    ):
        worker = UcpWorker(WorkerConfig(ucx_options=options))
        addresses.append(worker.address)
        worker.close()
    return tuple(addresses)


def _side(connecting: bool, address: bytes) -> Handshake:
    return Handshake(
        Introduction("näme", "endpoint", ("tag",), address),
        lambda: (7, None),
        connecting=connecting,
    )


def handshake(data: bytes) -> None:
    """One side of a handshake: a byte that says which, one for the size of pieces, and these."""
    if len(data) < 2:
        return
    mine = _real_addresses()[0]
    side = _side(data[0] % 2 == _CONNECTING, mine)
    side.begin()
    decoder = FrameDecoder()
    size = data[1] or 1 << 16
    try:
        for at in range(2, len(data), size):
            for frame in decoder.feed(data[at : at + size]):
                for reply in side.receive(frame):
                    encode_frame(reply)
                if side.done:
                    return
    except (ProtocolError, UcxnbError):
        return


def worker_address(data: bytes) -> None:
    """A worker address that a peer sent."""
    try:
        check_worker_address(data, _real_addresses()[0])
    except ProtocolError:
        hosts_of(data)
        return
    hosts_of(data)


def address(data: bytes) -> None:
    """What a user gives as ``host:port``."""
    text = data.decode("utf-8", "surrogateescape")
    for options in ({}, {"default_host": "127.0.0.1", "any_port": True}):
        try:
            parsed = parse_address(text, **options)
        except AddressError:
            continue
        assert parse_address(str(parsed), any_port=True) == parsed


def _handshakes() -> list[bytes]:
    """What each side hears in a handshake that succeeds, in pieces of two sizes."""
    heard = []
    for theirs in _real_addresses():
        sides = [_side(False, _real_addresses()[0]), _side(True, theirs)]
        said = [b"", b""]
        waiting = [[], sides[_CONNECTING].begin()]
        while any(waiting):
            speaker = 0 if waiting[0] else 1
            frame = waiting[speaker].pop(0)
            said[speaker] += encode_frame(frame)
            waiting[1 - speaker] += sides[1 - speaker].receive(frame)
        assert all(side.done for side in sides)
        for listener in (_LISTENING, _CONNECTING):
            heard += [bytes([listener, size]) + said[1 - listener] for size in (0, 7)]
    return heard


def _addresses() -> Iterator[str]:
    yield from ("127.0.0.1:8080", "server.example.com:8080", "[::1]:8080", "[fe80::1%eth0]:1")
    yield from (":0", "[", "a:b:1", "xn--nxasmq6b.example.:65535", "_a-b.c:9", "1.2.3.4:99999")


TARGETS = {
    "handshake": Target(handshake, _handshakes),
    "worker_address": Target(worker_address, lambda: list(_real_addresses())),
    "address": Target(address, lambda: [text.encode() for text in _addresses()]),
}
