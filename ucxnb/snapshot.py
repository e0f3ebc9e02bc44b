"""Everything that can be seen of a worker at one moment: what dashboards and recordings live on."""

from __future__ import annotations

from dataclasses import dataclass, field

from .endpoint_info import EndpointInfo
from .events import Event
from .histogram import Histogram
from .stats import WorkerStats

__all__ = ["EngineHealth", "Snapshot"]

LATENCY_STEPS = 4
"""Buckets of a power of two in `Snapshot.latencies`."""


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """How a worker's progress goes; sums since its start, but for the gap.

    Attributes
    ----------
    busy_seconds : float
        Time that somebody was awake to progress the worker: the background thread, or a call.
    wake_ups : int
        How often an event ended a sleep of theirs.
    longest_gap : float
        The longest time in the last one to two seconds, in seconds, in which the background thread
        should have progressed the worker and did not, as far as it saw: between two of its looks,
        or past the end of a sleep. Other processes had its core, or this one was stopped.
    """

    busy_seconds: float = 0.0
    wake_ups: int = 0
    longest_gap: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A worker at one moment.

    Attributes
    ----------
    name : str
        The worker's name.
    time : float
        When, seconds since the epoch.
    stats : WorkerStats
        Its counters, and what is in flight and unreceived.
    endpoints : tuple of EndpointInfo
        The open connections.
    listening : tuple of str
        Addresses of its listeners.
    sizes_sent, sizes_received : Histogram
        Sizes of the messages so far, bytes, a bucket for each power of two.
    latencies : Histogram
        Nanoseconds from start to end of the requests so far, and of large messages in blocking
        calls, `LATENCY_STEPS` buckets for each power of two. A receive's include the wait for its
        message. Sends that were done at once, as most small ones are, and batches are not in it.
    health : EngineHealth
        How progress goes.
    events : tuple of Event
        The latest of them, at most 64, oldest first; `Event.number` tells which are new.
    closed : bool
        Whether the worker is closed; nothing changes any more.
    """

    name: str
    time: float
    stats: WorkerStats
    endpoints: tuple[EndpointInfo, ...] = ()
    listening: tuple[str, ...] = ()
    sizes_sent: Histogram = field(default_factory=Histogram)
    sizes_received: Histogram = field(default_factory=Histogram)
    latencies: Histogram = field(default_factory=lambda: Histogram(steps=LATENCY_STEPS))
    health: EngineHealth = field(default_factory=EngineHealth)
    events: tuple[Event, ...] = ()
    closed: bool = False
