"""Latency and bandwidth between each two workers, measured so that no pair disturbs another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError, OperationTimeoutError
from ..text import shown
from .group import Group
from .member import Member

if TYPE_CHECKING:
    from .cluster import UcxCluster

__all__ = ["PairFigures", "PairMeasurement", "rounds_of"]

_PATIENCE = 30.0  # seconds for one pair
_LEAST, _WARM_UP = 5, 3  # round trips
_LARGE = 1 << 20  # bytes of a message whose bandwidth is measured
_SLICE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class PairFigures:
    """Latency and bandwidth between each two.

    Attributes
    ----------
    names : tuple of str
        Dask's addresses: rows, that send, and columns, that receive.
    latency_us : numpy.ndarray
        Half a round trip of 8 bytes, median, microseconds; nan where it was not measured.
    bandwidth : numpy.ndarray
        Of messages of 1 MiB one way, bytes a second; nan where it was not measured.
    """

    names: tuple[str, ...]
    latency_us: np.ndarray
    bandwidth: np.ndarray

    def __repr__(self) -> str:
        done = int(np.isfinite(self.latency_us).sum())
        size = len(self.names)
        return f"<PairFigures: {size} workers, {done} of {size * (size - 1)} measured>"


class PairMeasurement:
    """Measure all pairs of a cluster: iterate over it, and get the pairs of a round as it is done.

    At any moment a host takes part in one pair at most, so pairs of one host come one after the
    other, and those of different hosts together.

    Parameters
    ----------
    cluster : UcxCluster
        Its workers do nothing else meanwhile, or the figures are worth less.
    seconds : float
        How long each of the three tests of a pair takes.
    should_stop : callable, optional
        Asked before each round; once it is True the iteration ends.

    Attributes
    ----------
    figures : PairFigures
        What has been measured up to now; its arrays are filled in place.
    problems : dict
        Why a pair could not be measured.
    rounds, done : int
        How many rounds there are, and how many are done.

    Raises
    ------
    ArgumentError
        `seconds` is impossible.
    ClusterError
        The cluster is closed. Iterating goes on past a worker that leaves.
    """

    def __init__(
        self,
        cluster: UcxCluster,
        *,
        seconds: float = 0.02,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        if not isinstance(seconds, (int, float)) or not 0 < seconds <= 60:
            raise ArgumentError(f"seconds={shown(seconds)}: it takes a number up to 60")
        self._cluster = cluster
        self._task = TimePair(seconds)
        self._should_stop = should_stop
        hosts = {member.address: member.host for member in cluster.workers}
        self._plan = rounds_of(hosts)
        names = tuple(hosts)
        self._place = {name: i for i, name in enumerate(names)}
        self.figures = PairFigures(
            names, *(np.full((len(names), len(names)), np.nan) for _ in range(2))
        )
        self.problems: dict[tuple[str, str], str] = {}
        self.rounds = len(self._plan)
        self.done = 0

    def __iter__(self) -> Iterator[list[tuple[str, str]]]:
        while self.done < self.rounds and not self._should_stop():
            pairs = self._plan[self.done]
            self._measure(pairs)
            self.done += 1
            yield pairs

    def _measure(self, pairs: list[tuple[str, str]]) -> None:
        for pair, outcome in self._cluster._measure_pairs(self._task, pairs, _PATIENCE).items():
            if isinstance(outcome, Exception):
                self.problems[pair] = str(outcome)
                continue
            one, other = (self._place[name] for name in pair)
            latency, there, back = outcome
            self.figures.latency_us[one, other] = self.figures.latency_us[other, one] = latency
            self.figures.bandwidth[one, other] = there
            self.figures.bandwidth[other, one] = back


def rounds_of(hosts: Mapping[str, str]) -> list[list[tuple[str, str]]]:
    """Plan rounds of pairs, in each of which every host takes part in one pair at most.

    Parameters
    ----------
    hosts : mapping of str to str
        The host of each worker.

    Returns
    -------
    list of list of (str, str)
        Every pair once.
    """
    left = list(combinations(hosts, 2))
    rounds = []
    while left:
        busy: set[str] = set()
        now, later = [], []
        for pair in left:
            wanted = {hosts[pair[0]], hosts[pair[1]]}
            if busy & wanted:
                later.append(pair)
            else:
                busy |= wanted
                now.append(pair)
        rounds.append(now)
        left = later
    return rounds


@dataclass(frozen=True)
class TimePair:
    """Measure latency and both bandwidths between the two of a group."""

    seconds: float

    def __call__(self, group: Group, member: Member) -> tuple[float, float, float]:
        """Give microseconds, and bytes a second there and back; the first rank's are right."""
        latency = _time_round_trips(group, self.seconds)
        there = _time_stream(group, 0, self.seconds)
        back = _time_stream(group, 1, self.seconds)
        return latency, there, back


def _time_round_trips(group: Group, seconds: float) -> float:
    """Give the median of half a round trip, microseconds; the first byte says whether to go on."""
    worker, tag, other = group.worker, group.next_tag(), 1 - group.rank
    endpoint_id = group.endpoint_to(other)
    buffer = bytearray(8)

    def receive() -> None:
        try:
            worker.receive_tag(endpoint_id, tag, buffer, timeout=_SLICE)
        except OperationTimeoutError:
            group.patiently(
                lambda: worker.receive_tag(endpoint_id, tag, buffer, timeout=_SLICE), other
            )

    if group.rank:
        while True:
            receive()
            if buffer[0]:
                return 0.0
            worker.send_tag(endpoint_id, tag, buffer)
    times: list[float] = []
    end = time.perf_counter() + seconds
    go_on, stop = bytes(8), b"\x01" * 8
    while len(times) < _LEAST + _WARM_UP or time.perf_counter() < end:
        began = time.perf_counter()
        worker.send_tag(endpoint_id, tag, go_on)
        receive()
        times.append(time.perf_counter() - began)
    worker.send_tag(endpoint_id, tag, stop)
    return statistics.median(times[_WARM_UP:]) / 2 * 1e6


def _time_stream(group: Group, sender: int, seconds: float) -> float:
    """Give bytes a second; both sides return the same."""
    sends = group.rank == sender
    data = np.ones(_LARGE, "u1") if sends else np.empty(_LARGE, "u1")
    count, rate = 1, 0.0
    for last in (False, True):
        group.barrier()
        began = time.perf_counter()
        group.stream(1 - group.rank, data, count, sends=sends)
        group.barrier()  # the receiver has all of it
        took = group.broadcast(time.perf_counter() - began, root=sender)
        rate = count * _LARGE / took
        if not last:
            count = max(1, min(1000, int(seconds / took)))
    return float(rate)
