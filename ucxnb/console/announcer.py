"""Tells about connections that come and go."""

from __future__ import annotations

from collections.abc import Callable

from ..endpoint_info import CLOSED_BY_YOU, EndpointState
from ..ticker import Ticker
from ..worker import UcxWorker
from .session import describe_end, describe_peer

__all__ = ["Announcer"]

_INTERVAL = 0.2
_OPEN = (EndpointState.OPEN, EndpointState.UNRESPONSIVE)


class Announcer:
    """Call `tell` with a line about each peer that connects, and each that ends without us.

    Parameters
    ----------
    worker : UcxWorker
        Whose peers.
    tell : callable
        Called on a thread of the announcer's.
    """

    def __init__(self, worker: UcxWorker, tell: Callable[[str], None]) -> None:
        self._worker = worker
        self._tell = tell
        self._known: set[int] = set()
        self._ended: set[int] = set()
        self._ticker = Ticker("ucxnb-announcer", _INTERVAL, self._tick)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ticker.stop()

    def _tick(self) -> bool:
        infos = self._worker.endpoints(ended=True)
        for info in infos:
            new = info.endpoint_id not in self._known
            if new and info.direction == "accepted":
                self._tell(f"endpoint {info.endpoint_id}: accepted {describe_peer(info)}")
            if info.state not in _OPEN and info.endpoint_id not in self._ended:
                self._ended.add(info.endpoint_id)
                if info.reason != CLOSED_BY_YOU:
                    self._tell(describe_end(info))
        self._known = {info.endpoint_id for info in infos}
        self._ended &= self._known
        return not self._worker.closed
