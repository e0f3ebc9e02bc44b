"""Where UCX's own programs are: ``ucx_info``, ``ucx_perftest``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["ask_ucx_info", "find_ucx_program"]


def find_ucx_program(name: str) -> tuple[str, dict[str, str]] | None:
    """Find a program of the UCX wheel or, if there is none, of the system.

    Parameters
    ----------
    name : str
        Its file name.

    Returns
    -------
    tuple of (str, dict) or None
        Its path, and the environment to run it with; None if there is no such program.
    """
    environment = dict(os.environ)
    wheel = importlib.util.find_spec("libucx")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent
        if (folder / "bin" / name).is_file():
            libraries = str(folder / "lib")
            known = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = f"{libraries}:{known}" if known else libraries
            return str(folder / "bin" / name), environment
    system = shutil.which(name)
    return (system, environment) if system else None


def ask_ucx_info(*options: str, defaults: bool = False) -> str | None:
    """Run ``ucx_info``.

    Parameters
    ----------
    *options : str
        Its options.
    defaults : bool
        Whether it sees no ``UCX_*`` environment variables.

    Returns
    -------
    str or None
        What it printed; None if there is no such program or it fails.
    """
    found = find_ucx_program("ucx_info")
    if found is None:
        return None
    program, environment = found
    if defaults:
        environment = {k: v for k, v in environment.items() if not k.startswith("UCX_")}
    try:
        return subprocess.run(
            [program, *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
