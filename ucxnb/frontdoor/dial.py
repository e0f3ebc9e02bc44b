"""Reaching a host: name lookup and TCP connect, both with a deadline."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from ..address import Address
from ..errors import ConnectRefusedError, ConnectTimeoutError, UnreachableError

__all__ = ["dial", "resolve"]


def resolve(address: Address, timeout: float | None) -> list[Any]:
    """Look a host up.

    Parameters
    ----------
    address : Address
        Host and port.
    timeout : float or None
        Seconds.

    Returns
    -------
    list
        As `socket.getaddrinfo` gives it.

    Raises
    ------
    UnreachableError
        The name does not resolve.
    ConnectTimeoutError
        The name service does not answer in time.
    """
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return _look_up(address, timeout)
    try:
        return socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError as error:  # with a network interface that is not there
        raise UnreachableError(f"{address}: {error.strerror}; check address and network") from None


def _look_up(address: Address, timeout: float | None) -> list[Any]:
    answer: Future[list[Any]] = Future()

    def look_up() -> None:
        try:
            answer.set_result(socket.getaddrinfo(*address, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.set_exception(error)

    # getaddrinfo has no timeout, so a thread of its own waits for it.
    threading.Thread(target=look_up, name="ucxnb-resolve", daemon=True).start()
    try:
        return answer.result(timeout)
    except FutureTimeoutError:
        raise ConnectTimeoutError(
            f"{address}: the name service did not answer in {timeout:g} s; try the IP address"
        ) from None
    except (OSError, UnicodeError) as error:
        raise UnreachableError(
            f"{address}: the name {address.host!r} does not resolve ({error}); check its spelling, "
            "or use the IP address"
        ) from None


def dial(address: Address, timeout: float | None) -> socket.socket:
    """Open a TCP connection.

    Parameters
    ----------
    address : Address
        Where to.
    timeout : float or None
        Seconds for lookup and all the addresses of the name together.

    Returns
    -------
    socket.socket
        Non-blocking; the caller's to close.

    Raises
    ------
    ConnectRefusedError, UnreachableError, ConnectTimeoutError
        What each says.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    error: Exception = UnreachableError(f"{address}: the name has no address")
    for family, kind, protocol, _, target in resolve(address, timeout):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise ConnectTimeoutError(f"{address}: no answer in {timeout:g} s")
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as problem:
            error = _explain(address, problem, timeout)
            continue
        try:
            sock.settimeout(left)
            sock.connect(target)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as problem:
            sock.close()
            error = _explain(address, problem, timeout)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error


def _explain(address: Address, problem: OSError, timeout: float | None) -> Exception:
    if isinstance(problem, TimeoutError):
        limit = "" if timeout is None else f" in {timeout:g} s"
        return ConnectTimeoutError(
            f"{address}: no answer{limit}; check the address, and that no firewall is between"
        )
    if problem.errno == errno.ECONNREFUSED:
        return ConnectRefusedError(
            f"{address}: nothing listens there; start the listener first, and check the port"
        )
    return UnreachableError(f"{address}: {problem.strerror or problem}; check address and network")
