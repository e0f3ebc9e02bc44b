"""Two new processes with settings of their own, connected to each other, to be measured."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import errors
from ..bench.operations import OPERATIONS
from ..bench.protocol import LARGEST
from ..errors import ArgumentError, OperationTimeoutError, UcxnbError
from ..protocols import Explanation, ProtocolRange, explain_printed, read_graphs
from ..text import shown
from .settings import split_settings

__all__ = ["METRICS", "FreshPair", "StoppedError", "check_order"]

METRICS = ("latency", "bandwidth")
_SLICE = 0.1  # seconds between two looks at whether to stop
_PATIENCE = 60.0
_GOODBYE = 1.0
_OPERATIONS = {
    "tag": "tag_send",
    "tag sync": "tag_send_sync",
    "stream": "stream",
    "put": "put",
    "get": "get",
    "rndv send": "rndv_send",
    "rndv fetch": "rndv_recv",
}


class StoppedError(Exception):
    """Your `should_stop` said so: not an error, so none of ucxnb's errors."""


class FreshPair:
    """Two new processes on this machine, with a connection between them and settings of yours.

    What is measured disturbs none of your connections, and settings that a process reads only once
    take effect. They end with this process, however it ends. Not to be used by several threads at
    once.

    Parameters
    ----------
    settings : mapping of str to str
        UCX's settings of both, without ``UCX_``. They win over ``UCX_*`` environment variables.
    should_stop : callable, optional
        Asked many times a second; once it is True, whatever waits ends with a `StoppedError`.

    Attributes
    ----------
    explanation : Explanation
        What UCX chose between the two, with its estimates.

    Raises
    ------
    ArgumentError
        UCX has no such setting.
    ConfigError
        UCX refuses a value.
    MissingUcxError, UcxError, UcxnbError, OperationTimeoutError
        The two cannot be started, or not reach each other with these settings.

    Examples
    --------
    >>> with FreshPair({"TLS": "tcp,self"}) as pair:
    ...     pair.measure("tag", 4096)
    8.1e-06
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._begin(settings or {}, should_stop)
        self._finish()

    def _begin(self, settings: Mapping[str, str], should_stop: Callable[[], bool]) -> None:
        """Start a process, which starts the other one."""
        self._process: subprocess.Popen[bytes] | None = None
        self._should_stop = should_stop
        options, environment = split_settings(settings)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ucxnb-")))
            self._graphs = folder / "graphs"
            self._words = stack.enter_context(tempfile.TemporaryFile())
            ready, child_ready = os.pipe()
            self._pipe = stack.enter_context(open(ready, "rb", buffering=0))
            self._heard = b""
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "ucxnb.explorer.pair_child", str(child_ready)],
                    stdin=subprocess.PIPE,
                    stdout=self._words,
                    stderr=self._words,
                    pass_fds=[child_ready],
                    # Its tables would go to the standard output otherwise.
                    env=os.environ | environment | {"UCX_LOG_FILE": str(folder / "ucx-%p.txt")},
                )
            finally:
                os.close(child_ready)
            stack.callback(self._end)
            self._order({"ucx_options": options, "graphs": str(self._graphs)})
            self._stack = stack.pop_all()

    def _finish(self) -> None:
        """Wait until both are connected, and read what UCX chose."""
        try:
            told = self._answer()
        except BaseException:
            self.close()
            raise
        explanation = explain_printed(told["printed"], 1, "a new process", told["version"])
        self.explanation = _with_graphs(explanation, self._graphs)

    @classmethod
    @contextlib.contextmanager
    def together(
        cls, *several: Mapping[str, str], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[list[FreshPair]]:
        """Start several pairs at once, which is faster, and close them with the block.

        Parameters
        ----------
        *several : mapping of str to str
            Settings of each.
        should_stop : callable, optional
            As for the class.

        Yields
        ------
        list of FreshPair
            In that order.

        Raises
        ------
        ArgumentError, ConfigError, MissingUcxError, UcxError, UcxnbError, OperationTimeoutError
            As the class.
        """
        with contextlib.ExitStack() as stack:
            pairs = []
            for settings in several:
                pair = cls.__new__(cls)
                pair._begin(settings, should_stop)
                pairs.append(stack.enter_context(pair))
            for pair in pairs:
                pair._finish()
            yield pairs

    def measure(
        self, operation: str, nbytes: int, *, metric: str = "latency", seconds: float = 0.05
    ) -> float:
        """Measure one operation with one size.

        Parameters
        ----------
        operation : {"tag", "stream", "put", "get"}
            What is done. Put and get use memory that the peer registered.
        nbytes : int
            Size of each message, bytes, up to 1 GiB.
        metric : {"latency", "bandwidth"}
            The median time of one: half a round trip of tags and of the stream, until the peer's
            memory has changed of put, until the data is here of get. Or bytes a second of many
            at once.
        seconds : float
            For how long.

        Returns
        -------
        float
            Seconds, or bytes a second.

        Raises
        ------
        ArgumentError
            There is no such operation, metric or size.
        UcxnbError
            It could not be measured: the pair is of no use any more.
        """
        check_order(operation, nbytes, metric, seconds)
        self._order(
            {"operation": operation, "nbytes": nbytes, "metric": metric, "seconds": seconds}
        )
        return float(self._answer(seconds)["value"])

    def close(self) -> None:
        """End both processes. Closing again does nothing."""
        self._stack.close()

    def __enter__(self) -> FreshPair:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FreshPair, {'closed' if self._process is None else 'open'}>"

    def _order(self, order: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            raise UcxnbError("this pair is closed; make a new one")
        with contextlib.suppress(BrokenPipeError):  # `_answer` says why
            os.write(self._process.stdin.fileno(), json.dumps(order).encode() + b"\n")

    def _answer(self, seconds: float = 0.0) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE + 10 * seconds
        while b"\n" not in self._heard:
            if self._should_stop():
                raise StoppedError
            if time.monotonic() > deadline:
                raise OperationTimeoutError("two new processes did not answer in time")
            if select.select([self._pipe], [], [], _SLICE)[0]:
                piece = self._pipe.read(1 << 16)
                if not piece:
                    raise self._death()
                self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" not in answer:
            return answer
        kind = getattr(errors, answer["error"], UcxnbError)
        try:
            raise kind(answer["message"])
        except TypeError:  # an error that takes more than a message
            raise UcxnbError(answer["message"]) from None

    def _death(self) -> UcxnbError:
        assert self._process is not None
        code = self._process.wait()
        self._words.seek(0)
        said = self._words.read()[-10_000:].decode(errors="replace").strip() or "nothing"
        return UcxnbError(f"a new process ended with exit code {code}; it said:\n{said}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            process.kill()  # its partner notices
            process.wait()


def check_order(operation: object, nbytes: object, metric: object, seconds: object) -> None:
    """Raise an `ArgumentError` unless it can be measured."""
    if operation not in OPERATIONS:
        raise ArgumentError(f"operation={shown(operation)}: it takes {', '.join(OPERATIONS)}")
    if metric not in METRICS:
        raise ArgumentError(f"metric={shown(metric)}: it takes {', '.join(METRICS)}")
    if type(nbytes) is not int or not 1 <= nbytes <= LARGEST:
        raise ArgumentError(f"nbytes={shown(nbytes)}: it takes a size from 1 to {LARGEST:,}")
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= 3600:
        raise ArgumentError(f"seconds={shown(seconds)}: it takes a number up to 3600")


def _with_graphs(explanation: Explanation, folder: Path) -> Explanation:
    """Add what UCX wrote of its estimates to the rows they belong to."""
    graphs, unknown = read_graphs(folder)

    def with_estimates(row: ProtocolRange) -> ProtocolRange:
        way = "into" if row.operation in ("get", "rndv fetch") else "from"
        name = f"{_OPERATIONS.get(row.operation, '')}_{way}_{row.memory}_memory"
        if row.far_memory:
            name += f"_{'from' if way == 'into' else 'to'}_{row.far_memory}"
        if row.variant:
            return row
        estimates = sorted(
            (
                estimate
                for protocol, lane, estimate in graphs.get(name, ())
                if row.holds(estimate.first) and (protocol, lane) == (row.protocol, row.lane)
            ),
            key=lambda estimate: estimate.first,
        )
        return replace(row, estimates=tuple(estimates))

    return replace(
        explanation,
        ranges=tuple(map(with_estimates, explanation.ranges)),
        unknown=(*explanation.unknown, *unknown),
    )
