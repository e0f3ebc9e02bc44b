"""A whole cluster at one moment: every worker, what went between each two, and who lags behind."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .membership import ClusterMember, MemberState
from .sample import MemberSample

__all__ = ["ClusterStats", "WorkerStatus"]

_SLOW_ANSWER = 0.25  # seconds
_NO_ANSWER = 2.0  # however slow the others are
_LONG_GAP = 0.25
_MORE_WORK = 0.25  # less is what a busy machine does to anyone
_TIMES = 3.0  # as long as the median


@dataclass(frozen=True, slots=True, eq=False)
class WorkerStatus:
    """A worker of a cluster at one moment.

    Attributes
    ----------
    member : ClusterMember
        Who it is, and its state.
    sample : MemberSample or None
        What it told last; None if it is gone, starts, or has not answered yet.
    delay : float
        Seconds until it answered, or since it was asked in vain.
    """

    member: ClusterMember
    sample: MemberSample | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ClusterStats:
    """A cluster at one moment.

    Attributes
    ----------
    time : float
        When, seconds since the epoch.
    workers : tuple of WorkerStatus
        Those that are gone first, then all others in the order they came; the process of the
        `UcxCluster` itself, if it takes part, is the last.
    names : tuple of str
        Addresses of those that answered: rows and columns of what follows.
    bytes_sent, messages_sent : numpy.ndarray
        From each (row) to each (column), uint64, since they were connected.
    transports : tuple of tuple of str
        What UCX chose from each to each, as ``"posix, sysv"``; empty where none are connected.
    """

    time: float
    workers: tuple[WorkerStatus, ...]
    names: tuple[str, ...]
    bytes_sent: np.ndarray
    messages_sent: np.ndarray
    transports: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, time: float, workers: Sequence[WorkerStatus]) -> ClusterStats:
        """Bring together what workers told.

        Parameters
        ----------
        time : float
            When, seconds since the epoch.
        workers : sequence of WorkerStatus
            All of them.
        """
        samples = [status.sample for status in workers if status.sample is not None]
        names = tuple(sample.address for sample in samples)
        place = {name: i for i, name in enumerate(names)}
        traffic = np.zeros((len(names), len(names), 2), "u8")
        transports = [[""] * len(names) for _ in names]
        for row, sample in enumerate(samples):
            for peer, sent, words in zip(
                sample.peers, sample.traffic, sample.transports, strict=True
            ):
                column = place.get(peer)
                if column is not None:
                    traffic[row, column] += sent
                    transports[row][column] = words
        return cls(
            time,
            tuple(workers),
            names,
            traffic[:, :, 0],
            traffic[:, :, 1],
            tuple(map(tuple, transports)),
        )

    def stragglers(self) -> dict[str, str]:
        """Tell who lags behind, and why one thinks so.

        Returns
        -------
        dict of str to str
            By address.
        """
        found: dict[str, str] = {}
        samples = {s.sample.address: s for s in self.workers if s.sample is not None}
        delay = _median([status.delay for status in samples.values()])
        work = _median([s.sample.own_seconds for s in samples.values() if s.sample is not None])
        silent: dict[str, int] = {}
        for status in self.workers:
            sample = status.sample
            if sample is None:
                if status.member.state is MemberState.READY:
                    found[status.member.address] = "it does not answer"
                continue
            for peer in sample.unresponsive:
                silent[peer] = silent.get(peer, 0) + 1
            slow = min(max(_SLOW_ANSWER, _TIMES * delay), max(_NO_ANSWER, 1.5 * delay))
            if status.delay > slow:
                found[sample.address] = f"no answer for {status.delay:.2g} s"
            elif sample.longest_gap > _LONG_GAP:
                found[sample.address] = f"nobody progressed it for {sample.longest_gap:.2g} s"
            elif len(samples) > 2 and sample.own_seconds > max(_TIMES * work, work + _MORE_WORK):
                found[sample.address] = (
                    f"at work for {sample.own_seconds:.2g} s where others took {work:.2g} s"
                )
        for peer, count in silent.items():
            found[peer] = f"{count} others hear nothing of it"
        return found

    def __repr__(self) -> str:
        lost = sum(s.member.state is MemberState.LOST for s in self.workers)
        total = int(self.bytes_sent.sum())
        return f"<ClusterStats: {len(self.names)} answered, {lost} lost, {total:,} bytes sent>"


def status_of(
    members: Sequence[ClusterMember], answers: Mapping[str, tuple[MemberSample | None, float]]
) -> list[WorkerStatus]:
    """Put answers and members together."""
    return [WorkerStatus(member, *answers.get(member.address, (None, 0.0))) for member in members]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
