"""Counters as immutable snapshots, rates between two of them, and a bounded history."""

from __future__ import annotations

import collections
import html
import itertools
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from .errors import ArgumentError
from .text import shown

__all__ = ["Rates", "StatsHistory", "TrafficStats", "WorkerStats"]


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened between two snapshots, per second.

    Attributes
    ----------
    seconds : float
        Time between the two snapshots.
    messages_sent, messages_received : float
        Messages per second.
    bytes_sent, bytes_received : float
        Bytes per second.
    stream_bytes_sent, stream_bytes_received, put_bytes, get_bytes : float
        Those of them that went through streams, were put and were got.
    """

    seconds: float = 0.0
    messages_sent: float = 0.0
    messages_received: float = 0.0
    bytes_sent: float = 0.0
    bytes_received: float = 0.0
    stream_bytes_sent: float = 0.0
    stream_bytes_received: float = 0.0
    put_bytes: float = 0.0
    get_bytes: float = 0.0

    def throughput_mbps(self) -> float:
        """Both directions together, megabits (10**6 bits) per second; 8 of them make 1 MB/s."""
        return (self.bytes_sent + self.bytes_received) * 8e-6

    def message_rate(self) -> float:
        """Both directions together, messages per second."""
        return self.messages_sent + self.messages_received


_RATED = tuple(rate.name for rate in fields(Rates) if rate.name != "seconds")


@dataclass(frozen=True, slots=True)
class TrafficStats:
    """Counters of one worker or one endpoint at one moment.

    Attributes
    ----------
    messages_sent, messages_received : int
        Messages whose send, or receive, completed.
    bytes_sent, bytes_received : int
        Their payload, and what went through streams or was put and got, bytes.
    errors : int
        Operations that failed, and connections that were lost.
    elapsed : float
        Seconds since the worker, or the endpoint, started.
    unreceived_messages, unreceived_bytes : int
        What has arrived and waits to be received at this moment, streams included. Large messages
        count in full, though their bytes wait at the sender.
    sends_held : int
        Sends that wait at this moment, since the peer has too much unreceived; a batch counts once.
    sends_in_flight, bytes_in_flight : int
        Sends under way at this moment, that UCX has and has not completed, and their payload.
    stream_bytes_sent, stream_bytes_received : int
        What of the bytes went through streams.
    puts, gets, atomics : int
        How often this side reached a peer's memory.
    put_bytes, get_bytes : int
        What of the bytes it put there, and got from there.
    """

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    errors: int = 0
    elapsed: float = 0.0
    unreceived_messages: int = field(default=0, kw_only=True)
    unreceived_bytes: int = field(default=0, kw_only=True)
    sends_held: int = field(default=0, kw_only=True)
    sends_in_flight: int = field(default=0, kw_only=True)
    bytes_in_flight: int = field(default=0, kw_only=True)
    stream_bytes_sent: int = field(default=0, kw_only=True)
    stream_bytes_received: int = field(default=0, kw_only=True)
    puts: int = field(default=0, kw_only=True)
    gets: int = field(default=0, kw_only=True)
    atomics: int = field(default=0, kw_only=True)
    put_bytes: int = field(default=0, kw_only=True)
    get_bytes: int = field(default=0, kw_only=True)

    def since(self, earlier: TrafficStats) -> Rates:
        """Rates from an earlier snapshot of the same worker or endpoint to this one.

        Parameters
        ----------
        earlier : TrafficStats
            Taken before this one. If it was not, all rates are 0.

        Returns
        -------
        Rates
        """
        seconds = self.elapsed - earlier.elapsed
        if seconds <= 0:
            return Rates()
        return Rates(
            seconds,
            *((getattr(self, name) - getattr(earlier, name)) / seconds for name in _RATED),
        )

    def throughput_mbps(self) -> float:
        """Mean since the start, both directions, megabits (10**6 bits) per second."""
        return self.since(_START).throughput_mbps()

    def message_rate(self) -> float:
        """Mean since the start, both directions, messages per second."""
        return self.since(_START).message_rate()

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join([type(self).__name__, *(f"  {n:<{width}}  {v:>20}" for n, v in rows)])

    def print(self) -> None:
        """Print the counters and mean rates to standard output, one a line."""
        print(self)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (f.name.replace("_", " "), f"{getattr(self, f.name):,}")
            for f in fields(self)
            if f.name != "elapsed"
        ]
        rows.append(("elapsed", f"{self.elapsed:,.3f} s"))
        rows.append(("throughput", f"{self.throughput_mbps():,.3f} Mbit/s"))
        rows.append(("message rate", f"{self.message_rate():,.1f} /s"))
        return rows

    def _repr_html_(self) -> str:
        number = "text-align:right;font-variant-numeric:tabular-nums"
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(n)}</th>"
            f"<td style='{number}'>{html.escape(v)}</td></tr>"
            for n, v in self._rows()
        )
        return f"<table><caption>{type(self).__name__}</caption>{body}</table>"


_START = TrafficStats()


@dataclass(frozen=True, slots=True)
class WorkerStats(TrafficStats):
    """Counters of a worker at one moment.

    Attributes
    ----------
    connections : int
        Endpoints open at that moment.
    """

    connections: int = 0


class StatsHistory:
    """The latest snapshots of a worker, at most `length` of them, oldest first.

    A stretch in which nothing moved is kept as its first and last snapshot only. Any thread may
    read while another one appends.

    Parameters
    ----------
    length : int
        How many snapshots to keep, 1 or more.

    Raises
    ------
    ArgumentError
        It is no such number.
    """

    def __init__(self, length: int) -> None:
        if not isinstance(length, int) or not 1 <= length <= sys.maxsize:
            raise ArgumentError(f"length={shown(length)}: it takes an integer from 1 up")
        self._snapshots: collections.deque[WorkerStats] = collections.deque(maxlen=length)
        self._lock = threading.Lock()

    def append(self, stats: WorkerStats) -> None:
        """Add a snapshot.

        Parameters
        ----------
        stats : WorkerStats
            Taken after all those before it.
        """
        with self._lock:
            kept = self._snapshots
            if len(kept) >= 2 and _same(kept[-1], stats) and _same(kept[-2], stats):
                kept.pop()
            kept.append(stats)

    def snapshots(self) -> tuple[WorkerStats, ...]:
        """All snapshots kept, oldest first."""
        with self._lock:
            return tuple(self._snapshots)

    def rates(self) -> Iterator[tuple[float, Rates]]:
        """Yield ``(elapsed, rates)`` between each two neighbouring snapshots."""
        kept = self.snapshots()
        for earlier, later in itertools.pairwise(kept):
            yield later.elapsed, later.since(earlier)

    def __len__(self) -> int:
        return len(self._snapshots)


def _same(a: WorkerStats, b: WorkerStats) -> bool:
    return all(getattr(a, f.name) == getattr(b, f.name) for f in fields(a) if f.name != "elapsed")
