"""A measurement of one connection, size by size, which can be watched and stopped."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..endpoint_info import EndpointInfo
from ..errors import ArgumentError, MissingUcxError, UcxError, UnknownEndpointError
from ..text import shown
from ..worker import UcxWorker
from .latency import time_round_trips
from .limit import Limit, measure_limits, why_no_limit
from .protocol import LARGEST
from .row import BenchRow
from .run import BenchRun
from .session import Session, StoppedError
from .sizes import DEFAULT_SIZES
from .stream import time_stream

__all__ = ["Measurement", "Progress"]

_WARM_UP = 0.01  # seconds
_ECHO_ONLY = "the peer only echoes: latency, and no bandwidth"
_FIRST_GUESS = {"latency": 0.35, "stream": 0.4, "limit": 0.5}  # seconds, the first two for 0.3


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a measurement is.

    Attributes
    ----------
    fraction : float
        Of the whole, 0 to 1.
    seconds_left : float
        An estimate.
    doing : str
        What it does now, in words.
    """

    fraction: float
    seconds_left: float
    doing: str


class Measurement:
    """Measure a connection: iterate over it, and get a `BenchRow` for each size as it is done.

    First what ``ucx_perftest`` reaches over the same transports, with all sizes; then, for each
    size, half round trips, and messages one way as fast as they go. One thread iterates; any
    thread may look at the attributes.

    Parameters
    ----------
    worker : UcxWorker
        It must have nobody else receive from that endpoint meanwhile.
    endpoint_id : int
        A peer that takes part (`BenchPartner`, ``ucxnb bench --serve``) or only echoes
        (`EchoPeer`, ``ucxnb serve``): then there is no message rate.
    sizes : sequence of int
        Message sizes, bytes, up to 1 GiB.
    seconds : float
        How long each of the two tests of a size takes; large messages take longer.
    limit : bool
        Whether to run ``ucx_perftest`` as well; it is left out for a peer on another machine.
    should_stop : callable, optional
        Asked many times a second; once it is True the iteration ends.

    Attributes
    ----------
    run : BenchRun
        What has been measured up to now.
    stopped : bool
        Whether the iteration ended because it was told to.

    Raises
    ------
    ArgumentError
        A size or `seconds` is impossible.
    UnknownEndpointError
        There is no such connection. Iterating raises the errors of `UcxWorker.send_tag` and
        `UcxWorker.receive_tag`, an `OperationTimeoutError` for a peer that answers nothing and a
        `UcxnbError` for one that answers something else; rows that came before stay in `run`.
    """

    def __init__(
        self,
        worker: UcxWorker,
        endpoint_id: int,
        sizes: Sequence[int] = DEFAULT_SIZES,
        *,
        seconds: float = 0.3,
        limit: bool = True,
        should_stop: Callable[[], bool] = lambda: False,
        name: str = "benchmark",
    ) -> None:
        if not isinstance(sizes, Sequence) or isinstance(sizes, str):
            raise ArgumentError(f"sizes={shown(sizes)}: it takes a sequence of numbers of bytes")
        for nbytes in sizes:
            if type(nbytes) is not int or not 0 <= nbytes <= LARGEST:
                raise ArgumentError(
                    f"sizes: {shown(nbytes)} is no number of bytes up to {LARGEST:,}"
                )
        if not isinstance(seconds, (int, float)) or not 0 < seconds <= 3600:
            raise ArgumentError(f"seconds={shown(seconds)}: it takes a number up to 3600")
        self._worker = worker
        self._endpoint_id = endpoint_id
        self._sizes = tuple(sizes)
        self._seconds = seconds
        self._limit = limit
        self._should_stop = should_stop
        info = self._info()
        self.run = BenchRun(
            name,
            peer=info.peer_name or info.peer_address,
            transports=info.transports,
            machine=f"{platform.node()}, {platform.machine()}",
        )
        self.stopped = False
        self._plan: list[tuple[str, int]] = []
        self._step_began = self._began = time.monotonic()
        self._took = {
            kind: guess if kind == "limit" else guess * seconds / 0.3
            for kind, guess in _FIRST_GUESS.items()
        }

    @property
    def progress(self) -> Progress:
        """How far it is."""
        plan, now = list(self._plan), time.monotonic()
        if not plan:
            return Progress(1.0 if self.run.rows else 0.0, 0.0, "")
        left = sum(self._took[kind] for kind, _ in plan) - (now - self._step_began)
        rest = sum(self._took[kind] for kind, _ in plan[1:])
        left = max(left, rest, 0.1)
        elapsed = now - self._began
        kind, nbytes = plan[0]
        return Progress(elapsed / (elapsed + left), left, f"{kind} of {nbytes:,} bytes")

    def __iter__(self) -> Iterator[BenchRow]:
        try:
            yield from self._measure()
        except StoppedError:
            self.stopped = True
        finally:
            self._plan = []

    def _measure(self) -> Iterator[BenchRow]:
        session = Session(self._worker, self._endpoint_id, self._should_stop)
        why = why_no_limit(self._info()) if self._limit else ""
        with_limit = self._limit and not why
        if not session.has_partner:
            why = "; ".join(filter(None, [_ECHO_ONLY, why]))
        self.run = replace(self.run, note=why)
        kinds = ["latency", *["stream"] * session.has_partner]
        steps = [("limit", nbytes) for nbytes in self._sizes if nbytes and with_limit]
        self._began = self._step_began = time.monotonic()
        self._plan = steps + [(kind, nbytes) for nbytes in self._sizes for kind in kinds]
        # Before the first messages UCX tells of the transport that the peers met on.
        time_round_trips(session, 8, _WARM_UP)
        self.run = replace(self.run, transports=self._info().transports)
        limits = self._measure_limits([nbytes for _, nbytes in steps])
        for nbytes in self._sizes:
            latency = time_round_trips(session, nbytes, self._seconds)
            row = BenchRow(nbytes, latency.rounds, latency.p50_us, latency.p99_us, latency.p999_us)
            self._step_done()
            if session.has_partner:
                row = replace(row, message_rate=time_stream(session, nbytes, self._seconds))
                self._step_done()
            if nbytes in limits:
                limit = limits[nbytes]
                row = replace(row, limit_us=limit.p50_us, limit_rate=limit.message_rate)
            self.run = replace(self.run.with_row(row), transports=self._info().transports)
            yield row

    def _measure_limits(self, sizes: Sequence[int]) -> dict[int, Limit]:
        limits: dict[int, Limit] = {}
        if not sizes:
            return limits
        try:
            for limit in measure_limits(sizes, self.run.transports, self._should_stop):
                limits[sizes[len(limits)]] = limit
                self._step_done()
        except (MissingUcxError, UcxError) as error:
            # The figures of the connection itself will be good.
            size = sizes[len(limits)]
            self.run = replace(self.run, note=f"no limit from {size:,} bytes on: {error!s:.200}")
            self._plan = [step for step in self._plan if step[0] != "limit"]
        return limits

    def _step_done(self) -> None:
        now = time.monotonic()
        if self._plan:
            kind = self._plan[0][0]
            self._took[kind] = (self._took[kind] + now - self._step_began) / 2
            self._plan = self._plan[1:]
        self._step_began = now

    def _info(self) -> EndpointInfo:
        for info in self._worker.endpoints(ended=True):
            if info.endpoint_id == self._endpoint_id:
                return info
        raise UnknownEndpointError(f"there is no endpoint {shown(self._endpoint_id)}")
