"""A listening socket of a worker."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING

from ..address import Address
from ..auth_key import SET_KEY
from ..errors import AddressInUseError, UnreachableError
from .dial import resolve

if TYPE_CHECKING:
    from ..engine import UcpListener
    from .door import FrontDoor

__all__ = ["Listener", "UcxListener", "UcxListenerWarning", "UnprotectedListenerWarning", "bind"]

_BACKLOG = 512
RESOLVE_TIMEOUT = 10.0


def bind(address: Address) -> socket.socket:
    """Open a non-blocking listening socket.

    Raises
    ------
    AddressInUseError
        The port is taken, needs rights you lack, or the address is not of this machine.
    UnreachableError, ConnectTimeoutError
        The host name does not resolve.
    """
    family, kind, protocol, _, target = resolve(address, RESOLVE_TIMEOUT)[0]
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UnreachableError(f"cannot listen on {address}: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        hints = {
            errno.EADDRINUSE: "choose another port, or port 0 for any free one",
            errno.EADDRNOTAVAIL: "choose an address of this machine",
            errno.EACCES: "choose a port from 1024 up",
        }
        hint = hints.get(error.errno or 0)
        if hint is None:
            raise UnreachableError(f"cannot listen on {address}: {error.strerror}") from None
        reason = os.strerror(error.errno or 0).lower()
        raise AddressInUseError(f"cannot listen on {address}: {reason}; {hint}") from None
    return sock


class UnprotectedListenerWarning(UserWarning):
    """Other machines can reach a listener, and its worker has no key."""


class UcxListenerWarning(UserWarning):
    """A listener of UCX's own was opened: strangers who reach it can stop this process."""


class Listener:
    """Accepts peers in the background; each appears in `UcxWorker.get_endpoint_ids`.

    Made by `UcxWorker.create_listener`. A context manager; closing it twice is fine, and leaves
    the connections that it brought as they are.
    """

    def __init__(self, door: FrontDoor, sock: socket.socket) -> None:
        self._door = door
        self._socket = sock
        name = sock.getsockname()
        self._address = Address(name[0], name[1])

    @property
    def address(self) -> str:
        """``host:port`` as really bound."""
        return str(self._address)

    @property
    def host(self) -> str:
        """Host as really bound."""
        return self._address.host

    @property
    def port(self) -> int:
        """Port as really bound, also if 0 was asked for."""
        return self._address.port

    @property
    def warning(self) -> str:
        """What to do if other machines can reach it and no key is asked for; else empty."""
        if self._door.key is not None or _is_loopback(self.host):
            return ""
        return f"whoever reaches {self.address} may connect, for there is no key: {SET_KEY}"

    @property
    def closed(self) -> bool:
        """Whether it has stopped accepting."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Stop accepting, and free the port."""
        self._door.close_listener(self)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Listener {self.address}{' closed' if self.closed else ''}>"


class UcxListener(Listener):
    """A `Listener` that speaks UCX's own client-server wire-up.

    Parameters
    ----------
    door : FrontDoor
        Whose listener it is.
    ucp : UcpListener
        What UCX opened.
    address : Address
        As really bound.
    """

    def __init__(self, door: FrontDoor, ucp: UcpListener, address: Address) -> None:
        self._door = door
        self._ucp: UcpListener | None = ucp
        self._address = address

    @property
    def warning(self) -> str:
        """What strangers can do to it."""
        return (
            f"{self.address} is a listener of UCX's own, which has no authentication, and which a "
            "few bytes of junk can stop with the whole process: use it on trusted networks only"
        )

    @property
    def closed(self) -> bool:
        """Whether it has stopped accepting."""
        return self._ucp is None


def _is_loopback(host: str) -> bool:
    ip = ipaddress.ip_address(host)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
