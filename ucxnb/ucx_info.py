"""What UCX's own program ``ucx_info`` tells: its version, how it was built, its transports."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from .ucx_programs import find_ucx_program

__all__ = ["Transport", "UcxInfo", "read_ucx_info"]


@dataclass(frozen=True)
class Transport:
    """One transport on one device.

    Attributes
    ----------
    name : str
        As in ``UCX_TLS``: ``"posix"``, ``"tcp"``.
    device : str
        As in ``UCX_NET_DEVICES``: ``"memory"``, ``"eth0"``.
    """

    name: str
    device: str


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
    """

    version: str
    build: str
    transports: tuple[Transport, ...]

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
    found = find_ucx_program("ucx_info")
    if found is None:
        return None
    program, environment = found
    try:
        result = subprocess.run(
            [program, "-v", "-d"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_ucx_info(result.stdout)


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
    pairs = re.findall(r"Transport: *(\S+)\s*\n#\s*Device: *(\S+)", text)
    return UcxInfo(
        version[1] if version else "",
        build[1] if build else "",
        tuple(Transport(name, device) for name, device in pairs),
    )
