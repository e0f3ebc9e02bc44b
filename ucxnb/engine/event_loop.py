"""How an asyncio event loop learns that requests have ended: through a descriptor, and no task."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._engine import EngineCore

__all__ = ["LoopWatch", "resolve"]


class LoopWatch:
    """Has an event loop look after an engine's requests whenever one has ended.

    Parameters
    ----------
    engine : EngineCore
        Whose requests; held by a weak reference.
    loop : asyncio.AbstractEventLoop
        The running one.
    """

    def __init__(self, engine: EngineCore, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = weakref.ref(engine)
        self._loop = loop
        # A descriptor of its own, which the engine cannot close while the loop waits for it.
        self._fd = os.dup(engine._completion_fd)
        loop.add_reader(self._fd, self._on_ready)

    def _on_ready(self) -> None:
        with contextlib.suppress(BlockingIOError):  # another loop was faster
            os.eventfd_read(self._fd)
        engine = self._engine()
        if engine is not None:
            engine._reap()

    def close(self) -> None:
        """Stop watching. On another thread the loop does it, as soon as it runs."""
        if self._loop.is_closed() or _is_running_here(self._loop):
            self._close_now()
        else:
            try:
                self._loop.call_soon_threadsafe(self._close_now)
            except RuntimeError:  # closed just now
                self._close_now()

    def _close_now(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)


def resolve(future: asyncio.Future[None]) -> None:
    """Set a future's result, from any thread; it may be done, or its loop closed."""
    loop = future.get_loop()
    if _is_running_here(loop):
        _set(future)
    else:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_set, future)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
