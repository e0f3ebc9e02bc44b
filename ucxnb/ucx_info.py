"""What UCX's own program ``ucx_info`` tells: its version, how it was built, its transports."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

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
    found = _program()
    if found is None:
        return None
    program, libraries = found
    environment = dict(os.environ)
    if libraries is not None:
        known = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{libraries}:{known}" if known else str(libraries)
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


def _program() -> tuple[Path, Path | None] | None:
    """Return the path of ``ucx_info`` and of the libraries that it needs."""
    wheel = importlib.util.find_spec("libucx")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent
        if (folder / "bin" / "ucx_info").is_file():
            return folder / "bin" / "ucx_info", folder / "lib"
    system = shutil.which("ucx_info")
    return (Path(system), None) if system else None
