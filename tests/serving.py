"""``ucxnb serve`` in a process of its own."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def echo_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start one; gives its address and process, and ends it with the block."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ucxnb", "serve", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.match(r"Listening on (\S+);", process.stdout.readline())
        assert found
        yield found[1], process
    finally:
        process.kill()
        process.communicate()
