"""What ``ucx_perftest``, UCX's own program, reaches on this machine: the limit."""

from __future__ import annotations

import contextlib
import csv
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingUcxError, UcxError
from ..ucx_programs import find_ucx_program

__all__ = ["PerftestResult", "run_perftest"]

_START_TIMEOUT = 10.0
_LOOK_UP = 0.1  # seconds between two looks at `should_stop`
_LISTENING = "0A"  # in the fourth column of /proc/net/tcp


@dataclass(frozen=True, slots=True)
class PerftestResult:
    """The last line that ``ucx_perftest`` prints.

    Attributes
    ----------
    iterations : int
        Messages, or round trips.
    percentile_us, average_us : float
        Latency, half a round trip where the test has one: the percentile asked for among the last
        2,048, and the mean of all.
    bandwidth : float
        Bytes a second one way, mean of all.
    message_rate : float
        Messages a second one way, mean of all.
    """

    iterations: int
    percentile_us: float
    average_us: float
    bandwidth: float
    message_rate: float


def run_perftest(
    test: str,
    nbytes: int,
    iterations: int,
    *,
    transports: Sequence[str] = (),
    percentile: float = 50.0,
    timeout: float = 60.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> PerftestResult | None:
    """Run ``ucx_perftest`` between two processes of this machine.

    Parameters
    ----------
    test : str
        As in its option ``-t``: ``"tag_lat"``, ``"tag_bw"``.
    nbytes : int
        Message size, bytes.
    iterations : int
        Messages; a tenth more to warm up.
    transports : sequence of str
        UCX's names of those it may use (``UCX_TLS``); all of them if empty.
    percentile : float
        Which of the latencies to give.
    timeout : float
        Seconds until both processes are ended.
    should_stop : callable
        Asked ten times a second; True ends both processes.

    Returns
    -------
    PerftestResult or None
        None if it was told to stop.

    Raises
    ------
    MissingUcxError
        There is no such program.
    UcxError
        It failed, with its own words; or did not end in time.
    """
    found = find_ucx_program("ucx_perftest")
    if found is None:
        raise MissingUcxError(
            "ucx_perftest is neither in the UCX wheel nor on PATH; it comes with "
            'pip install "ucxnb[cu13]"'
        )
    program, environment = found
    if transports:
        environment["UCX_TLS"] = ",".join(transports)
    with _server(program, environment) as port:
        what = ["-t", test, "-s", str(nbytes), "-n", str(iterations)]
        how = ["-w", str(max(1, iterations // 10)), "-R", str(percentile), "-v"]
        client = subprocess.Popen(
            [program, "-p", str(port), *what, *how, "127.0.0.1"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        end = time.monotonic() + timeout
        with client:
            try:
                while True:
                    try:
                        output, words = client.communicate(timeout=_LOOK_UP)
                        break
                    except subprocess.TimeoutExpired:
                        if should_stop():
                            return None
                        if time.monotonic() > end:
                            raise UcxError(
                                f"ucx_perftest -t {test} -s {nbytes} did not end in {timeout} s"
                            ) from None
            finally:
                client.kill()
    return _parse(output, output + words)


def _parse(output: str, words: str) -> PerftestResult:
    lines = output.strip().splitlines()
    names = next((i for i, line in enumerate(lines) if line.startswith("iterations,")), None)
    if names is None or names + 1 == len(lines):
        raise UcxError(f"ucx_perftest failed: {words.strip()[-1000:] or 'it said nothing'}")
    values = next(csv.reader(lines[-1:]))
    count, percentile, _, average, _, bandwidth, _, rate = map(float, values)
    return PerftestResult(int(count), percentile, average, bandwidth * 2**20, rate)


@contextlib.contextmanager
def _server(program: str, environment: dict[str, str]) -> Iterator[int]:
    """Run the side that waits; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [program, "-p", str(port)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_listener(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_for_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait without connecting: the first connection is the one that is served."""
    end = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(FileNotFoundError):
                for line in Path(table).read_text().splitlines():
                    fields = line.split()
                    if fields[1].endswith(f":{port:04X}") and fields[3] == _LISTENING:
                        return
        time.sleep(0.002)
    raise UcxError("ucx_perftest did not start to listen")
