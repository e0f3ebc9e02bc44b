"""Half round trips of messages of one size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BufferTooSmallError, OperationTimeoutError
from .protocol import SLICE, patience_for
from .session import Session

__all__ = ["Latency", "repeat_rounds", "time_round_trips"]

_LEAST, _MOST = 5, 500_000  # round trips
_AT_ONCE = 0.05  # seconds of round trips between two looks at the clock
_MOST_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Latency:
    """Half round trips.

    Attributes
    ----------
    rounds : int
        How many there were.
    p50_us, p99_us, p999_us : float
        Half a round trip, microseconds: what 50 %, 99 % and 99.9 % of them stayed below.
    """

    rounds: int
    p50_us: float
    p99_us: float
    p999_us: float


def time_round_trips(session: Session, nbytes: int, seconds: float) -> Latency:
    """Send messages there and back, one at a time.

    Parameters
    ----------
    session : Session
        With a partner or an echo.
    nbytes : int
        Size of each message, bytes.
    seconds : float
        For how long.

    Returns
    -------
    Latency

    Raises
    ------
    UcxnbError, StoppedError
        As `Session`.
    """
    data, answer = bytearray(b"u") * nbytes, bytearray(nbytes)

    def rounds(count: int) -> list[int]:
        if session.has_partner:
            session.ask("echo", nbytes, count)
        return _go_there_and_back(session, data, answer, count)

    return repeat_rounds(session, rounds, seconds, 2)


def repeat_rounds(
    session: Session, rounds: Callable[[int], list[int]], seconds: float, ways: int
) -> Latency:
    """Do rounds for a while, and sum them up.

    Parameters
    ----------
    session : Session
        It says when to stop.
    rounds : callable
        Does as many as it is told and returns how long each took, nanoseconds.
    seconds : float
        For how long, after those that warm up.
    ways : int
        How many messages a round takes one after the other.

    Returns
    -------
    Latency
        Of one way.
    """
    times: list[int] = []
    end, count = 0.0, 1
    while True:
        session.check()
        began = time.perf_counter()
        new = rounds(count)
        now = time.perf_counter()
        if end:
            times += new
        else:
            end = now + seconds  # the first one warmed up
        if len(times) >= _MOST or (len(times) >= _LEAST and now >= end):
            break
        count = max(1, min(_MOST_AT_ONCE, int(count * _AT_ONCE / (now - began))))
    times.sort()
    p50, p99, p999 = (
        times[len(times) * per_mille // 1000] / (ways * 1e3) for per_mille in (500, 990, 999)
    )
    return Latency(len(times), p50, p99, p999)


def _go_there_and_back(
    session: Session, data: bytearray, answer: bytearray, count: int
) -> list[int]:
    send, receive = session.worker.send_tag, session.worker.receive_tag
    endpoint_id, source, tag = session.endpoint_id, session.source, session.data_tag
    now, times = time.perf_counter_ns, []
    got = len(data)
    for _ in range(count):
        start = now()
        try:
            send(endpoint_id, tag, data, timeout=SLICE)
            got = receive(source, tag, answer, timeout=SLICE)
        except OperationTimeoutError:
            # A send that takes long goes on by itself; the answer comes when it has arrived.
            got = session.receive_slowly(answer, patience_for(len(data)))
        except BufferTooSmallError as error:
            got = error.needed
            break
        times.append(now() - start)
    if got != len(data):
        raise session.wrong_echo(len(data), got)
    return times
