"""Peers that have connected and wait to be accepted."""

from __future__ import annotations

import asyncio
import collections
import threading

from ..engine.event_loop import resolve

__all__ = ["AcceptQueue"]


class AcceptQueue:
    """Ids of accepted endpoints, in order; tasks of any event loop wait for them.

    Everything may be called on any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: collections.deque[int] = collections.deque()
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    def put(self, endpoint_id: int) -> None:
        """A peer has connected."""
        with self._lock:
            self._ids.append(endpoint_id)
        self._wake_one()

    def discard(self, endpoint_id: int) -> None:
        """A peer has left; if nobody accepted it, nobody needs to."""
        with self._lock:
            if endpoint_id in self._ids:
                self._ids.remove(endpoint_id)

    def take(self) -> int | None:
        """The one that has waited longest, or None."""
        with self._lock:
            return self._ids.popleft() if self._ids else None

    async def changed(self) -> None:
        """Wait until there may be one, or `wake_all`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._ids:
                return
            self._waiting.append(future)
        try:
            await future
        except BaseException:
            with self._lock:
                waits = future in self._waiting
                if waits:
                    self._waiting.remove(future)
            if not waits:
                self._wake_one()  # it was this task's turn; now it is another's
            raise

    def wake_all(self) -> None:
        """Something else happened that those who wait must know."""
        with self._lock:
            waiting, self._waiting = self._waiting, collections.deque()
        for future in waiting:
            resolve(future)

    def _wake_one(self) -> None:
        with self._lock:
            future = self._waiting.popleft() if self._ids and self._waiting else None
        if future is not None:
            resolve(future)
