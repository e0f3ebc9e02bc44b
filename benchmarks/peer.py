"""Processes that the benchmarks measure against."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

MAX_LINE = 200


@contextlib.contextmanager
def python_peer(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python code in a process of its own; it ends with the block.

    The first line that it prints, an address say, is read already and kept as ``.address``.
    """
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line.startswith("["):  # UCX's log goes to standard output as well
            line = process.stdout.readline()
        process.address = line.strip()[:MAX_LINE]  # type: ignore[attr-defined]
        yield process
    finally:
        process.kill()
        process.communicate()
