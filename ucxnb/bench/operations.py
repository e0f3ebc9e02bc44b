"""What can be measured of a connection with a partner: tags, its stream, one-sided memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..request import Request
from .latency import Latency, repeat_rounds, time_round_trips
from .protocol import patience_for
from .session import Session
from .stream import repeat_bursts, time_stream

__all__ = ["OPERATIONS", "Operation"]

_UNDER_WAY = 16  # puts and gets


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of traffic.

    Attributes
    ----------
    latency_of : str
        What one latency is.
    time_latency : callable of (Session, int, float)
        Measures one at a time of so many bytes, for so many seconds; returns `Latency`.
    time_rate : callable of (Session, int, float)
        Measures as many as go at once; returns messages a second.
    """

    latency_of: str
    time_latency: Callable[[Session, int, float], Latency]
    time_rate: Callable[[Session, int, float], float]


def _stream_latency(session: Session, nbytes: int, seconds: float) -> Latency:
    data, answer = bytearray(b"u") * nbytes, bytearray(nbytes)
    send, receive = session.worker.send_stream, session.worker.receive_stream
    endpoint_id, patience = session.endpoint_id, patience_for(nbytes)

    def rounds(count: int) -> list[int]:
        session.ask("echo stream", nbytes, count)
        now, times = time.perf_counter_ns, []
        for _ in range(count):
            start = now()
            send(endpoint_id, data, timeout=patience)
            receive(endpoint_id, answer, True, timeout=patience)
            times.append(now() - start)
        return times

    return repeat_rounds(session, rounds, seconds, 2)


def _stream_rate(session: Session, nbytes: int, seconds: float) -> float:
    data, send = bytearray(b"u") * nbytes, session.worker.send_stream

    def burst(count: int) -> tuple[float, int]:
        session.ask("take stream", nbytes, count)
        began = time.perf_counter()
        for _ in range(count):
            send(session.endpoint_id, data, timeout=patience_for(nbytes))
        session.expect("done", count * nbytes)
        return began, count

    return repeat_bursts(session, burst, seconds)


def _put_latency(session: Session, nbytes: int, seconds: float) -> Latency:
    """Until the peer's memory has changed: `put` alone returns once `data` can change."""
    worker, endpoint_id = session.worker, session.endpoint_id
    data, key = bytearray(nbytes), _key(session, nbytes)

    def put() -> None:
        worker.put(endpoint_id, data, key, timeout=patience_for(nbytes))
        worker.flush(endpoint_id, timeout=patience_for(nbytes))

    return repeat_rounds(session, _rounds_of(put), seconds, 1)


def _get_latency(session: Session, nbytes: int, seconds: float) -> Latency:
    worker, endpoint_id = session.worker, session.endpoint_id
    data, key = bytearray(nbytes), _key(session, nbytes)

    def get() -> None:
        worker.get(endpoint_id, data, key, timeout=patience_for(nbytes))

    return repeat_rounds(session, _rounds_of(get), seconds, 1)


def _rounds_of(call: Callable[[], None]) -> Callable[[int], list[int]]:
    def rounds(count: int) -> list[int]:
        now, times = time.perf_counter_ns, []
        for _ in range(count):
            start = now()
            call()
            times.append(now() - start)
        return times

    return rounds


def _put_rate(session: Session, nbytes: int, seconds: float) -> float:
    data = bytearray(nbytes)
    worker, key = session.worker, _key(session, nbytes)
    return _memory_rate(
        session, nbytes, seconds, lambda: worker.iput(session.endpoint_id, data, key)
    )


def _get_rate(session: Session, nbytes: int, seconds: float) -> float:
    # One buffer for all: what is in it does not matter here.
    data = bytearray(nbytes)
    worker, key = session.worker, _key(session, nbytes)
    return _memory_rate(
        session, nbytes, seconds, lambda: worker.iget(session.endpoint_id, data, key)
    )


def _memory_rate(
    session: Session, nbytes: int, seconds: float, start: Callable[[], Request]
) -> float:
    def burst(count: int) -> tuple[float, int]:
        began = time.perf_counter()
        under_way: deque[Request] = deque()
        for _ in range(count):
            under_way.append(start())
            if len(under_way) >= _UNDER_WAY:
                session.finish(under_way.popleft(), nbytes)
        for request in under_way:
            session.finish(request, nbytes)
        session.worker.flush(session.endpoint_id, timeout=patience_for(_UNDER_WAY * nbytes))
        return began, count

    return repeat_bursts(session, burst, seconds)


def _key(session: Session, nbytes: int) -> bytes:
    return bytes.fromhex(session.ask("expose", nbytes)["key"])


OPERATIONS = {
    "tag": Operation("half a round trip", time_round_trips, time_stream),
    "stream": Operation("half a round trip", _stream_latency, _stream_rate),
    "put": Operation("until the peer's memory has changed", _put_latency, _put_rate),
    "get": Operation("until the data is here", _get_latency, _get_rate),
}
"""By name, as `ProtocolRange.operation`. All need a partner, put and get ``enable_rma``."""
