"""What a member of a cluster tells of itself, small enough to be asked for twice a second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..endpoint_info import EndpointState
from ..snapshot import Snapshot
from ..stats import WorkerStats

__all__ = ["MemberSample", "sample_of"]


@dataclass(frozen=True, slots=True, eq=False)
class MemberSample:
    """A member at one moment.

    Attributes
    ----------
    address : str
        Its own.
    time : float
        When, seconds since the epoch, by its clock.
    stats : WorkerStats
        Its worker's counters.
    longest_gap : float
        As `EngineHealth.longest_gap`.
    own_seconds, waited_seconds : float
        Of its latest operation, the one under way if there is one: at work, and waiting for others.
    peers : tuple of str
        Names of those it is connected to.
    traffic : numpy.ndarray
        A row for each of them: bytes and messages sent, uint64.
    transports : tuple of str
        What UCX chose for each, as ``"posix, sysv"``.
    unresponsive : tuple of str
        Those that give no sign of life.
    """

    address: str
    time: float
    stats: WorkerStats
    longest_gap: float
    own_seconds: float
    waited_seconds: float
    peers: tuple[str, ...]
    traffic: np.ndarray
    transports: tuple[str, ...]
    unresponsive: tuple[str, ...]


def sample_of(snapshot: Snapshot, own_seconds: float, waited_seconds: float) -> MemberSample:
    """Make a sample of a snapshot of a member's worker, and the times of its latest operation."""
    endpoints = snapshot.endpoints
    traffic = [(info.stats.bytes_sent, info.stats.messages_sent) for info in endpoints]
    return MemberSample(
        snapshot.name,
        snapshot.time,
        snapshot.stats,
        snapshot.health.longest_gap,
        own_seconds,
        waited_seconds,
        tuple(info.peer_name for info in endpoints),
        np.array(traffic, "u8").reshape(-1, 2),
        tuple(_transport_names(info.transports) for info in endpoints),
        tuple(i.peer_name for i in endpoints if i.state is EndpointState.UNRESPONSIVE),
    )


def _transport_names(transports: tuple[str, ...]) -> str:
    """Without their devices."""
    return ", ".join(dict.fromkeys(name.partition("/")[0] for name in transports))
