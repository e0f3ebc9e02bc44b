"""Let dashboards of other processes see a worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ..engine import Request
from ..errors import ArgumentError, UcxnbError
from ..events import Event
from ..ticker import Ticker
from ..worker import UcxWorker
from .samples import LARGEST_SAMPLE, SAMPLE_TAG, Packer

__all__ = ["Publisher"]

_WELCOME_SECONDS = 0.1  # a new watcher gets its first snapshot after so long at most


@dataclass(slots=True)
class _Watcher:
    packer: Packer = field(default_factory=Packer)
    sending: Request | None = None
    seen: int = 0  # number of the latest event that it was told of


class Publisher:
    """Send snapshots of a worker to whoever connects, until it is closed or the worker is.

    It has a small UCX worker of its own: the one that is watched gets no connections and no
    messages by it. A watcher that is slow or stopped misses snapshots, and slows nobody.

    Parameters
    ----------
    worker : UcxWorker
        The worker to be watched.
    address : str
        ``host:port`` to listen on; by default a free port of this machine only. The key of the
        worker's configuration protects it as well.
    interval : float
        Seconds between two snapshots, 0.02 to 60.

    Attributes
    ----------
    address : str
        As really bound: what a `RemoteWorker` connects to.

    Raises
    ------
    ArgumentError
        The interval is out of range.
    AddressError, AddressInUseError
        Nothing listens.

    Notes
    -----
    A context manager. A snapshot with a few connections is 100 to 200 bytes: it is packed by zlib
    with the one before as the dictionary.
    """

    def __init__(
        self, worker: UcxWorker, address: str = "127.0.0.1:0", *, interval: float = 0.1
    ) -> None:
        if not 0.02 <= interval <= 60:
            raise ArgumentError(f"interval={interval!r}: it takes 0.02 to 60 seconds")
        self._worker = worker
        self._watchers: dict[int, _Watcher] = {}
        config = worker.config.replace(name=f"{worker.name}-publisher", tag_scope="endpoint")
        self._own = UcxWorker(config)
        try:
            self.address = self._own.create_listener(address).address
        except BaseException:
            self._own.close()
            raise
        self._interval = interval
        self._due = 0.0
        self._ticker = Ticker("ucxnb-publisher", min(interval, _WELCOME_SECONDS), self._tick)

    @property
    def watchers(self) -> int:
        """How many watch at present."""
        return len(self._own.get_endpoint_ids())

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._own.closed

    def close(self) -> None:
        """Send a last snapshot, and let the watchers go. Twice is fine."""
        self._ticker.stop()
        if not self._own.closed:
            self._publish(self._own.get_endpoint_ids())
        self._own.close()

    def _tick(self) -> bool:
        peers = self._own.get_endpoint_ids()
        for gone in self._watchers.keys() - set(peers):
            del self._watchers[gone]
        now = time.monotonic()
        if now < self._due and not self._worker.closed:
            self._publish([peer for peer in peers if peer not in self._watchers])
        else:
            self._due = now + self._interval
            self._publish(peers)
        return not self._worker.closed

    def _publish(self, peers: list[int]) -> None:
        if not peers:
            return
        snapshot = self._worker.snapshot()
        for peer in peers:
            watcher = self._watchers.setdefault(peer, _Watcher())
            if watcher.sending is not None and not watcher.sending.done:
                continue  # it has not taken the one before
            events = _newer(snapshot.events, watcher.seen)
            packed = watcher.packer.pack(replace(snapshot, events=events))
            watcher.seen = events[-1].number if events else watcher.seen
            try:
                if len(packed) <= LARGEST_SAMPLE:
                    watcher.sending = self._own.isend_tag(peer, SAMPLE_TAG, packed)
            except UcxnbError:
                continue  # it has just left

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Publisher of {self._worker.name!r} at {self.address}>"


def _newer(events: tuple[Event, ...], number: int) -> tuple[Event, ...]:
    return tuple(event for event in events if event.number > number)
