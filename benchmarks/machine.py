"""What figures were measured on: no figure means much without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import ucxnb
from ucxnb.binding import ucx_versions


def machine() -> dict[str, str | int | float]:
    """Processor, cores, load, kernel and versions; nothing that names the machine itself."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    ucx, ucxx = ucx_versions()
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        # To be read before measuring: what others did with the cores.
        "load_average": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ucxnb": ucxnb.__version__,
        "ucx": ucx,
        "ucxx": ucxx,
    }
