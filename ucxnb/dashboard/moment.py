"""What a dashboard draws from: the workers it watches, at one moment."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..events import Event
from ..snapshot import Snapshot
from ..stats import Rates
from .watched import Watched

__all__ = ["Moment", "Sampler", "Samples"]

# Rates are means over so long: between two points one message alone would look like a burst.
_SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class Moment:
    """All workers that are watched, at one moment.

    Attributes
    ----------
    time : float
        When, seconds since the epoch.
    earlier : tuple of Snapshot
        Each worker about half a second before.
    later : tuple of Snapshot
        The same workers in the same order, now.
    events : tuple of (str, Event)
        What happened since the last moment, with the name of the worker.
    """

    time: float
    earlier: tuple[Snapshot, ...]
    later: tuple[Snapshot, ...]
    events: tuple[tuple[str, Event], ...] = ()

    def rates(self) -> list[Rates]:
        """What each worker sent and received per second."""
        return [
            now.stats.since(then.stats) for then, now in zip(self.earlier, self.later, strict=True)
        ]


class Samples(NamedTuple):
    """What a dashboard is fed with at a time.

    Attributes
    ----------
    moments : list of Moment
        To be added, in order.
    anew : bool
        Whether what was before does not hold any more.
    """

    moments: list[Moment]
    anew: bool = False


class Sampler:
    """Take snapshots of workers, and make moments of them.

    Parameters
    ----------
    watched : sequence of Watched
        The workers. One that has closed keeps its last snapshot and is not asked again.
    interval : float
        Seconds between two moments.
    """

    def __init__(self, watched: Sequence[Watched], interval: float) -> None:
        length = max(2, round(_SMOOTHING / interval) + 1)
        self._watched = tuple(watched)
        self._recent: list[deque[Snapshot]] = [deque(maxlen=length) for _ in watched]
        self._seen = [0 for _ in watched]  # numbers of the latest events

    @property
    def ended(self) -> bool:
        """Whether every worker has closed."""
        return all(recent and recent[-1].closed for recent in self._recent)

    def sample(self) -> Samples:
        """Look at all workers."""
        for worker, recent in zip(self._watched, self._recent, strict=True):
            recent.append(recent[-1] if recent and recent[-1].closed else worker.snapshot())
        moment = Moment(
            time.time(),
            tuple(recent[0] for recent in self._recent),
            tuple(recent[-1] for recent in self._recent),
            tuple(self._new_events()),
        )
        return Samples([moment])

    def _new_events(self) -> list[tuple[str, Event]]:
        new = []
        for i, recent in enumerate(self._recent):
            snapshot = recent[-1]
            new += [(snapshot.name, e) for e in snapshot.events if e.number > self._seen[i]]
            if snapshot.events:
                self._seen[i] = snapshot.events[-1].number
        return new
