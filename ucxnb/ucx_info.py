"""What UCX's own program ``ucx_info`` tells: its version, how it was built, its transports."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .ucx_programs import ask_ucx_info

__all__ = ["MemoryDomain", "Transport", "UcxInfo", "read_ucx_info"]

_BANDWIDTH = re.compile(r"bandwidth: ([\d.]+)(?:/ppn)? \+ ([\d.]+) MB/sec")
_NANOSECONDS = re.compile(r"(latency|overhead): (\d+) nsec")


@dataclass(frozen=True)
class Transport:
    """One transport on one device.

    Attributes
    ----------
    name : str
        As in ``UCX_TLS``: ``"posix"``, ``"tcp"``.
    device : str
        As in ``UCX_NET_DEVICES``: ``"memory"``, ``"eth0"``.
    bandwidth : float
        What UCX takes it for when it chooses, bytes a second; 0 if it did not say.
    latency : float
        The same of the time a message is on its way, with what each side does; seconds.
    """

    name: str
    device: str
    bandwidth: float = 0.0
    latency: float = 0.0


@dataclass(frozen=True)
class MemoryDomain:
    """What a transport can do with memory.

    Attributes
    ----------
    name : str
        As UCX calls it.
    memory_types : str
        Kinds of memory, each with what can be done, as in ``"host (access,reg,cache)"``; empty if
        it needs to know nothing of memory.
    """

    name: str
    memory_types: str


@dataclass(frozen=True)
class UcxInfo:
    """What ``ucx_info`` found.

    Attributes
    ----------
    version : str
        Of that UCX.
    build : str
        The options it was built with.
    transports : tuple of Transport
        Those that it could open on this machine.
    memory_domains : tuple of MemoryDomain
        The same of memory domains.
    failed : tuple of str
        What it could not open, in its words.
    """

    version: str
    build: str
    transports: tuple[Transport, ...]
    memory_domains: tuple[MemoryDomain, ...] = ()
    failed: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Whether a transport can be opened here.

        Parameters
        ----------
        name : str
            As in ``UCX_TLS``.

        Returns
        -------
        bool
        """
        return any(transport.name == name for transport in self.transports)


def read_ucx_info() -> UcxInfo | None:
    """Run ``ucx_info`` of the UCX wheel or, if there is none, of the system.

    Returns
    -------
    UcxInfo or None
        None if there is no such program or it fails.
    """
    text = ask_ucx_info("-v", "-d")
    return None if text is None else parse_ucx_info(text)


def parse_ucx_info(text: str) -> UcxInfo:
    """Read what ``ucx_info -v -d`` printed.

    Parameters
    ----------
    text : str
        Its standard output.

    Returns
    -------
    UcxInfo
    """
    version = re.search(r"Library version: *(\S+)", text)
    build = re.search(r"Configured with: *(.*)", text)
    transports, domains = [], []
    for piece in re.split(r"\n# *Memory domain: *", text)[1:]:
        kinds = re.search(r"memory types: *(.*)", piece)
        domains.append(MemoryDomain(piece.split()[0], kinds[1].strip() if kinds else ""))
    for piece in re.split(r"\n# *Transport: *", text)[1:]:
        device = re.search(r"Device: *(\S+)", piece)
        rate = _BANDWIDTH.search(piece)
        times = {name: int(value) * 1e-9 for name, value in _NANOSECONDS.findall(piece)}
        transports.append(
            Transport(
                piece.split()[0],
                device[1] if device else "",
                max(map(float, rate.groups())) * 2**20 if rate else 0.0,
                times.get("latency", 0.0) + 2 * times.get("overhead", 0.0),
            )
        )
    return UcxInfo(
        version[1] if version else "",
        build[1] if build else "",
        tuple(transports),
        tuple(domains),
        tuple(re.findall(r"< *(failed to open .*?) *>", text)),
    )
