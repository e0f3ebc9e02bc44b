"""Messages at a set rate, to see what a connection and its peer make of them."""

from __future__ import annotations

import math
import operator
import os
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from .errors import ArgumentError, OperationTimeoutError, UcxnbError
from .text import shown
from .timeouts import checked_timeout

if TYPE_CHECKING:
    from .request import Request
    from .worker import UcxWorker

__all__ = ["TrafficGenerator"]

_IN_FLIGHT = 64  # sends that may be under way at once
_LARGEST = 1 << 30
_SHORTEST_SLEEP = 1e-3  # more wake-ups would cost more than the messages
_MOST_LATE = 0.1  # what could not be sent for longer is not made up for
_SLICE = 0.05  # how long a stop may go unseen, seconds


class TrafficGenerator:
    """Send messages to one endpoint at a set rate, on a thread of its own, until stopped.

    Messages leave at the moments that the rate asks for, whether or not the peer keeps up, as long
    as no more than 64 are on their way. What is more than 0.1 s late is left out rather than sent
    in a burst: compare `rate` and `message_rate`. From a thousand messages a second on they leave
    in groups, each millisecond.

    Parameters
    ----------
    worker : UcxWorker
        Who sends. Closing the generator does not close it.
    endpoint_id : int
        Where to.
    tag : int
        The tag of all messages.
    size : int or (int, int)
        Bytes of a message, up to 1 GiB; or the smallest and largest, between which each
        message's size is drawn, its logarithm evenly. The bytes are random ones.
    rate : float, optional
        Messages a second; None sends as fast as the connection takes them.
    byte_rate : float, optional
        Bytes a second, instead of `rate`.
    count : int, optional
        How many messages; None sets no limit.
    duration : float, optional
        For how long, seconds; None until `stop`.

    Raises
    ------
    ArgumentError
        One of these is not as above; nothing was sent.
    EndpointError
        There is no such connection, or no longer; nothing was sent.
    TagRangeError, TagTypeError, ThreadModeError, WorkerClosedError
        As `UcxWorker.isend_tag`. An error that comes later ends the traffic, and `wait` and `error`
        have it.

    Examples
    --------
    >>> with EchoPeer() as peer, UcxWorker() as worker:
    ...     endpoint_id = worker.connect(peer.address)
    ...     with TrafficGenerator(worker, endpoint_id, rate=1000, count=500) as traffic:
    ...         traffic.wait()
    ...     traffic.messages
    500
    """

    def __init__(
        self,
        worker: UcxWorker,
        endpoint_id: int,
        *,
        tag: int = 1,
        size: int | tuple[int, int] = 64,
        rate: float | None = 1000.0,
        byte_rate: float | None = None,
        count: int | None = None,
        duration: float | None = None,
    ) -> None:
        self._worker = worker
        self._endpoint_id = endpoint_id
        self._tag = tag
        self._sizes = _checked_sizes(size)
        self._rate = _checked_rate("rate", rate)
        self._byte_rate = _checked_rate("byte_rate", byte_rate)
        if self._byte_rate is not None:
            self._rate = None
        self._count = math.inf if count is None else _checked_count(count)
        self._duration = checked_timeout(duration, "duration")
        self._bytes = memoryview(os.urandom(self._sizes[1]))
        self._random = random.Random()
        self._requests: deque[Request] = deque()
        self._error: UcxnbError | None = None
        self._messages = self._nbytes = 0
        self._stop = threading.Event()
        self._start = self._end = time.monotonic()
        if self._count:
            self._send(self._next_size())  # what is wrong with the call is raised here
        self._running = True
        self._thread = threading.Thread(target=self._run, name="ucxnb-traffic", daemon=True)
        self._thread.start()

    @property
    def rate(self) -> float | None:
        """Messages a second that were asked for, None without."""
        return self._rate

    @property
    def messages(self) -> int:
        """How many messages were given to UCX."""
        return self._messages

    @property
    def nbytes(self) -> int:
        """Their bytes."""
        return self._nbytes

    @property
    def in_flight(self) -> int:
        """How many of them may still be on their way."""
        return len(self._requests)

    @property
    def blocked(self) -> bool:
        """Whether as many as may be are on their way, and the next has to wait for the peer."""
        return len(self._requests) >= _IN_FLIGHT

    @property
    def seconds(self) -> float:
        """For how long it has sent."""
        return (time.monotonic() if self._running else self._end) - self._start

    @property
    def message_rate(self) -> float:
        """Messages a second, as achieved from the start."""
        return self._messages / self.seconds if self.seconds else 0.0

    @property
    def running(self) -> bool:
        """Whether it still sends."""
        return self._running

    @property
    def error(self) -> UcxnbError | None:
        """What ended it, None if nothing did or it was stopped."""
        return self._error

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all messages are sent.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits for ever, which is long without `count` and `duration`.

        Raises
        ------
        OperationTimeoutError
            It is still sending, and goes on.
        EndpointError
            The connection ended first.
        ArgumentError
            `timeout` is not as above.
        """
        self._thread.join(checked_timeout(timeout))
        if self._thread.is_alive():
            raise OperationTimeoutError(
                f"still sending after {timeout:g} s: {self._messages:,} messages so far; wait "
                "longer, or call stop()"
            )
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Send no more, and wait for the thread. Twice is fine.

        Messages that are on their way arrive when the peer receives them: UCX takes none back.
        """
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "failed" if self._error else "ended"
        return (
            f"<TrafficGenerator to endpoint {self._endpoint_id}, {state}, "
            f"{self._messages:,} messages>"
        )

    def _run(self) -> None:
        from .engine import mark_toolkit_thread

        mark_toolkit_thread()
        try:
            self._send_all()
            while self._requests and not self._stop.is_set():
                self._make_room(0)
        except UcxnbError as error:
            self._error = error
        except Exception as error:  # nobody would see it on this thread
            self._error = UcxnbError(f"{type(error).__name__}: {error}")
        finally:
            self._end = time.monotonic()
            self._running = False

    def _send_all(self) -> None:
        due = self._start
        end = math.inf if self._duration is None else self._start + self._duration
        size = self._nbytes  # of the first, which is sent
        while self._messages < self._count:
            due += self._cost(size)
            if not self._wait_until(due, end):
                return
            due = max(due, time.monotonic() - _MOST_LATE)
            self._make_room(_IN_FLIGHT - 1)
            if self._stop.is_set():
                return
            size = self._next_size()
            self._send(size)

    def _wait_until(self, due: float, end: float) -> bool:
        """Sleep until a message is due; return whether to send it."""
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= end:
                return False
            if now >= due:
                return True
            self._stop.wait(min(max(due - now, _SHORTEST_SLEEP), end - now))
        return False

    def _send(self, size: int) -> None:
        data = self._bytes[:size]
        self._requests.append(self._worker.isend_tag(self._endpoint_id, self._tag, data))
        self._messages += 1
        self._nbytes += size

    def _make_room(self, most: int) -> None:
        """Let go of the sends that ended, and wait until at most `most` are under way."""
        while self._requests and self._requests[0].done:
            self._requests.popleft().wait()
        while len(self._requests) > most and not self._stop.is_set():
            try:
                self._requests[0].wait(_SLICE)
            except OperationTimeoutError:
                continue
            self._requests.popleft()

    def _next_size(self) -> int:
        low, high = self._sizes
        if low == high:
            return low
        # Each doubling of the size is as likely as any other; 0 bytes counts as half a byte.
        exponent = self._random.uniform(math.log(max(low, 0.5)), math.log(high + 1))
        return min(high, max(low, int(math.exp(exponent))))

    def _cost(self, size: int) -> float:
        """Seconds until the next message is due."""
        if self._rate is not None:
            return 1.0 / self._rate
        return size / self._byte_rate if self._byte_rate is not None else 0.0


def _checked_sizes(size: int | tuple[int, int]) -> tuple[int, int]:
    try:
        low, high = size if isinstance(size, tuple) else (size, size)
        low, high = operator.index(low), operator.index(high)
    except (TypeError, ValueError):
        low, high = 1, 0
    if not 0 <= low <= high <= _LARGEST:
        raise ArgumentError(
            f"size={shown(size)}: it takes bytes, 0 to 1 GiB, or the smallest and the largest, as "
            "in (8, 4096)"
        )
    return low, high


def _checked_rate(name: str, rate: float | None) -> float | None:
    if rate is None:
        return None
    try:
        number = float(math.ldexp(rate, 0))  # float() would take texts as well
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number < math.inf:
        raise ArgumentError(f"{name}={shown(rate)}: it takes None or a number above 0, a second")
    return number


def _checked_count(count: int) -> int:
    try:
        number = operator.index(count)
    except TypeError:
        number = -1
    if number < 0:
        raise ArgumentError(f"count={shown(count)}: it takes None or a number of messages")
    return number
