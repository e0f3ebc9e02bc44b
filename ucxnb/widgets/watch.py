"""One thread that looks at a worker a few times a second, for all panels of a control room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..endpoint_info import EndpointState
from ..ticker import Ticker

if TYPE_CHECKING:
    from ..endpoint_info import EndpointInfo
    from ..frontdoor import Listener
    from ..reconnect import KeptConnection
    from ..refusals import Refusals
    from ..worker import UcxWorker

__all__ = ["Sight", "Watch"]

_INTERVAL = 0.2
_OPEN = (EndpointState.OPEN, EndpointState.UNRESPONSIVE)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a worker at one moment.

    Attributes
    ----------
    endpoints : tuple of EndpointInfo
        The open ones.
    ended : tuple of EndpointInfo
        The latest of the others.
    listeners : tuple of Listener
        Those that are open.
    refusals : Refusals
        Who came to a listener and was not let in.
    kept : tuple of KeptConnection
        Those that have not ended.
    """

    endpoints: tuple[EndpointInfo, ...]
    ended: tuple[EndpointInfo, ...]
    listeners: tuple[Listener, ...]
    refusals: Refusals
    kept: tuple[KeptConnection, ...]


class _Watcher(Protocol):
    def refresh(self, sight: Sight) -> None: ...

    def end(self, reason: str) -> None: ...


class Watch:
    """Show `watchers` a new `Sight` five times a second, and tell them when the worker is closed.

    Parameters
    ----------
    worker : UcxWorker
        The worker to look at.
    watchers : tuple
        Objects with ``refresh(sight)`` and ``end(reason)``, called on the thread of the watch.
    """

    def __init__(self, worker: UcxWorker, watchers: tuple[_Watcher, ...]) -> None:
        self._worker = worker
        self._watchers = watchers
        self._tick()  # so that the panels know the endpoints as soon as they are made
        self._ticker = Ticker("ucxnb-panels", _INTERVAL, self._tick)

    @property
    def error(self) -> Exception | None:
        """The latest error of a watcher, None if there was none."""
        return self._ticker.error

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ticker.stop()

    def _tick(self) -> bool:
        if self._worker.closed:
            for watcher in self._watchers:
                watcher.end("The worker is closed.")
            return False
        infos = self._worker.endpoints(ended=True)
        sight = Sight(
            tuple(i for i in infos if i.state in _OPEN),
            tuple(i for i in infos if i.state not in _OPEN),
            tuple(listener for listener in self._worker.listeners if not listener.closed),
            self._worker.refusals(),
            self._worker.kept_connections,
        )
        errors = []
        for watcher in self._watchers:
            try:
                watcher.refresh(sight)
            except Exception as error:  # one broken panel does not stop the others
                errors.append(error)
        if errors:
            raise errors[0]
        return True
