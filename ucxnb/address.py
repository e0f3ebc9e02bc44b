"""``host:port`` addresses: IPv4, IPv6 in brackets, names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .errors import AddressError
from .text import shown

__all__ = ["Address", "parse_address"]

_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_INTERFACE = re.compile(r"[!-~]{1,15}\Z")
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?\Z")


class Address(NamedTuple):
    """A host and a port; ``str()`` gives the text that `parse_address` takes."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str, *, default_host: str | None = None, any_port: bool = False) -> Address:
    """Split ``"host:port"``.

    Parameters
    ----------
    text : str
        ``"127.0.0.1:8080"``, ``"server.example.com:8080"``, ``"[::1]:8080"``.
    default_host : str, optional
        Used when the host is empty (``":8080"``); without it an empty host is an error.
    any_port : bool
        Whether port 0, "any free port", is allowed.

    Returns
    -------
    Address
        Names are not resolved here.

    Raises
    ------
    AddressError
        With what is wrong and an example of what is right.
    """
    if not isinstance(text, str):
        raise AddressError(
            f'an address is a text such as "127.0.0.1:8080", not {type(text).__name__}'
        )

    def wrong(why: str) -> AddressError:
        return AddressError(f'{shown(text)} is not an address: {why}; write it as "127.0.0.1:8080"')

    host, colon, port_text = text.strip().rpartition(":")
    if not colon:
        raise wrong("it has no port")
    if host.startswith("["):
        if not host.endswith("]"):
            raise wrong("the bracket is not closed")
        host = _ipv6(host[1:-1], wrong)
    elif ":" in host:
        raise wrong("an IPv6 host goes in brackets, as in [::1]:8080")
    elif not host:
        if default_host is None:
            raise wrong("it has no host")
        host = default_host
    elif not _NAME.match(host):
        raise wrong(f"{shown(host)} is no host name")
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
        raise wrong(f"the port {shown(port_text)} is no number from 1 to 65535")
    port = int(port_text)
    if port > 65535 or (port == 0 and not any_port):
        raise wrong(f"port {port} is not from {0 if any_port else 1} to 65535")
    return Address(host, port)


def _ipv6(host: str, wrong: Callable[[str], AddressError]) -> str:
    import ipaddress

    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise wrong(f"{shown(host)} is no IPv6 address") from None
    if address.scope_id is not None and not _INTERFACE.match(address.scope_id):
        raise wrong(f"{shown(address.scope_id)} is no network interface")
    return str(address)
