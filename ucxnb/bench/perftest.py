"""Run ``ucx_perftest``, UCX's own program, between two processes of this machine."""

from __future__ import annotations

import contextlib
import csv
import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingUcxError, UcxError
from ..ucx_programs import find_ucx_program

__all__ = ["Perftest", "PerftestResult", "run_perftest", "run_perftests"]

_START_TIMEOUT = 10.0
_LISTENING = "0A"  # in the fourth column of /proc/net/tcp
_LOOK_UP = 0.1  # seconds between two looks at `should_stop`


@dataclass(frozen=True, slots=True)
class Perftest:
    """What to run.

    Attributes
    ----------
    kind : str
        As in the program's option ``-t``: ``"tag_lat"``, ``"tag_bw"``.
    nbytes : int
        Message size, bytes.
    iterations : int
        Messages, or round trips; a tenth more to warm up.
    """

    kind: str
    nbytes: int
    iterations: int


@dataclass(frozen=True, slots=True)
class PerftestResult:
    """The last line that ``ucx_perftest`` prints for a test.

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


def run_perftests(
    tests: Sequence[Perftest],
    *,
    transports: Sequence[str] = (),
    percentile: float = 50.0,
    timeout: float = 60.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[PerftestResult, None, None]:
    """Run tests one after the other, in one pair of processes.

    Parameters
    ----------
    tests : sequence of Perftest
        What to run.
    transports : sequence of str
        UCX's names of those it may use (``UCX_TLS``); all of them if empty.
    percentile : float
        Which of the latencies to give.
    timeout : float
        Seconds that one test may take.
    should_stop : callable
        Asked ten times a second; True ends both processes, and the iteration.

    Yields
    ------
    PerftestResult
        One for each test, as it is done.

    Raises
    ------
    MissingUcxError
        There is no such program.
    UcxError
        It failed, with its own words; or a test did not end in time.
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
    with tempfile.NamedTemporaryFile("w", prefix="ucxnb-", suffix=".txt") as batch:
        for number, test in enumerate(tests):
            warm_up = max(1, test.iterations // 10)
            what = f"-t {test.kind} -s {test.nbytes} -n {test.iterations} -w {warm_up}"
            batch.write(f"test{number} {what}\n")
        batch.flush()
        with _server(program, environment, batch.name) as port:
            how = ["-p", str(port), "-b", batch.name, "-R", str(percentile), "-v"]
            command = [program, *how, "127.0.0.1"]
            with _started(command, environment) as client:
                for number, test in enumerate(tests):
                    line = _wait_for(client, f"test{number}", test, timeout, should_stop)
                    if line is None:
                        return
                    yield line


def run_perftest(
    test: str,
    nbytes: int,
    iterations: int,
    *,
    transports: Sequence[str] = (),
    percentile: float = 50.0,
    timeout: float = 60.0,
) -> PerftestResult:
    """Run one test in a pair of processes of its own.

    Parameters
    ----------
    test, nbytes, iterations
        As in `Perftest`.
    transports, percentile, timeout
        As in `run_perftests`.

    Returns
    -------
    PerftestResult

    Raises
    ------
    MissingUcxError, UcxError
        As `run_perftests`.
    """
    (result,) = run_perftests(
        [Perftest(test, nbytes, iterations)],
        transports=transports,
        percentile=percentile,
        timeout=timeout,
    )
    return result


def _wait_for(
    client: _Client,
    name: str,
    test: Perftest,
    timeout: float,
    should_stop: Callable[[], bool],
) -> PerftestResult | None:
    end = time.monotonic() + timeout
    while not should_stop():
        line = client.next_line(_LOOK_UP)
        if line == "":
            raise UcxError(f"ucx_perftest failed: {client.words() or 'it said nothing'}")
        if line is not None:
            first, *values = next(csv.reader([line]))
            # Each second it also prints how far it is, with the number of a thread.
            if first == name and values[0].strip().isdecimal():
                count, percentile, _, average, _, bandwidth, _, rate = map(float, values)
                return PerftestResult(int(count), percentile, average, bandwidth * 2**20, rate)
        if time.monotonic() > end:
            raise UcxError(
                f"ucx_perftest -t {test.kind} -s {test.nbytes} did not end in {timeout:g} s"
            )
    return None


class _Client:
    """The side that prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._read = b""
        self._said: list[str] = []

    def next_line(self, timeout: float) -> str | None:
        """Return a line, None if none came in time, "" at the end."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._read:
            if not select.select([pipe], [], [], timeout)[0]:
                return None
            piece = os.read(pipe, 65536)
            if not piece:
                return ""
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        text = line.decode(errors="replace")
        self._said.append(text)
        return f"{text}\n"

    def words(self) -> str:
        """What it said, the end of it."""
        return "\n".join(self._said).strip()[-1000:]


@contextlib.contextmanager
def _started(command: Sequence[str], environment: dict[str, str]) -> Iterator[_Client]:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        try:
            yield _Client(process)
        finally:
            process.kill()


@contextlib.contextmanager
def _server(program: str, environment: dict[str, str], batch: str) -> Iterator[int]:
    """Run the side that waits; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [program, "-p", str(port), "-b", batch],
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
