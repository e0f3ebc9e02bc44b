"""Processes that the benchmarks measure against: a peer of ours, and ucx_perftest."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


def perftest(test: str, size: int, iterations: int, transports: str) -> list[float]:
    """Run ``ucx_perftest`` against itself over the transports named, as in ``"sysv"``.

    Returns
    -------
    list of float
        The numbers of its last line: iterations, latency (median, average, overall; us),
        bandwidth (average, overall; MB/s), message rate (average, overall; 1/s).
    """
    program, environment = _ucx_perftest()
    environment["UCX_TLS"] = transports
    port = _free_port()
    common = [program, "-p", str(port), "-f"]
    with subprocess.Popen(
        common, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            _wait_for_listener(port, server)
            done = subprocess.run(
                [*common, "-t", test, "-s", str(size), "-n", str(iterations), "127.0.0.1"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        finally:
            if server.poll() is None:
                server.terminate()
    last = done.stdout.strip().splitlines()[-1]
    return [float(number) for number in re.findall(r"[\d.]+", last)]


def _ucx_perftest() -> tuple[str, dict[str, str]]:
    spec = importlib.util.find_spec("libucx")
    if spec is None or spec.origin is None:
        sys.exit("ucx_perftest comes with the wheel libucx: pip install 'ucxnb[cu13]'")
    root = Path(spec.origin).parent
    libraries = str(root / "lib")
    return str(root / "bin" / "ucx_perftest"), {**os.environ, "LD_LIBRARY_PATH": libraries}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_listener(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait without connecting: the first connection is the one that ucx_perftest serves."""
    wanted = f":{port:04X} "
    while server.poll() is None:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines():
                fields = line.split()
                if fields[1].endswith(wanted.strip()) and fields[3] == "0A":
                    return
    raise RuntimeError("ucx_perftest ended before it listened")
