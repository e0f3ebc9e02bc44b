"""What UCX chose for all sizes, and what was measured of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..protocols import Explanation
from .fresh_pair import METRICS, FreshPair, StoppedError

if TYPE_CHECKING:
    from ..worker import UcxWorker

__all__ = [
    "DEFAULT_SIZES",
    "Profile",
    "ProfilePoint",
    "measure_profile",
    "probe",
    "settings_of_connection",
]

_TURNS = 3

DEFAULT_SIZES = tuple(1 << power for power in range(3, 23))
"""Bytes of the messages that are measured if nothing else is said: 8 B to 4 MiB."""


@dataclass(frozen=True, slots=True)
class ProfilePoint:
    """What was measured of one size.

    Attributes
    ----------
    nbytes : int
        Size of each message.
    latency : float
        As `FreshPair.measure` says, seconds.
    bandwidth : float
        Bytes a second.
    """

    nbytes: int
    latency: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One operation with some settings, over message sizes.

    Attributes
    ----------
    name : str
        What it is called.
    settings : dict of str to str
        UCX's, without ``UCX_``.
    operation : str
        ``"tag"``, ``"stream"``, ``"put"``, ``"get"``.
    explanation : Explanation
        What UCX chose, with its estimates.
    points : tuple of ProfilePoint
        What was measured up to now, by size; medians of three.
    """

    name: str
    settings: dict[str, str]
    operation: str
    explanation: Explanation
    points: tuple[ProfilePoint, ...] = ()


def measure_profile(
    settings: Mapping[str, str] | None = None,
    operation: str = "tag",
    sizes: Sequence[int] = DEFAULT_SIZES,
    *,
    seconds: float = 0.05,
    name: str = "",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Profile]:
    """Measure an operation over message sizes, between two new processes.

    Parameters
    ----------
    settings, should_stop
        As for `FreshPair`. Told to stop, it ends.
    operation, seconds
        As for `FreshPair.measure`.
    sizes : sequence of int
        Bytes.
    name : str
        What the profile is called; empty names it by its settings.

    Yields
    ------
    Profile
        At first without points, then again after each size. All sizes are measured in turn, three
        times: the points are medians of what was measured up to now, so that a moment in which the
        machine was busy spoils no size.

    Raises
    ------
    UcxnbError
        As `FreshPair` and `FreshPair.measure`.
    """
    given = dict(settings or {})
    name = name or ", ".join(f"{key}={value}" for key, value in given.items()) or "as it is"
    try:
        with FreshPair(given, should_stop=should_stop) as pair:
            profile = Profile(name, given, operation, pair.explanation)
            yield profile
            figures: dict[int, tuple[list[float], ...]] = {}
            for nbytes in [size for _ in range(_TURNS) for size in sizes]:
                lists = figures.setdefault(nbytes, tuple([] for _ in METRICS))
                for values, metric in zip(lists, METRICS, strict=True):
                    values.append(pair.measure(operation, nbytes, metric=metric, seconds=seconds))
                points = (
                    ProfilePoint(size, *map(statistics.median, lists))
                    for size, lists in sorted(figures.items())
                )
                profile = replace(profile, points=tuple(points))
                yield profile
    except StoppedError:
        return


def probe(
    worker: UcxWorker, endpoint_id: int, *, should_stop: Callable[[], bool] = lambda: False
) -> Explanation:
    """Explain a connection, with what UCX tells only of processes that print its choices.

    Two new processes connect to each other with the worker's settings, over the same kind of
    transport. Where they choose as the connection did, UCX's estimates are added to its rows; put,
    get and rendezvous are added from there.

    Parameters
    ----------
    worker : UcxWorker
        The worker.
    endpoint_id : int
        Its connection, open.
    should_stop : callable, optional
        As for `FreshPair`.

    Returns
    -------
    Explanation
        As `UcxWorker.explain`, and more.

    Raises
    ------
    UcxnbError
        As `UcxWorker.explain` and `FreshPair`.
    """
    explanation = worker.explain(endpoint_id)
    settings = settings_of_connection(worker, explanation)
    with FreshPair(settings, should_stop=should_stop) as pair:
        return explanation.with_probe(pair.explanation)


def settings_of_connection(
    worker: UcxWorker, explanation: Explanation | None = None
) -> dict[str, str]:
    """Give the settings with which two processes of this machine connect as a worker did.

    Parameters
    ----------
    worker : UcxWorker
        The worker.
    explanation : Explanation, optional
        Of its connection. Over TCP alone, as between machines, the two use its device as well;
        without that they would find shared memory.

    Returns
    -------
    dict of str to str
        Without ``UCX_``.
    """
    settings = dict(worker.config.ucx_options)
    ways = [lane.transport for lane in explanation.lanes] if explanation is not None else []
    if ways and all(way.startswith("tcp/") for way in ways):
        devices = dict.fromkeys(way.partition("/")[2] for way in ways)
        settings = {"TLS": "tcp,self", "NET_DEVICES": ",".join(devices), **settings}
    return settings
