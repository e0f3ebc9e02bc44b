"""Messages of one size, one way, as fast as they go."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ..request import Request
from .protocol import patience_for, rows_at_once
from .session import Session

__all__ = ["repeat_bursts", "time_stream"]

_AT_ONCE = 0.1  # seconds between two looks at the clock
_MOST_AT_ONCE = 100_000
_IN_FLIGHT = 4  # large messages


def time_stream(session: Session, nbytes: int, seconds: float) -> float:
    """Send messages to a partner, and let the clock run until it has them all.

    Parameters
    ----------
    session : Session
        With a partner.
    nbytes : int
        Size of each message, bytes.
    seconds : float
        For how long.

    Returns
    -------
    float
        Messages a second.

    Raises
    ------
    UcxnbError, StoppedError
        As `Session`.
    """
    rows = rows_at_once(nbytes)
    data = bytearray(b"u") * (rows * nbytes)
    array = memoryview(data).cast("B", (rows, nbytes)) if rows > 1 else data

    def burst(count: int) -> tuple[float, int]:
        session.ask("take", nbytes, count)
        began = time.perf_counter()
        if rows > 1:
            send_rows, patience = session.worker.send_rows, patience_for(len(data))
            endpoint_id, tag = session.endpoint_id, session.data_tag
            for _ in range(count):
                send_rows(endpoint_id, tag, array, timeout=patience)
        else:
            _send_large(session, data, count)
        session.expect("done", count * len(data))
        return began, count * rows

    return repeat_bursts(session, burst, seconds)


def repeat_bursts(
    session: Session, burst: Callable[[int], tuple[float, int]], seconds: float
) -> float:
    """Do bursts for a while.

    Parameters
    ----------
    session : Session
        It says when to stop.
    burst : callable
        Makes as many calls as it is told, and waits until all of it has arrived; returns when the
        first one began, and how many messages they were.
    seconds : float
        For how long, after the one that warms up.

    Returns
    -------
    float
        Messages a second.
    """
    count, messages, took, end = 1, 0, 0.0, 0.0
    while True:
        session.check()
        began, new = burst(count)
        now = time.perf_counter()
        if end:
            took += now - began
            messages += new
        else:
            end = now + seconds  # the first one warmed up
        if messages and now >= end:
            return messages / took
        count = max(1, min(_MOST_AT_ONCE, int(count * _AT_ONCE / (now - began))))


def _send_large(session: Session, data: bytearray, count: int) -> None:
    send, endpoint_id, tag = session.worker.isend_tag, session.endpoint_id, session.data_tag
    under_way: deque[Request] = deque()
    for _ in range(count):
        under_way.append(send(endpoint_id, tag, data))
        if len(under_way) >= _IN_FLIGHT:
            session.finish(under_way.popleft(), len(data))
    for request in under_way:
        session.finish(request, len(data))
